package promises_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

const internalPath = "github.com/batchhttp/fetch/internal/"

// A room is a row of the table in CONTRIBUTING.md.
type room struct {
	imports, unknown []string
	knowsNone        bool // "all others"
}

// The walls between the packages are those of the table in CONTRIBUTING.md, and every package
// has its row.
func TestTheRoomsAreThoseOfTheTable(t *testing.T) {
	root := fetchtest.Root(t)
	rooms := readRooms(t, root)
	for name, r := range rooms {
		direct := goList(t, root, "-f", `{{join .Imports "\n"}}`, "./internal/"+name)
		if !slices.Equal(direct, r.imports) {
			t.Errorf("%s imports %q, and the table says %q", name, direct, r.imports)
		}
		reached := goList(t, root, "-deps", "./internal/"+name)
		for _, other := range reached {
			if other != name && (r.knowsNone || slices.Contains(r.unknown, other)) {
				t.Errorf("%s reaches %s, of which it is not to know", name, other)
			}
		}
		for _, other := range r.unknown {
			if _, ok := rooms[other]; !ok {
				t.Errorf("%s is not to know %s, which is no package of the table", name, other)
			}
		}
	}
	for _, name := range goList(t, root, "-deps", ".") {
		if _, ok := rooms[name]; !ok {
			t.Errorf("%s has no row", name)
		}
	}
}

// goList runs go list and returns the packages of internal that it prints, in order.
func goList(t *testing.T, root string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), internalPath); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func readRooms(t *testing.T, root string) map[string]room {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]room{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "internal/")
		if !ok || len(cells) != 4 {
			continue
		}
		unknown := strings.TrimSpace(cells[3])
		rooms[name] = room{
			imports:   names(cells[2]),
			unknown:   names(unknown),
			knowsNone: unknown == "all others",
		}
	}
	return rooms
}

// names returns the packages that a cell lists; "–" and "all others" are none.
func names(cell string) []string {
	list := []string{}
	for name := range strings.SplitSeq(strings.TrimSpace(cell), ", ") {
		if name != "–" && name != "all others" {
			list = append(list, name)
		}
	}
	return list
}
