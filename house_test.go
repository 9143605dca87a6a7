package rightful_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A source is one Go file of the module.
type source struct {
	name, dir string // relative to the module: "internal/tree/walk.go", "internal/tree"
	test      bool
	lines     int
	fset      *token.FileSet
	file      *ast.File
	imports   []string
}

func (s *source) at(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

// sources parses every Go file of the module, whatever its build constraints.
func sources(t *testing.T) []*source {
	t.Helper()
	var out []*source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && (base == "testdata" || base == "bin" || len(base) > 1 && base[0] == '.') {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s := &source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
		s.lines = strings.Count(string(text), "\n")
		s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, i := range s.file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryPackageSaysWhatItKnowsPromisesAndRefuses(t *testing.T) {
	longest := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		n := 0
		if s.file.Doc != nil {
			n = strings.Count(strings.TrimSpace(s.file.Doc.Text()), "\n") + 1
		}
		longest[s.dir] = max(longest[s.dir], n)
	}
	for dir, n := range longest {
		if n < 3 {
			t.Errorf("package %q has a package comment of %d lines; at least 3 are needed to say what it is", dir, n)
		}
	}
}

func TestNoFileIsTooLongToRead(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > 800 {
			t.Errorf("%s has %d lines; the ceiling is 800", s.name, s.lines)
		}
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					var name *ast.Ident
					var doc, line *ast.CommentGroup
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						name, doc, line = spec.Name, spec.Doc, spec.Comment
					case *ast.ValueSpec:
						name, doc, line = spec.Names[0], spec.Doc, spec.Comment
					default:
						continue
					}
					if name.IsExported() && d.Doc == nil && doc == nil && line == nil {
						t.Errorf("%s: %s has no comment", s.at(spec), name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestThereIsNoHiddenState(t *testing.T) {
	byDir := map[string][]*source{}
	for _, s := range sources(t) {
		if !s.test {
			byDir[s.dir] = append(byDir[s.dir], s)
		}
	}
	for _, files := range byDir {
		vars := map[string]bool{}
		specs := map[any]bool{}
		for _, s := range files {
			for _, d := range s.file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s: init runs before main and cannot be given anything", s.at(f))
				}
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, spec := range g.Specs {
					v := spec.(*ast.ValueSpec)
					specs[v] = true
					for _, n := range v.Names {
						vars[n.Name] = true
					}
					if typ := mutable(v); typ != "" {
						t.Errorf("%s: package variable of type %s", s.at(v), typ)
					}
				}
			}
		}
		for _, s := range files {
			ast.Inspect(s.file, func(n ast.Node) bool {
				for _, target := range written(n) {
					id := root(target)
					if id == nil || !vars[id.Name] {
						continue
					}
					// An object that is known and not one of the package's is a local of the same name.
					if id.Obj != nil && !specs[id.Obj.Decl] {
						continue
					}
					t.Errorf("%s: package variable %s is changed", s.at(n), id.Name)
				}
				return true
			})
		}
	}
}

// mutable names the type of a package variable that only makes sense if it changes.
func mutable(v *ast.ValueSpec) string {
	typ := v.Type
	if typ == nil && len(v.Values) > 0 {
		if c, ok := v.Values[0].(*ast.CompositeLit); ok {
			typ = c.Type
		}
		if c, ok := v.Values[0].(*ast.CallExpr); ok {
			if f, ok := c.Fun.(*ast.Ident); ok && f.Name == "make" {
				return "that make gives"
			}
		}
	}
	if _, ok := typ.(*ast.ChanType); ok {
		return "chan"
	}
	if sel, ok := typ.(*ast.SelectorExpr); ok {
		name := root(sel.X).Name + "." + sel.Sel.Name
		if strings.HasPrefix(name, "atomic.") || strings.HasPrefix(name, "sync.") && name != "sync.Pool" {
			return name
		}
	}
	return ""
}

// written gives the expressions that a node assigns to or takes the address of.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear" || f.Name == "copy") {
			return n.Args[:1]
		}
	}
	return nil
}

// root is the variable that an expression selects from.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// guarded are calls that only some packages may make. Tests may, but for sleeping.
var guarded = []struct {
	call *regexp.Regexp
	by   []string
	why  string
}{
	{
		regexp.MustCompile(`^(os|unix|syscall)\.(L|F|)(Chown|Chmod|chown|chmod)(at|at2)?$`),
		[]string{"internal/tree/edit", "internal/rescue", "internal/tree/treetest", "internal/hostbox", "internal/tools/bench"},
		"owner and mode are changed on a verified handle by one package; another makes directories of a quarantine the account's",
	},
	{
		regexp.MustCompile(`^(unix|syscall)\.(L|F|)(Setxattr|Removexattr)(at)?$`),
		[]string{"internal/tree/edit", "internal/tree/treetest", "internal/hostbox"},
		"ACLs and capabilities are changed on a verified handle by one package",
	},
	{
		regexp.MustCompile(`^(os|unix|syscall)\.(Rename|Renameat|Renameat2|Remove|RemoveAll|Unlink|Unlinkat|Mkdir|MkdirAll|MkdirTemp|Mkdirat|Mknod|Symlink|Symlinkat|Link|Linkat|WriteFile|Create|CreateTemp|Truncate|Ftruncate|CopyFS|OpenRoot|Chtimes|Utimensat|Utimes)$`),
		[]string{
			"internal/state", "internal/wrapper", "internal/tree/edit", "internal/rescue", "internal/tree/treetest", "internal/hostbox",
			"internal/tools/mkman", "internal/tools/bench",
		},
		"the product writes to its state directory, and one package does; one puts guard before a program, one builds homes in a quarantine, one makes directories change places",
	},
	{
		regexp.MustCompile(`^(filepath\.(Walk|WalkDir|Glob|EvalSymlinks)|os\.(ReadDir|DirFS))$`),
		[]string{"internal/state", "internal/tree/treetest", "internal/hostbox", "internal/tools/bench", "internal/cli"},
		"customers' trees are read through internal/tree, which follows no link; cli lists its own threads",
	},
	{
		regexp.MustCompile(`^os\.(Readlink|Stat|Lstat)$`),
		[]string{"internal/state", "internal/wrapper", "internal/tree/treetest", "internal/hostbox", "internal/web", "internal/panel"},
		"customers' trees are read through internal/tree; web and panel look at processes in /proc",
	},
	{regexp.MustCompile(`^os\.Exit$`), []string{"cmd/rightful", "internal/tools/testsum", "internal/tools/mkman", "internal/tools/bench"}, "only main ends the process"},
	{
		regexp.MustCompile(`^os\.(Stdin|Stdout|Stderr|Args)$`),
		[]string{"cmd/rightful", "internal/tools/testsum", "internal/tools/mkman", "internal/tools/bench", "internal/hostbox", "internal/tree/treetest"},
		"main hands them down; the box's shell needs the real ones, and a test that is run again in another kernel its arguments",
	},
	{regexp.MustCompile(`^fmt\.Print(|f|ln)$`), nil, "standard output is the answer, and cli prints it"},
	{regexp.MustCompile(`^time\.Sleep$`), nil, "wait for what is waited for"},
}

func TestGuardedCallsAreMadeOnlyByTheirOwners(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || pkg.Obj != nil {
				return true
			}
			name := pkg.Name + "." + sel.Sel.Name
			for _, g := range guarded {
				if g.call.MatchString(name) && !slices.Contains(g.by, s.dir) && (!s.test || name == "time.Sleep") {
					t.Errorf("%s: %s: %s", s.at(n), name, g.why)
				}
			}
			return true
		})
	}
}

func TestErrorsSayTheOperationFirst(t *testing.T) {
	filler := regexp.MustCompile(`(?i)^(failed to|failure|unable to|could not|couldn't|cannot|can't|error)\b`)
	// A word in capitals throughout (ACL, EOF, UUID) is a name.
	capital := regexp.MustCompile(`^[A-Z][a-z ]`)
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || s.test {
				return true
			}
			pkg := root(sel.X)
			if pkg == nil || pkg.Name+"."+sel.Sel.Name != "fmt.Errorf" && pkg.Name+"."+sel.Sel.Name != "errors.New" {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			msg, _ := strconv.Unquote(lit.Value)
			switch {
			case filler.MatchString(msg):
				t.Errorf("%s: error %q begins with filler", s.at(n), msg)
			case capital.MatchString(msg):
				t.Errorf("%s: error %q begins with a capital", s.at(n), msg)
			case strings.HasSuffix(msg, ".") || strings.HasSuffix(msg, "\n"):
				t.Errorf("%s: error %q ends with a full stop or newline", s.at(n), msg)
			}
			return true
		})
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	later := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, s := range sources(t) {
		for _, g := range s.file.Comments {
			if later.MatchString(g.Text()) {
				t.Errorf("%s: %s", s.at(g), strings.TrimSpace(g.Text()))
			}
		}
	}
}
