package dubway_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The budgets. Past one, look for the missing noun. A reader meets a file or a
// function as it stands, so all its lines count; a package is as large as what it
// does, so blank lines and comments do not: no budget is a reason to say less.
// Generated code and tests have no budget.
const (
	maxFile      = 400
	maxFunction  = 60
	maxParams    = 4
	maxInterface = 5
	maxPackage   = 1200
)

// noNames are names of packages that say nothing.
var noNames = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "type", "types", "constant", "constants", "misc", "shared"}

// mayExit are the files that may end the process, and why.
var mayExit = map[string]string{
	"internal/testnet/helper.go": "a process that was started to run a helper ends with it",
}

// source is the hand-written code of one package, without its tests.
type source struct {
	name  string
	files []*ast.File
	code  int // lines of code
	fset  *token.FileSet
}

// rule is one sentence of the house style.
type rule struct {
	name string
	// find reports what breaks the sentence in a package.
	find func(s *source, report reporter)
	// bad is a file that breaks it, once: the proof that find can fail.
	bad string
}

// reporter takes a finding and where it is.
type reporter func(at token.Pos, format string, args ...any)

var rules = []rule{
	{"a file has at most 400 lines", longFiles, "// Package a is.\npackage a\n" + strings.Repeat("\n", maxFile)},
	{"a function has at most 60 lines", longFunctions, "// Package a is.\npackage a\nfunc f() {" + strings.Repeat("\n", maxFunction) + "}"},
	{"a function has at most 4 parameters", manyParams, "// Package a is.\npackage a\nfunc f(a, b int, c string, d, e bool) {}"},
	{"an interface has at most 5 methods", wideInterfaces, "// Package a is.\npackage a\ntype i interface{ A(); B(); C(); D(); E(); F() }"},
	{"a package has at most 1,200 lines of code", longPackages, "// Package a is.\npackage a\n" + strings.Repeat("var _ int\n", maxPackage)},
	{"a package says what it is", noPackageDoc, "package a"},
	{"an exported name says what it is", noDoc, "// Package a is.\npackage a\ntype t int\n// T is.\ntype T int\nfunc (t) M() {}\nfunc (T) N() {}"},
	{"nothing happens at import", inits, "// Package a is.\npackage a\nfunc init() {}\nfunc (t) init() {}"},
	{"only main ends the process", panics, "// Package a is.\npackage a\nfunc f() { panic(1) }"},
	{"a package is a noun of the path", noNoun, "// Package util is.\npackage util"},
}

func TestStyle(t *testing.T) {
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		s, err := parse(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			for _, finding := range findings(r, s) {
				t.Errorf("%s: %s", r.name, finding)
			}
		}
	}
}

func TestStyleRulesCanFail(t *testing.T) {
	good := mustParse(t, "// Package a is.\npackage a\n\n// F does.\nfunc F(b int) error { return nil }\n")
	for _, r := range rules {
		if found := findings(r, mustParse(t, r.bad)); len(found) != 1 {
			t.Errorf("%s: %d findings in a source that breaks it once: %q", r.name, len(found), found)
		}
		if found := findings(r, good); len(found) != 0 {
			t.Errorf("%s: found in a source that keeps it: %q", r.name, found)
		}
	}
}

// TestKernelFiles holds the C sources to the budget of files.
func TestKernelFiles(t *testing.T) {
	sources, err := filepath.Glob("bpf/*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		t.Error("bpf has no C sources: this test looks at nothing")
	}
	for _, path := range sources {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(content), "\n"); n > maxFile {
			t.Errorf("%s has %d lines, %d are allowed", path, n, maxFile)
		}
	}
}

// parse reads the hand-written files of a package.
func parse(p listed) (*source, error) {
	s := &source{name: p.Name, fset: token.NewFileSet()}
	here, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	for _, name := range p.GoFiles {
		path, err := filepath.Rel(here, filepath.Join(p.Dir, name))
		if err != nil {
			return nil, fmt.Errorf("name file: %w", err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read file: %w", err)
		}
		if err := s.add(path, string(text)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add parses one file into the package, unless it is generated.
func (s *source) add(path, text string) error {
	file, err := parser.ParseFile(s.fset, path, text, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse file: %w", err)
	}
	if ast.IsGenerated(file) {
		return nil
	}
	s.files = append(s.files, file)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			s.code++
		}
	}
	return nil
}

func mustParse(t *testing.T, text string) *source {
	t.Helper()
	s := &source{fset: token.NewFileSet()}
	if err := s.add("a.go", text); err != nil {
		t.Fatal(err)
	}
	s.name = s.files[0].Name.Name
	return s
}

func findings(r rule, s *source) []string {
	var found []string
	if len(s.files) == 0 {
		return nil
	}
	r.find(s, func(at token.Pos, format string, args ...any) {
		found = append(found, fmt.Sprintf("%v: %s", s.fset.Position(at), fmt.Sprintf(format, args...)))
	})
	return found
}

func (s *source) inspect(visit func(ast.Node)) {
	for _, file := range s.files {
		for node := range ast.Preorder(file) {
			visit(node)
		}
	}
}

func longFiles(s *source, report reporter) {
	for _, file := range s.files {
		if n := s.fset.Position(file.FileEnd).Line - 1; n > maxFile {
			report(file.Package, "the file has %d lines", n)
		}
	}
}

func longPackages(s *source, report reporter) {
	if s.code > maxPackage {
		report(s.files[0].Package, "package %s has %d lines of code", s.name, s.code)
	}
}

func longFunctions(s *source, report reporter) {
	s.inspect(func(node ast.Node) {
		if f, ok := node.(*ast.FuncDecl); ok {
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunction {
				report(f.Pos(), "%s has %d lines", f.Name.Name, n)
			}
		}
	})
}

func manyParams(s *source, report reporter) {
	s.inspect(func(node ast.Node) {
		// Types of functions count too: an interface's method is one.
		if f, ok := node.(*ast.FuncType); ok && f.Params.NumFields() > maxParams {
			report(f.Pos(), "%d parameters: give them a struct", f.Params.NumFields())
		}
	})
}

func wideInterfaces(s *source, report reporter) {
	s.inspect(func(node ast.Node) {
		if i, ok := node.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxInterface {
			report(i.Pos(), "%d methods", i.Methods.NumFields())
		}
	})
}

func noPackageDoc(s *source, report reporter) {
	documented := slices.ContainsFunc(s.files, func(file *ast.File) bool { return file.Doc.Text() != "" })
	if !documented {
		report(s.files[0].Package, "package %s has no comment", s.name)
	}
}

func noDoc(s *source, report reporter) {
	if s.name == "main" {
		return // nobody imports it
	}
	for _, file := range s.files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverIsExported(d) && d.Doc.Text() == "" {
					report(d.Pos(), "%s has no comment", d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name := undocumented(d, spec); name != nil {
						report(name.Pos(), "%s has no comment", name.Name)
					}
				}
			}
		}
	}
}

// receiverIsExported tells whether a method can be seen from outside; a plain
// function can.
func receiverIsExported(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	exported := false
	for node := range ast.Preorder(f.Recv.List[0].Type) {
		// The first identifier is the type; others are its type parameters.
		if id, ok := node.(*ast.Ident); ok {
			exported = id.IsExported()
			break
		}
	}
	return exported
}

// undocumented returns the exported name of spec that no comment is about. One
// comment above a group of constants or variables is about all of them.
func undocumented(d *ast.GenDecl, spec ast.Spec) *ast.Ident {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc.Text() == "" && (d.Lparen.IsValid() || d.Doc.Text() == "") {
			return spec.Name
		}
	case *ast.ValueSpec:
		exported := slices.IndexFunc(spec.Names, func(name *ast.Ident) bool { return name.IsExported() })
		if exported >= 0 && d.Doc.Text() == "" && spec.Doc.Text() == "" && spec.Comment.Text() == "" {
			return spec.Names[exported]
		}
	}
	return nil
}

func inits(s *source, report reporter) {
	s.inspect(func(node ast.Node) {
		if f, ok := node.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			report(f.Pos(), "init is a step that nobody calls")
		}
	})
}

func panics(s *source, report reporter) {
	if s.name == "main" {
		return
	}
	ends := []string{"panic", "log.Panic", "log.Panicf", "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"}
	s.inspect(func(node ast.Node) {
		if call, ok := node.(*ast.CallExpr); ok && slices.Contains(ends, callee(call)) {
			if callee(call) == "os.Exit" && mayExit[s.fset.Position(call.Pos()).Filename] != "" {
				return
			}
			report(call.Pos(), "%s: return an error", callee(call))
		}
	})
}

// callee returns "f" or "pkg.f", and "" for what has no such name.
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if pkg, ok := f.X.(*ast.Ident); ok {
			return pkg.Name + "." + f.Sel.Name
		}
	}
	return ""
}

func noNoun(s *source, report reporter) {
	if slices.Contains(noNames, s.name) {
		report(s.files[0].Name.Pos(), "%s says nothing about what is in it", s.name)
	}
}
