package db_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/clearward/clearward/ledger/db/dbtest"
)

// unportable shows for each rule of dbtest what it must catch; more than one
// line where a rule has more than one side.
var unportable = map[string][]string{
	"DEFERRABLE": {`ALTER TABLE a ADD CONSTRAINT c FOREIGN KEY (b) REFERENCES b (id) DEFERRABLE`,
		`CREATE TABLE a (b INT8 REFERENCES b (id) INITIALLY DEFERRED)`, `BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE`},
	"SET CONSTRAINTS": {`SET CONSTRAINTS ALL IMMEDIATE`},
	"EXCLUDE":         {`CREATE TABLE a (b INT8, EXCLUDE USING gist (b WITH =))`, `CREATE TABLE a (EXCLUDE (b WITH =))`},
	"CREATE DOMAIN":   {`CREATE DOMAIN fen AS INT8 CHECK (VALUE > 0)`},
	"LISTEN":          {`LISTEN entries`, `NOTIFY entries`, `SELECT pg_notify('entries', $1)`, `SELECT 1; UNLISTEN entries`},
	"LOCK TABLE":      {`LOCK TABLE accounts IN EXCLUSIVE MODE`, `LOCK accounts`},
	"MERGE":           {`MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DO NOTHING`},
	"CREATE RULE":     {`CREATE OR REPLACE RULE r AS ON DELETE TO a DO INSTEAD NOTHING`},
	"CONSTRAINT TRIGGER": {`CREATE CONSTRAINT TRIGGER t AFTER INSERT ON a
		FOR EACH ROW EXECUTE FUNCTION f()`},
	"PARTITION BY":      {`CREATE TABLE a (day INT4) PARTITION BY RANGE (day)`, `CREATE TABLE b PARTITION OF a FOR VALUES IN (1)`},
	"INHERITS":          {`CREATE TABLE b () INHERITS (a)`},
	"GROUPING SETS":     {`SELECT day, sum(fen) FROM a GROUP BY ROLLUP (day)`, `SELECT a FROM b GROUP BY GROUPING SETS ((a), ())`},
	"TABLESAMPLE":       {`SELECT id FROM a TABLESAMPLE BERNOULLI (1)`},
	"BRIN":              {`CREATE INDEX i ON a USING BRIN (day)`, `CREATE INDEX i ON a USING HASH (day)`},
	"MONEY":             {`CREATE TABLE a (fee MONEY NOT NULL)`, `SELECT $1::money`},
	"XML":               {`CREATE TABLE a (doc xml)`},
	"NULLS NOT":         {`CREATE UNIQUE INDEX i ON a (b) NULLS NOT DISTINCT`},
	"UNIQUE USING":      {`ALTER TABLE a ADD CONSTRAINT c UNIQUE USING INDEX i`},
	"VACUUM":            {`VACUUM a`, `REINDEX TABLE a`, `CLUSTER a USING i`},
	"EXPLAIN":           {`EXPLAIN (ANALYZE, BUFFERS) SELECT 1`},
	"RESTART IDENTITY":  {`TRUNCATE a RESTART IDENTITY`},
	"NOSUPERUSER":       {`CREATE ROLE r NOSUPERUSER`},
	"PUBLICATION":       {`CREATE PUBLICATION p FOR TABLE a`, `CREATE AGGREGATE g (INT8) (sfunc = f, stype = INT8)`},
	"foreign data":      {`CREATE FOREIGN TABLE a (id INT8) SERVER s`, `CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION f()`},
	"advisory":          {`SELECT pg_advisory_xact_lock(1)`, `SELECT pg_try_advisory_lock($1)`},
	"two-phase":         {`PREPARE TRANSACTION 'a'`, `COMMIT PREPARED 'a'`},
	"range types":       {`CREATE TABLE a (days int4range)`, `SELECT tstzrange($1, $2)`},
	"UNLOGGED":          {`CREATE UNLOGGED TABLE a (id INT8)`},
	"statement trigger": {`CREATE TRIGGER t AFTER INSERT ON a FOR EACH STATEMENT EXECUTE FUNCTION f()`},
	"not FOR EACH ROW":  {`CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f()`},
	"REFERENCING":       {`CREATE TRIGGER t AFTER INSERT ON a REFERENCING NEW TABLE AS n FOR EACH ROW EXECUTE FUNCTION f()`},
	"INSTEAD OF":        {`CREATE TRIGGER t INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION f()`},
	"TRUNCATE trigger":  {`CREATE TRIGGER t BEFORE TRUNCATE ON a EXECUTE FUNCTION f()`, `CREATE TRIGGER t BEFORE UPDATE OF b ON a FOR EACH ROW EXECUTE FUNCTION f()`},
	"loops over rows": {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN FOR r IN SELECT id FROM a LOOP NULL; END LOOP; END $$ LANGUAGE plpgsql`,
		`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN FOREACH r IN ARRAY b LOOP NULL; END LOOP; END $$ LANGUAGE plpgsql`},
	"PERFORM":            {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN PERFORM g(); END $$ LANGUAGE plpgsql`},
	"EXECUTE":            {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN EXECUTE 'DROP TABLE a'; END $$ LANGUAGE plpgsql`},
	"FOUND":              {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN IF NOT FOUND THEN NULL; END IF; END $$ LANGUAGE plpgsql`},
	"%TYPE":              {`CREATE FUNCTION f() RETURNS INT8 AS $$ DECLARE x a.id%TYPE; BEGIN RETURN x; END $$ LANGUAGE plpgsql`},
	"jsonb[]":            {`INSERT INTO a (b) SELECT x FROM unnest($1::jsonb[]) AS t (x)`},
	"AS OF SYSTEM TIME":  {`SELECT id FROM a AS OF SYSTEM TIME $1`},
	"column privileges":  {`GRANT UPDATE (state) ON a TO clearward_app`},
	"system columns":     {`SELECT ctid FROM a`},
	"CONCURRENTLY":       {`CREATE INDEX CONCURRENTLY i ON a (b)`},
	"a sequence":         {`CREATE TABLE a (id BIGSERIAL)`, `CREATE SEQUENCE s`, `SELECT nextval('s')`, `CREATE TABLE a (id INT8 GENERATED ALWAYS AS IDENTITY)`},
	"ENUM":               {`CREATE TYPE state AS ENUM ('a', 'b')`},
	"INT without":        {`CREATE TABLE a (id INT NOT NULL)`, `SELECT $1::integer`, `CREATE TABLE a (id INTEGER)`},
	"a division":         {`SELECT fen / 100 FROM a`, `SELECT sum(fen)/count(id) FROM a`, `SELECT $1 / 2`},
	"every column":       {`SELECT * FROM a`, `SELECT a.* FROM a`, `INSERT INTO a (b) VALUES (1) RETURNING *`},
	"USING HASH":         {`CREATE TABLE a (id INT8 PRIMARY KEY USING HASH)`, `CREATE TABLE a (id INT8) LOCALITY GLOBAL`},
	"several ON":         {`INSERT INTO a (b) VALUES (1) ON CONFLICT (b) DO NOTHING ON CONFLICT (c) DO NOTHING`},
	"changed twice":      {`WITH x AS (UPDATE a SET b = 1 RETURNING id) INSERT INTO a (id) SELECT id FROM x`},
	"GET DIAGNOSTICS":    {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN GET DIAGNOSTICS n = ROW_COUNT; END $$ LANGUAGE plpgsql`},
	"NO INHERIT":         {`ALTER TABLE a ADD CHECK (b > 0) NO INHERIT`},
	"ROLLBACK PREPARED":  {`ROLLBACK PREPARED 'a'`},
	"CREATE CHANGEFEED":  {`CREATE CHANGEFEED FOR TABLE a INTO 'kafka://x'`},
	"multirange":         {`SELECT int4multirange(a) FROM b`},
	"STACKED DIAGNOSTIC": {`CREATE FUNCTION f() RETURNS INT8 AS $$ BEGIN GET STACKED DIAGNOSTICS n = ROW_COUNT; END $$ LANGUAGE plpgsql`},
}

func TestEveryUnportableConstructIsCaught(t *testing.T) {
	for name, examples := range unportable {
		for _, sql := range examples {
			if len(dbtest.Unportable(sql)) == 0 {
				t.Errorf("%s: not caught in %s", name, sql)
			}
			if found := dbtest.Unportable("SELECT id -- " + strings.ReplaceAll(sql, "\n", " ")); len(found) > 0 {
				t.Errorf("%s: caught in a comment: %q", name, found)
			}
		}
	}
}

func TestPortableSQLIsNotRefused(t *testing.T) {
	for _, sql := range []string{
		`SELECT id, row_number() OVER (PARTITION BY day ORDER BY id) FROM a`,
		`SELECT id FROM a ORDER BY id FOR UPDATE OF a SKIP LOCKED`,
		`INSERT INTO a (id, doc) SELECT x, y::jsonb FROM unnest($1::int8[], $2::text[]) AS t (x, y) ON CONFLICT (id) DO UPDATE SET doc = EXCLUDED.doc`,
		`WITH x AS (UPDATE a SET b = 1 RETURNING id), y AS (SELECT id FROM c FOR UPDATE) INSERT INTO d (id) SELECT id FROM x ON CONFLICT (id) DO UPDATE SET id = d.id`,
		`ON CONFLICT (file, row_no) DO NOTHING RETURNING file`,
		`CREATE TRIGGER t BEFORE UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION f()`,
		`CREATE OR REPLACE FUNCTION f() RETURNS TRIGGER AS $$ BEGIN RAISE EXCEPTION 'entries are never changed; PERFORM a reversal'; END; $$ LANGUAGE plpgsql`,
		`CREATE UNIQUE INDEX i ON a (b, c) INCLUDE (d) WHERE e IS NOT NULL`,
		`SELECT count(*), sum(fen)::INT8 FROM a WHERE day = ANY($1::int4[])`,
		`INSERT INTO a (kind) VALUES ('LISTEN; NOTIFY 1/2 SERIAL')`,
		`GRANT SELECT, INSERT, UPDATE ON a TO clearward_app`,
		`UPDATE a SET b = $2 FROM unnest($1::int8[]) AS t (id) WHERE a.id = t.id`,
		`SELECT 'a' AS money, fen AS int8 FROM a WHERE (a, b) > ($1, $2) -- 1/2`,
	} {
		if found := dbtest.Unportable(sql); len(found) > 0 {
			t.Errorf("refused for %q: %s", found, sql)
		}
	}
}

func TestTheOverlayMayHoldWhatCockroachAloneHas(t *testing.T) {
	const sql = `CREATE TABLE a (id INT8 PRIMARY KEY USING HASH)`
	if found := dbtest.UnportableOverlay(sql); len(found) > 0 {
		t.Errorf("refused for %q", found)
	}
	if len(dbtest.UnportableOverlay(`LISTEN a`)) == 0 {
		t.Error("LISTEN was not caught")
	}
}

// piece is a piece of SQL in the program.
type piece struct{ where, sql string }

// TestAllSQLOfTheProgramRunsOnBothDatabases reads every Go file and migration of
// the module, and lists what it found (go test -v).
func TestAllSQLOfTheProgramRunsOnBothDatabases(t *testing.T) {
	pieces := collect(t, filepath.Join("..", ".."))
	count := map[string]int{}
	for _, s := range pieces {
		dbtest.CheckPortable(t, s.sql, s.where)
		if testing.Verbose() {
			t.Logf("%s: %s", s.where, strings.Join(strings.Fields(s.sql), " "))
		}
		count[filepath.Ext(strings.SplitN(s.where, ":", 2)[0])]++
	}
	if count[".go"] < 20 || count[".sql"] < 1 {
		t.Errorf("only %v pieces of SQL were found: the collector has gone blind", count)
	}
}

// namesWhatIsRefused are the files that hold refused SQL as examples.
var namesWhatIsRefused = []string{"ledger/db/portable_test.go", "ledger/db/dbtest/portable.go", "tidy_test.go"}

func collect(t *testing.T, module string) (found []piece) {
	t.Helper()
	err := filepath.WalkDir(module, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, module+string(filepath.Separator)))
		switch {
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." || entry.Name() == "testdata"):
			return filepath.SkipDir
		case slices.Contains(namesWhatIsRefused, name):
			return nil
		case filepath.Ext(name) == ".sql":
			text, err := os.ReadFile(path)
			found = append(found, piece{name, string(text)})
			return err
		case filepath.Ext(name) == ".go":
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found = append(found, sqlIn(t, name, text)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sqlIn returns the string literals of a Go file that look like SQL. Literals
// that are joined by + are one; a value between them stands as an identifier.
func sqlIn(t *testing.T, name string, text []byte) (found []piece) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if _, isImport := node.(*ast.ImportSpec); isImport {
			return false
		}
		expr, ok := node.(ast.Expr)
		if !ok {
			return true
		}
		text, isString := joinedText(expr)
		if !isString {
			return true
		}
		if looksLikeSQL(text) {
			found = append(found, piece{set.Position(node.Pos()).String(), text})
		}
		_, joined := expr.(*ast.BinaryExpr)
		return joined // what stands between may hold SQL of its own
	})
	return found
}

// joinedText is the value of a string literal or of literals joined by +.
func joinedText(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, isLeft := joinedText(e.X)
		right, isRight := joinedText(e.Y)
		if e.Op != token.ADD || !isLeft && !isRight {
			return "", false
		}
		if !isLeft {
			left = "value"
		}
		if !isRight {
			right = "value"
		}
		return left + right, true
	}
	return "", false
}

var (
	opensStatement = regexp.MustCompile(`(?s)^\s*(--[^\n]*\n\s*)*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE|` +
		`SET|RESET|BEGIN|COMMIT|LOCK|LISTEN|UNLISTEN|NOTIFY|MERGE|COPY|EXPLAIN|VALUES|UPSERT|VACUUM|PREPARE|CLUSTER|REINDEX)\b`)
	lowerStatement = regexp.MustCompile(`(?s)^\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|create\s+(table|index)\s|lock\s+table\s)`)
	clauseWords    = regexp.MustCompile(`\b(SELECT|FROM|WHERE|INSERT|INTO|VALUES|UPDATE|SET|JOIN|ORDER BY|GROUP BY|ON CONFLICT|RETURNING|LIMIT|UNION|FOR UPDATE)\b`)
)

// looksLikeSQL takes what opens like a statement, and fragments with at least
// two different clauses.
func looksLikeSQL(text string) bool {
	if opensStatement.MatchString(text) || lowerStatement.MatchString(text) {
		return true
	}
	words := clauseWords.FindAllString(text, -1)
	slices.Sort(words)
	return len(slices.Compact(words)) >= 2
}

func TestTheCollectorSeesSQLWhereverItStands(t *testing.T) {
	const code = "package p\n" +
		"const a = `SELECT id FROM a`\n" +
		"var b = f(x, `\n-- why\nLOCK TABLE ` + name + ` IN SHARE MODE`)\n" +
		"var c = map[string]string{\"x\": \" WHERE id = $1 FOR UPDATE\"}\n" +
		"var d = `select id from a`\n" +
		"var e = \"selected files are read from the folder\"\n" +
		"var g = g1(`DELETE FROM a` + where(`SELECT id FROM b`))\n"
	var got []string
	for _, s := range sqlIn(t, "p.go", []byte(code)) {
		got = append(got, strings.Join(strings.Fields(s.sql), " "))
	}
	want := []string{"SELECT id FROM a", "-- why LOCK TABLE value IN SHARE MODE",
		"-- why LOCK TABLE value", "-- why LOCK TABLE", "WHERE id = $1 FOR UPDATE", "select id from a",
		"DELETE FROM avalue", "DELETE FROM a", "SELECT id FROM b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(dbtest.Unportable("\n-- why\nLOCK TABLE value IN SHARE MODE")) == 0 {
		t.Error("a statement after a comment is not caught")
	}
}
