package dbtest

import (
	"regexp"
	"strings"
	"testing"
)

// CheckPortable fails the test when the SQL holds a construct that only one of
// the two databases takes, or that they take differently. where names its place;
// files under schema/cockroach may hold what CockroachDB alone has.
func CheckPortable(t testing.TB, sql, where string) {
	t.Helper()
	check := Unportable
	if strings.Contains(where, "/schema/cockroach/") {
		check = UnportableOverlay
	}
	for _, why := range check(sql) {
		t.Errorf("%s: %s, in\n%s", where, why, sql)
	}
}

// rule is a construct that may not stand in the program's SQL. The grammar that
// was asked is CockroachDB's v25.2, the documentation v26.3.
type rule struct {
	name    string
	pattern *regexp.Regexp
}

func not(name, pattern string) rule {
	return rule{name, regexp.MustCompile(`(?is)` + pattern)}
}

var rules = []rule{
	// What CockroachDB does not parse.
	not("DEFERRABLE (constraints and transactions cannot be deferred)", `\bDEFERRABLE\b|\bINITIALLY\s+(DEFERRED|IMMEDIATE)\b`),
	not("SET CONSTRAINTS", `\bSET\s+CONSTRAINTS\b`),
	not("EXCLUDE constraints", `\bEXCLUDE\s*(USING\b|\()`),
	not("CREATE DOMAIN", `\b(CREATE|ALTER)\s+DOMAIN\b`),
	not("LISTEN and NOTIFY", `(^|;)\s*(UN)?LISTEN\b|(^|;)\s*NOTIFY\b|\bpg_notify\b`),
	not("LOCK TABLE", `(^|;)\s*LOCK\s+\w`),
	not("MERGE", `\bMERGE\s+INTO\b`),
	not("CREATE RULE", `\bCREATE\s+(OR\s+REPLACE\s+)?RULE\b`),
	not("CONSTRAINT TRIGGER", `\bCONSTRAINT\s+TRIGGER\b`),
	not("PARTITION BY of a table (partitions are not portable)", `\bPARTITION\s+BY\s+(RANGE|LIST|HASH)\b|\bPARTITION\s+OF\b`),
	not("INHERITS", `\bINHERITS?\s*\(|\bNO\s+INHERIT\b`),
	not("GROUPING SETS, ROLLUP, CUBE", `\bGROUPING\s+SETS\b|\b(ROLLUP|CUBE)\s*\(`),
	not("TABLESAMPLE", `\bTABLESAMPLE\b`),
	not("BRIN, HASH, SP-GiST indexes", `\bUSING\s+(BRIN|SPGIST)\b|\bUSING\s+HASH\s*\(`),
	not("MONEY", `[(,]\s*\w+\s+MONEY\s*(,|\)|NOT\b|NULL\b|DEFAULT\b|CHECK\b)|::\s*money\b`),
	not("XML", `[(,]\s*\w+\s+XML\s*(,|\)|NOT\b|NULL\b|DEFAULT\b)|::\s*xml\b`),
	not("NULLS NOT DISTINCT", `\bNULLS\s+NOT\s+DISTINCT\b`),
	not("UNIQUE USING INDEX", `\b(UNIQUE|PRIMARY\s+KEY)\s+USING\s+INDEX\b`),
	not("VACUUM, CLUSTER, REINDEX", `(^|;)\s*(VACUUM|CLUSTER|REINDEX)\b`),
	not("EXPLAIN (ANALYZE, BUFFERS)", `\bEXPLAIN\s*\([^)]*\bBUFFERS\b`),
	not("RESTART IDENTITY", `\bRESTART\s+IDENTITY\b`),
	not("NOSUPERUSER", `\b(NO)?SUPERUSER\b`),
	not("CREATE PUBLICATION, SUBSCRIPTION, AGGREGATE", `\bCREATE\s+(PUBLICATION|SUBSCRIPTION|AGGREGATE)\b`),
	not("foreign data wrappers and event triggers", `\bFOREIGN\s+(TABLE|DATA\s+WRAPPER)\b|\bEVENT\s+TRIGGER\b`),

	// What it parses and refuses, or takes and does not do.
	not("advisory locks (they lock nothing there)", `\bpg_(try_)?advisory_`),
	not("two-phase commit", `\b(PREPARE\s+TRANSACTION|(COMMIT|ROLLBACK)\s+PREPARED)\b`),
	not("range types", `\b(int4|int8|num|ts|tstz|date)(multi)?range\b`),
	not("UNLOGGED", `\bUNLOGGED\b`),
	not("statement triggers", `\bFOR\s+(EACH\s+)?STATEMENT\b`),
	not("REFERENCING", `\bREFERENCING\s+(OLD|NEW)\b`),
	not("INSTEAD OF triggers", `\bINSTEAD\s+OF\b`),
	not("TRUNCATE triggers and UPDATE OF columns", `\b(BEFORE|AFTER|OR)\s+(TRUNCATE\b|UPDATE\s+OF\b)`),
	not("loops over rows and arrays in PL/pgSQL", `\bFOREACH\b|\bFOR\s+\w+(\s*,\s*\w+)*\s+IN\b.*\bLOOP\b`),
	not("PERFORM", `\bPERFORM\b`),
	not("EXECUTE in PL/pgSQL", `(^|;|\b(BEGIN|THEN|ELSE|LOOP))\s*EXECUTE\b`),
	not("FOUND and GET DIAGNOSTICS", `\b(IF|NOT|WHILE)\s+FOUND\b|\bGET\s+(STACKED\s+)?DIAGNOSTICS\b`),
	not("%TYPE and %ROWTYPE", `%(ROW)?TYPE\b`),
	not("jsonb[] (send text[] and cast)", `\bjsonb?\s*\[\s*\]`),
	not("a parameter in AS OF SYSTEM TIME", `\bAS\s+OF\s+SYSTEM\s+TIME\s+[^,;)]*\$\d`),
	not("column privileges", `\b(GRANT|REVOKE)\s+(SELECT|INSERT|UPDATE|REFERENCES)\s*\(`),
	not("system columns", `\b(ctid|xmin|xmax)\b`),
	not("CREATE INDEX CONCURRENTLY", `\bINDEX\s+CONCURRENTLY\b`),

	// What the two databases take differently.
	not("a sequence: SERIAL, IDENTITY, nextval", `\b(SMALL|BIG)?SERIAL[248]?\b|\bAS\s+IDENTITY\b|\b(CREATE|ALTER)\s+SEQUENCE\b|\bnextval\s*\(`),
	not("ENUM types (TEXT and a CHECK instead)", `\bAS\s+ENUM\b`),
	not("INT without its width", `\b(INT|INTEGER)\b(\s*\[\s*\])?\s*(,|\)|NOT\b|NULL\b|DEFAULT\b|CHECK\b|PRIMARY\b)|::\s*(int|integer)\b`),
	not("a division (of integers it is DECIMAL there)", `([a-z_\])]\w*|\$\d+)\s*/\s*[\w($]`),
	not("every column (SELECT *)", `\b(SELECT|RETURNING)\s+(\w+\.)?\*`),
}

// overlayOnly are the constructs that a file under schema/cockroach is for.
var overlayOnly = not("USING HASH, TTL, LOCALITY (they belong into schema/cockroach)",
	`\bUSING\s+HASH\b|\bttl_expir\w*|\bLOCALITY\s+(REGIONAL|GLOBAL)\b|\bCREATE\s+CHANGEFEED\b|\bEXPERIMENTAL_AUDIT\b|\bSPLIT\s+AT\b|\bCONFIGURE\s+ZONE\b`)

// Unportable returns the names of the constructs that the SQL may not hold.
func Unportable(sql string) []string {
	return append(UnportableOverlay(sql), unportableBy(bare(sql), overlayOnly)...)
}

// UnportableOverlay is Unportable for the files that CockroachDB alone runs.
func UnportableOverlay(sql string) []string {
	text := bare(sql)
	found := unportableBy(text, rules...)
	for _, statement := range statements(text) {
		found = append(found, unportableStatement(statement)...)
	}
	return found
}

func unportableBy(text string, rules ...rule) (found []string) {
	for _, r := range rules {
		if r.pattern.MatchString(text) {
			found = append(found, r.name)
		}
	}
	return found
}

var (
	onConflict    = regexp.MustCompile(`(?i)\bON\s+CONFLICT\b`)
	insertInto    = regexp.MustCompile(`(?i)\bINSERT\s+INTO\b`)
	createTrigger = regexp.MustCompile(`(?i)\bCREATE\s+(OR\s+REPLACE\s+)?TRIGGER\b`)
	forEachRow    = regexp.MustCompile(`(?i)\bFOR\s+(EACH\s+)?ROW\b`)
	changedTable  = regexp.MustCompile(`(?i)(\bFOR\s+|\bDO\s+|\bNO\s+KEY\s+)?\b(?:INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+([a-z_][a-z0-9_.]*)`)
	cteStatement  = regexp.MustCompile(`(?i)^\s*WITH\b`)
)

// unportableStatement finds what only a whole statement shows.
func unportableStatement(statement string) (found []string) {
	// A fragment may have its INSERT elsewhere, so one is always fine.
	if len(onConflict.FindAllString(statement, -1)) > max(1, len(insertInto.FindAllString(statement, -1))) {
		found = append(found, "several ON CONFLICT arbiters")
	}
	if createTrigger.MatchString(statement) && !forEachRow.MatchString(statement) {
		found = append(found, "a trigger that is not FOR EACH ROW")
	}
	if !cteStatement.MatchString(statement) {
		return found
	}
	changed := map[string]bool{}
	for _, match := range changedTable.FindAllStringSubmatch(statement, -1) {
		table := strings.ToLower(match[2])
		if match[1] == "" && changed[table] {
			found = append(found, "one table changed twice in a statement")
		}
		changed[table] = changed[table] || match[1] == ""
	}
	return found
}

var (
	comments = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/`)
	literals = regexp.MustCompile(`'(?:[^']|'')*'`)
	bodies   = regexp.MustCompile(`(?s)\$\$.*?\$\$`)
)

// bare is the SQL without comments and the content of string literals, which may
// say what they like. Bodies of functions stay.
func bare(sql string) string {
	return literals.ReplaceAllString(comments.ReplaceAllString(sql, " "), "''")
}

// statements cuts at the semicolons outside function bodies.
func statements(text string) []string {
	return strings.Split(bodies.ReplaceAllString(text, "$$$$"), ";")
}
