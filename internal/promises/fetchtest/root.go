package fetchtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"testing"
)

// Root returns the folder of the module.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod in any folder above")
		}
		dir = parent
	}
}

// Parse returns the Go files that match a pattern, by their paths. Both begin at the root.
func Parse(t testing.TB, pattern string) map[string]*ast.File {
	t.Helper()
	root := Root(t)
	names, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		short, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(short)] = file
	}
	return files
}

var testName = regexp.MustCompile("^(Test|Fuzz|Benchmark|Example)[A-Z0-9_]|^Example$")

// Tests returns the names of the tests of the API in each folder: those of its promises, and
// those at the root, whose folder is ".".
func Tests(t testing.TB) map[string]map[string]bool {
	t.Helper()
	tests := map[string]map[string]bool{}
	for _, pattern := range []string{"*_test.go", "internal/promises/*_test.go", "internal/promises/*/*_test.go"} {
		for name, file := range Parse(t, pattern) {
			folder := path.Dir(name)
			if tests[folder] == nil {
				tests[folder] = map[string]bool{}
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && testName.MatchString(f.Name.Name) && f.Name.Name != "TestMain" {
					tests[folder][f.Name.Name] = true
				}
			}
		}
	}
	return tests
}
