package db_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// refused are what PostgreSQL takes and CockroachDB does not: it does not parse
// it, parses and then refuses it, or quietly means something else. (Its grammar
// v25.2 and its documentation v26.3.) Each stands with an example.
var refused = []struct {
	pattern *regexp.Regexp
	example string // several are parted by " | "
	why     string
}{
	{sqlPattern(`DEFERRABLE|INITIALLY\s+DEFERRED|SET\s+CONSTRAINTS`), "CHECK (a) DEFERRABLE | a INITIALLY DEFERRED | SET CONSTRAINTS ALL IMMEDIATE", "no constraint is deferred"},
	{sqlPattern(`EXCLUDE`), "EXCLUDE USING gist (a WITH =) | EXCLUDE (a WITH =)", "no exclusion constraints"},
	{sqlPattern(`CREATE\s+(DOMAIN|RULE|PUBLICATION|AGGREGATE|CONSTRAINT\s+TRIGGER|UNLOGGED)`), "CREATE DOMAIN fen AS INT8 | CREATE UNLOGGED TABLE a | CREATE CONSTRAINT TRIGGER a", "not parsed, or ignored"},
	{sqlPattern(`CREATE\s+TYPE\s+\S+\s+AS\s+ENUM`), "CREATE TYPE a AS ENUM ('b')", "TEXT with a CHECK is changed in one step on both"},
	{sqlPattern(`^\s*(LISTEN|NOTIFY|UNLISTEN|VACUUM|CLUSTER|REINDEX|MERGE|LOCK\s+TABLE)`), "LOCK TABLE a | LISTEN a | VACUUM a | MERGE INTO a", "not parsed"},
	{sqlPattern(`PARTITION\s+OF|INHERITS`), "CREATE TABLE a PARTITION OF b | CREATE TABLE a () INHERITS (b)", "no such partitions, no inheritance"},
	{sqlPattern(`GROUPING\s+SETS|ROLLUP|CUBE|TABLESAMPLE`), "GROUP BY GROUPING SETS ((a)) | GROUP BY ROLLUP (a) | FROM a TABLESAMPLE system (1)", "not parsed"},
	{sqlPattern(`USING\s+BRIN|NULLS\s+NOT\s+DISTINCT|UNIQUE\s+USING\s+INDEX`), "CREATE INDEX ON a USING brin (b) | UNIQUE NULLS NOT DISTINCT (a)", "not parsed"},
	{sqlPattern(`USING\s+HASH`), "CREATE INDEX ON a (b) USING HASH", "another thing on each; belongs into schema/cockroach"},
	{sqlPattern(`RESTART\s+IDENTITY|(NO)?SUPERUSER`), "TRUNCATE a RESTART IDENTITY | ALTER ROLE a NOSUPERUSER", "not parsed"},
	{sqlPattern(`EXPLAIN\s*\([^)]*BUFFERS`), "EXPLAIN (ANALYZE, BUFFERS) SELECT 1", "not parsed"},
	{sqlPattern(`pg_(try_)?advisory\w*`), "SELECT pg_advisory_lock(1) | SELECT pg_try_advisory_xact_lock(1)", "locks nothing there"},
	{sqlPattern(`(PREPARE|COMMIT|ROLLBACK)\s+(TRANSACTION|PREPARED)`), "PREPARE TRANSACTION 'a' | COMMIT PREPARED 'a'", "no two-phase commit"},
	{sqlPattern(`(int[48]|num|ts|tstz|date)(multi)?range`), "a int4range", "no ranges"},
	{sqlPattern(`FOR\s+EACH\s+STATEMENT|REFERENCING\s+(OLD|NEW)|INSTEAD\s+OF|(BEFORE|AFTER|OR)\s+UPDATE\s+OF`), "AFTER INSERT ON b FOR EACH STATEMENT | REFERENCING NEW TABLE AS n | BEFORE UPDATE OF a ON b", "row triggers only"},
	{sqlPattern(`(SMALL|BIG)?SERIAL[248]?|CREATE\s+SEQUENCE|nextval|AS\s+IDENTITY`), "a BIGSERIAL | a SERIAL4 | SELECT nextval('a') | a INT8 GENERATED ALWAYS AS IDENTITY", "no sequence: slow, hot and with gaps"},
	{sqlPattern(`INT|INTEGER`), "a INTEGER NOT NULL | $1::int", "64 bit there, 32 here; write INT2, INT4 or INT8"},
	{sqlPattern(`MONEY|XML`), "a XML | a money", "no such types"},
	{sqlPattern(`jsonb\s*\[\]`), "$1::jsonb[]", "no arrays of jsonb as arguments; send text[] and cast"},
	{sqlPattern(`AS\s+OF\s+SYSTEM\s+TIME\s+\$\d+`), "AS OF SYSTEM TIME $1", "takes no argument"},
	{sqlPattern(`ON\s+CONFLICT[^;]*ON\s+CONFLICT`), "ON CONFLICT (a) DO NOTHING ON CONFLICT (b) DO NOTHING", "one arbiter only"},
	{sqlPattern(`PERFORM|FOREACH|GET\s+DIAGNOSTICS|\w+%(ROW)?TYPE|EXECUTE\s+(format|'[^']*')`), "PERFORM a() | EXECUTE 'a' | a b%TYPE | EXECUTE format('a')", "not in its PL/pgSQL"},
	{sqlPattern(`ctid|xmin|xmax`), "SELECT ctid FROM a", "no such columns"},
}

func sqlPattern(words string) *regexp.Regexp {
	if strings.HasPrefix(words, "^") {
		return regexp.MustCompile(`(?im)` + words + `\b`)
	}
	return regexp.MustCompile(`(?i)(^|\W)(` + words + `)($|\W)`)
}

// statement finds the strings of a Go file that are SQL: a word in capitals with
// what must follow it.
var statement = regexp.MustCompile(`(?s)^\s*(--[^\n]*\n\s*)*(SELECT\s|INSERT INTO\s|UPDATE\s+\w+\s+SET\s|UPDATE\s+\w+\s+AS\s|DELETE FROM\s|WITH\s+\w+.*\sAS\s|` +
	`CREATE\s|ALTER\s|DROP\s|GRANT\s|REVOKE\s|TRUNCATE\s|SET\s|LOCK\s|BEGIN\b|DECLARE\s|EXPLAIN\s|UPSERT\s|LISTEN\s|NOTIFY\s|MERGE\s|VACUUM\b|PREPARE\s)`)

var comments = regexp.MustCompile(`--[^\n]*`)

// complaints says what in a piece of SQL is not for both databases.
func complaints(sql string) []string {
	var found []string
	sql = comments.ReplaceAllString(sql, "")
	for _, r := range refused {
		if m := r.pattern.FindString(sql); m != "" {
			found = append(found, fmt.Sprintf("%q: %s", strings.TrimSpace(m), r.why))
		}
	}
	return found
}

// statements are the strings of a Go file that are SQL, by position. Pieces that
// are added together are one.
func statements(name string, text []byte) (map[string]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, 0)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		sql, whole := literal(e)
		if whole && statement.MatchString(sql) {
			found[fset.Position(n.Pos()).String()] = sql
		}
		return !whole
	})
	return found, nil
}

// literal joins a string and what is added to it; a part that is no literal
// becomes a blank. whole says that the expression begins with text.
func literal(e ast.Expr) (text string, whole bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		if x.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(x.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := literal(x.X)
		if !ok || x.Op != token.ADD {
			return "", false
		}
		right, _ := literal(x.Y)
		return left + " " + right, true
	}
	return "", false
}

func TestEveryStatementIsForBothDatabases(t *testing.T) {
	root, count := os.DirFS("../.."), 0
	look := func(at, sql string) {
		count++
		t.Logf("%s: %s", at, strings.Join(strings.Fields(comments.ReplaceAllString(sql, "")), " "))
		for _, complaint := range complaints(sql) {
			t.Errorf("%s: %s", at, complaint)
		}
	}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && name != "." && (strings.HasPrefix(name, ".") || name == "build") {
				return fs.SkipDir
			}
			return err
		}
		migration := strings.HasSuffix(name, ".sql") && !strings.Contains(name, "schema/cockroach/")
		program := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if !migration && !program {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if migration {
			look(name, string(text))
			return nil
		}
		found, err := statements(name, text)
		for at, sql := range found {
			look(at, sql)
		}
		return err
	})
	if err != nil || count < 20 {
		t.Fatalf("%d statements were looked at: %v", count, err)
	}
	t.Logf("%d statements and migrations", count)
}

func TestWhatIsForOneDatabaseIsRefused(t *testing.T) {
	for _, r := range refused {
		for example := range strings.SplitSeq(r.example, " | ") {
			if len(complaints(example)) == 0 {
				t.Errorf("%s: not refused", example)
			}
			if found := complaints("-- " + example); len(found) != 0 {
				t.Errorf("a comment is refused: %v", found)
			}
		}
	}
	fine := `SELECT excluded.point, format, integers, serialized FROM money_order WHERE id = ANY($1::INT8[]) AND texts = $2::text[] FOR UPDATE OF money_order`
	if found := complaints(fine); len(found) != 0 {
		t.Errorf("refused: %v", found)
	}
	found, err := statements("a.go", []byte("package a\nvar q, w = `SELECT 1` + x + ` FROM a USING HASH`, \"no SQL\"\nfunc f() { g(\"LOCK TABLE a\") }"))
	if err != nil || len(found) != 2 || len(complaints(found["a.go:2:12"])) != 1 || len(complaints(found["a.go:3:14"])) != 1 {
		t.Errorf("statements = %q, %v", found, err)
	}
}
