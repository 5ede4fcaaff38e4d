package promises_test

import (
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

const home = "internal/promises"

var quoted = regexp.MustCompile("`([^`]+)`")

// rows returns the cells of the rows of the tables in README.md: promise, tests, package.
func rows(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] != "promise" {
			all = append(all, cells)
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no rows")
	}
	return all
}

// folderOf returns the folder of a package as the table names it.
func folderOf(name string) string {
	if name == "fetch" {
		return "."
	}
	return path.Join(home, name)
}

func TestEveryTestThatIsNamedExists(t *testing.T) {
	tests := fetchtest.Tests(t)
	for _, row := range rows(t) {
		names := quoted.FindAllStringSubmatch(row[1], -1)
		if row[0] == "" || len(names) == 0 {
			t.Errorf("a row is not complete: %q", row)
		}
		for _, name := range names {
			if !tests[folderOf(row[2])][name[1]] {
				t.Errorf("%s: package %s has no %s", row[0], row[2], name[1])
			}
		}
	}
}

func TestEveryPackageIsNamed(t *testing.T) {
	var named []string
	for _, row := range rows(t) {
		named = append(named, folderOf(row[2]))
	}
	for _, folder := range slices.Sorted(maps.Keys(fetchtest.Tests(t))) {
		if folder != home && !slices.Contains(named, folder) {
			t.Errorf("no promise of %s is in the table", folder)
		}
	}
}
