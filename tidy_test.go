package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// The rules of the house that no compiler holds: which package may import which,
// how long a function may be, what may stand nowhere. Each rule carries examples
// of what it forbids, so that none of them can pass by never looking.

const (
	module   = "github.com/clearward/clearward/"
	maxLines = 70 // of one function
)

// order is the import line: each room imports only what stands before it. A
// folder with a place of its own, such as ledger/db, stands before its parent.
var order = [][]string{
	{"deploy/local"}, {"ledger/db"}, {"ledger"}, {"channels"}, {"clearing"}, {"recon"}, {"api"}, {".", "features"},
}

// protoAt are the edges, the only places that know generated messages; features
// calls as a business app does.
var protoAt = []string{"api", "api/sdk", "api/lived", "recon/feed", "channels/sandbox", "features"}

// channelsSee is what an adapter may know of the ledger: money and days.
var channelsSee = []string{"Money", "ParseYuan", "ErrMoney", "Day", "ParseDay", "DayOf", "ErrDay", "Beijing"}

// rooms and papers are all that the root holds; leftovers is what .gitignore names.
var (
	rooms  = []string{"ledger", "clearing", "channels", "api", "recon", "features", "proto", "deploy"}
	papers = []string{"main.go", "tidy_test.go", "Makefile", "LICENSE", "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
		"go.mod", "go.sum", "tools.mod", "tools.sum", "lint.mod", "lint.sum", "buf.yaml", "buf.gen.yaml", "bench.json"}
	leftovers = regexp.MustCompile(`^(\..*|build|data|run\.json|.*\.(test|prof|out))$`)
)

// everyColumn finds a statement that takes whatever columns there are.
var everyColumn = regexp.MustCompile(`(?i)\b(SELECT|RETURNING)\s+(DISTINCT\s+|ALL\s+)?("?\w+"?\.)?\*`)

// putOff finds a comment that leaves work for later. It is spelt in two parts so
// that it does not find itself.
var putOff = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// A source is one Go file.
type source struct {
	name, dir string // dir is "." for the root
	fset      *token.FileSet
	*ast.File
}

// forTests are packages that only tests import.
var forTests = []string{"ledger/db/dbtest", "channels/filetest"}

// test tells what only tests run.
func (s source) test() bool {
	return strings.HasSuffix(s.name, "_test.go") || within(s.dir, forTests...)
}

func within(dir string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") })
}

type report = func(at ast.Node, format string, args ...any)

// goRules look at one hand-written Go file. wrong and right are file name and
// text: the rule must find something in each wrong one and nothing in a right one.
var goRules = []struct {
	name         string
	check        func(source, report)
	wrong, right [][2]string
}{
	{"imports go one way", importLine, [][2]string{
		{"deploy/local/a.go", imports("ledger/db")}, {"ledger/db/a.go", imports("ledger")}, {"ledger/a.go", imports("channels")},
		{"channels/his/a.go", imports("clearing")}, {"clearing/a.go", imports("recon")}, {"recon/a.go", imports("api")},
		{"recon/a.go", imports("recon/feed")}, {"api/a.go", imports("features")}, {"channels/his/a.go", imports("channels/bank")},
		{"channels/a.go", imports("channels/bank")}, {"channels/bank/a.go", imports("channels/sandbox/live")}, {"deploy/benchtable/a.go", imports("ledger")}, {"api/a.go", imports("billing")},
		{"recon/a.go", imports("proto/clearward/feed/v1")}, {"api/auth/a.go", imports("proto/clearward/feed/v1")},
		{"proto/a.go", imports("ledger")}, {"ledger/a.go", imports("ledger/db/dbtest")}, {"ledger/a_test.go", imports("clearing")},
	}, [][2]string{
		{"ledger/db/dbtest/a.go", imports("deploy/local")}, {"ledger/a.go", imports("ledger/db")}, {"recon/feed/a.go", imports("recon")},
		{"ledger/a_test.go", imports("ledger/db/dbtest")}, {"channels/his/a.go", imports("channels")}, {"api/a.go", imports("api/auth")},
		{"channels/sandbox/a.go", imports("channels/wechat")}, {"channels/sandbox/live/a.go", imports("channels/alipay")}, {"channels/sandbox/live/a.go", imports("channels/sandbox")},
		{"channels/sandbox/live/a.go", imports("proto/clearward/feed/v1")}, {"recon/feed/a.go", imports("proto/clearward/feed/v1")},
		{"main.go", imports("api")}, {"features/a_test.go", imports("recon/feed")},
	}},
	{"channels see of the ledger only money and days", channelsSeeMoney, [][2]string{
		{"channels/his/a.go", `import l "` + module + `ledger"; var _ l.Account`}, {"channels/a.go", `import . "` + module + `ledger"`},
	}, [][2]string{
		{"channels/his/a.go", `import "` + module + `ledger"; var _ ledger.Money`}, {"recon/a.go", `import "` + module + `ledger"; var _ ledger.Account`},
	}},
	{"functions are short", shortFunctions, [][2]string{
		{"api/a.go", "func f() {" + strings.Repeat("\n", maxLines) + "}"}, {"api/a.go", "var _ = func() {" + strings.Repeat("\n", maxLines) + "}"},
	}, [][2]string{
		{"api/a.go", "func f() {" + strings.Repeat("\n", maxLines-1) + "}"}, {"api/a_test.go", "func f() {" + strings.Repeat("\n", maxLines) + "}"},
	}},
	{"money is never a float", noFloats, [][2]string{
		{"ledger/a.go", "var x float64"}, {"channels/his/a.go", "var x []float32"}, {"recon/feed/a.go", "var x = 0.5"}, {"clearing/a.go", "func f(float64) {}"},
	}, [][2]string{
		{"api/a.go", "var x float64"}, {"ledger/a_test.go", "var x = 0.5"}, {"ledger/a.go", `var x = "0.5"`},
	}},
	{"the clock is handed in", clockHandedIn, [][2]string{
		{"recon/a.go", `import "time"; var now = time.Now`}, {"ledger/db/a.go", `import c "time"; var x = c.Since(c.Time{})`},
	}, [][2]string{
		{"main.go", `import "time"; var now = time.Now`}, {"deploy/local/a.go", `import "time"; var x = time.Now()`}, {"recon/a.go", `import "time"; var x = time.Second`},
	}},
	{"tests wait for conditions and are never skipped", honestTests, [][2]string{
		{"api/a_test.go", `import "time"; func f() { time.Sleep(1) }`}, {"api/a_test.go", "func f(t *testing.T) { t.Skip() }"}, {"api/a_test.go", "func f(b *testing.B) { b.SkipNow() }"},
	}, [][2]string{
		{"api/a.go", `import "time"; func f() { time.Sleep(1) }`}, {"api/a_test.go", "func f(t *testing.T) { t.Fatal() }"},
	}},
	{"packages are named for what they hold", telling, [][2]string{
		{"api/helpers/a.go", ""}, {"clearing/common/a_test.go", ""},
	}, [][2]string{{"api/auth/a.go", ""}}},
	{"nothing is put off", nothingPutOff, [][2]string{{"api/a.go", "// TO" + "DO: the rest"}}, [][2]string{{"api/a.go", "// to do so"}}},
	{"columns are named", columnsNamed, [][2]string{
		{"api/a.go", "var q = `SELECT\n " + "* FROM t`"}, {"api/a.go", `var q = "select t.` + `* from t"`}, {"api/a.go", "var q = `INSERT RETURNING " + "*`"},
	}, [][2]string{{"api/a.go", "var q = `SELECT count(*), a * b FROM t`"}}},
}

func imports(path string) string { return `import _ "` + module + path + `"` }

func importLine(s source, report report) {
	for _, spec := range s.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		to, ours := strings.CutPrefix(name, module)
		if reason := mayNotImport(s, to); ours && reason != "" {
			report(spec, "%s may not import %s: %s", s.dir, to, reason)
		}
	}
}

// mayNotImport says why a file may not import one of our packages, or "".
func mayNotImport(s source, to string) string {
	here, there := place(s.dir), place(to)
	switch {
	case within(s.dir, "proto"):
		return "messages know nothing of the house"
	case within(to, "proto") && (slices.Contains(protoAt, s.dir) || within(s.dir, "channels/sandbox")):
		return ""
	case within(to, "proto"):
		return "generated messages are known at the edges only"
	case within(to, forTests...) && s.test():
		return ""
	case within(to, forTests...):
		return "it is for tests"
	case here < 0 || there < 0:
		return "one of them has no place in the line"
	case there > here:
		return "imports go one way"
	case within(to, "channels") && within(s.dir, "channels") && to != "channels" && !within(s.dir, "channels/sandbox"):
		return "an adapter stands alone"
	case s.dir == "recon" && to == "recon/feed" && !strings.HasSuffix(s.Name.Name, "_test"):
		return "recon/feed imports recon"
	}
	return ""
}

// place is where a package stands in the line, or -1.
func place(dir string) int {
	return slices.IndexFunc(order, func(rooms []string) bool {
		return slices.ContainsFunc(rooms, func(room string) bool { return dir == room || room != "." && within(dir, room) })
	})
}

func channelsSeeMoney(s source, report report) {
	eachUse(s, module+"ledger", func(at ast.Node, name string) {
		if within(s.dir, "channels") && !slices.Contains(channelsSee, name) {
			report(at, "ledger.%s is not for channels", name)
		}
	})
}

func shortFunctions(s source, report report) {
	ast.Inspect(s.File, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			if lines := s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1; lines > maxLines && !s.test() {
				report(n, "%d lines, %d are allowed", lines, maxLines)
			}
		}
		return true
	})
}

func noFloats(s source, report report) {
	if s.test() || !within(s.dir, "ledger", "clearing", "recon", "channels") {
		return
	}
	ast.Inspect(s.File, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Ident:
			if x.Name == "float64" || x.Name == "float32" {
				report(x, "%s", x.Name)
			}
		case *ast.BasicLit:
			if x.Kind == token.FLOAT {
				report(x, "%s is a float", x.Value)
			}
		}
		return true
	})
}

func clockHandedIn(s source, report report) {
	if s.test() || s.dir == "." || within(s.dir, "deploy", "api") {
		return
	}
	eachUse(s, "time", func(at ast.Node, name string) {
		if name == "Now" || name == "Since" || name == "Until" {
			report(at, "time.%s; take a now func() time.Time", name)
		}
	})
}

func honestTests(s source, report report) {
	if !s.test() {
		return
	}
	eachUse(s, "time", func(at ast.Node, name string) {
		if name == "Sleep" {
			report(at, "time.Sleep; wait for the condition itself")
		}
	})
	ast.Inspect(s.File, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			report(sel, "%s; what a machine may lack is a make target of its own", sel.Sel.Name)
		}
		return true
	})
}

func telling(s source, report report) {
	for _, name := range []string{"util", "utils", "common", "helper", "helpers", "misc", "shared"} {
		if strings.TrimSuffix(s.Name.Name, "_test") == name || path.Base(s.dir) == name {
			report(s.Name, "package %s", name)
		}
	}
}

func nothingPutOff(s source, report report) {
	for _, group := range s.Comments {
		for _, c := range group.List {
			if word := putOff.FindString(c.Text); word != "" {
				report(c, "%s; file an issue instead", word)
			}
		}
	}
}

// columnsNamed leaves tests alone: the one of the SQL dialect shows what it refuses.
func columnsNamed(s source, report report) {
	ast.Inspect(s.File, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && !s.test() && everyColumn.MatchString(lit.Value) {
			report(lit, "a statement takes every column")
		}
		return true
	})
}

// eachUse visits pkg.Name wherever the package of that import path is used, under
// whatever name it is imported.
func eachUse(s source, pkg string, visit func(at ast.Node, name string)) {
	for _, spec := range s.Imports {
		if got, _ := strconv.Unquote(spec.Path.Value); got != pkg {
			continue
		}
		as := path.Base(pkg)
		if spec.Name != nil {
			as = spec.Name.Name
		}
		if as == "." {
			visit(spec, "*")
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == as {
					visit(sel, sel.Sel.Name)
				}
			}
			return true
		})
	}
}

// findings runs one rule over the text of one Go file.
func findings(t *testing.T, check func(source, report), name, text string) []string {
	t.Helper()
	s := source{name: name, dir: path.Dir(name), fset: token.NewFileSet()}
	var err error
	if s.File, err = parser.ParseFile(s.fset, name, text, parser.ParseComments); err != nil {
		t.Fatal(err)
	}
	var found []string
	if !ast.IsGenerated(s.File) {
		check(s, func(at ast.Node, format string, args ...any) {
			found = append(found, fmt.Sprintf("%s: %s", s.fset.Position(at.Pos()), fmt.Sprintf(format, args...)))
		})
	}
	return found
}

// eachFile visits the project's files of one ending, not what .gitignore names.
func eachFile(t *testing.T, fsys fs.FS, ending string, visit func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && leftovers.MatchString(name):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ending):
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err == nil {
			visit(name, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheHouseIsTidy(t *testing.T) {
	count := 0
	eachFile(t, os.DirFS("."), ".go", func(name, text string) {
		count++
		for _, rule := range goRules {
			for _, finding := range findings(t, rule.check, name, text) {
				t.Errorf("%s: %s", rule.name, finding)
			}
		}
	})
	if count < 10 {
		t.Fatalf("only %d Go files were looked at", count)
	}
	eachFile(t, os.DirFS("."), ".sql", func(name, text string) {
		if everyColumn.MatchString(text) {
			t.Errorf("columns are named: %s: a statement takes every column", name)
		}
	})
}

func TestEveryRuleCatchesWhatItForbids(t *testing.T) {
	for _, rule := range goRules {
		if len(rule.wrong) == 0 || len(rule.right) == 0 {
			t.Errorf("%s: no example shows that it can fail", rule.name)
		}
		for _, c := range rule.wrong {
			if len(findings(t, rule.check, c[0], "package x\n"+c[1])) == 0 {
				t.Errorf("%s: finds nothing in %s: %.80q", rule.name, c[0], c[1])
			}
		}
		for _, c := range rule.right {
			if found := findings(t, rule.check, c[0], "package x\n"+c[1]); len(found) > 0 {
				t.Errorf("%s: finds %v in %s", rule.name, found, c[0])
			}
		}
	}
}

// strangers are the entries of the root that have no place there.
func strangers(t *testing.T, fsys fs.FS) []string {
	t.Helper()
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		known := papers
		if e.IsDir() {
			known = rooms
		}
		if !slices.Contains(known, e.Name()) && !leftovers.MatchString(e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found
}

func TestTheRootHoldsOnlyTheRooms(t *testing.T) {
	if found := strangers(t, os.DirFS(".")); len(found) > 0 {
		t.Errorf("these have no place at the root: %v", found)
	}
	some := fstest.MapFS{"main.go": {}, "build/clearward": {}, ".ci/run": {}, "ledger/a.go": {}, "pkg/a.go": {}, "notes.md": {}}
	if found := strangers(t, some); !slices.Equal(found, []string{"notes.md", "pkg"}) {
		t.Errorf("strangers = %v", found)
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

// deadLinks are the relative links of the Markdown files that lead nowhere, or
// out of the project, where a reader of a clone finds nothing.
func deadLinks(t *testing.T, fsys fs.FS) []string {
	t.Helper()
	var found []string
	eachFile(t, fsys, ".md", func(name, text string) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := fs.Stat(fsys, path.Join(path.Dir(name), m[1])); err != nil {
				found = append(found, name+": "+m[1])
			}
		}
	})
	return found
}

func TestLinksLeadSomewhere(t *testing.T) {
	if found := deadLinks(t, os.DirFS(".")); len(found) > 0 {
		t.Errorf("dead links: %v", found)
	}
	some := fstest.MapFS{"a.md": {Data: []byte("[x](b/c.md#d) [y](gone.md) [z](https://x.y/z) [o](../o.md) [h](#h)")}, "b/c.md": {Data: []byte("[a](../a.md)")}}
	if found := deadLinks(t, some); !slices.Equal(found, []string{"a.md: gone.md", "a.md: ../o.md"}) {
		t.Errorf("dead links = %v", found)
	}
}

var record = flag.Bool("record", false, "write down that the generated code is fresh (make proto does)")

// protoDigest names what the generated code is made from and what it is. Running
// buf takes 100 s on a new machine; comparing this takes none.
func protoDigest(t *testing.T, fsys fs.FS) string {
	t.Helper()
	sum := func(keep func(name string) bool) string {
		h := sha256.New()
		eachFile(t, fsys, "", func(name, text string) {
			if keep(name) {
				fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
			}
		})
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	from := []string{"buf.yaml", "buf.gen.yaml", "tools.mod", "tools.sum"}
	return fmt.Sprintf("from %s\nmade %s\n",
		sum(func(name string) bool { return slices.Contains(from, name) || strings.HasSuffix(name, ".proto") }),
		sum(func(name string) bool { return within(name, "proto") && strings.HasSuffix(name, ".go") }))
}

func TestGeneratedCodeIsFresh(t *testing.T) {
	const file = "proto/generated.sum"
	want := protoDigest(t, os.DirFS("."))
	if *record {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("the generated code is not what the .proto files and tools say; run make proto (%v)", err)
	}
	some := fstest.MapFS{"proto/a.proto": {Data: []byte("1")}, "proto/a.pb.go": {Data: []byte("2")}, "tools.mod": {Data: []byte("3")}}
	was := protoDigest(t, some)
	for name := range some {
		changed := fstest.MapFS{name: {Data: []byte("4")}}
		for other, f := range some {
			if other != name {
				changed[other] = f
			}
		}
		if protoDigest(t, changed) == was {
			t.Errorf("a change of %s is not seen", name)
		}
	}
}
