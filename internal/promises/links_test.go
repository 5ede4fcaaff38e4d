package promises_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The documents whose links are followed, from the root. One that is not there is left out.
var documents = []string{
	"README.md", "SECURITY.md", "CONTRIBUTING.md",
	"internal/promises/README.md", "internal/promises/faults/LEGEND.md", "internal/bench/README.md",
}

var (
	code      = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)
	reference = regexp.MustCompile(`(?m)^\[[^\]]+\]:\s+(\S+)`)
	heading   = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*#*$`)
	lines     = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)
)

// Links must work in a checkout and on the page of the repository. The module has no
// release yet, so that pkg.go.dev does not know it.
func TestLinksLeadSomewhere(t *testing.T) {
	root := fetchtest.Root(t)
	followed := 0
	for _, document := range documents {
		name := filepath.Join(root, filepath.FromSlash(document))
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && document == "CONTRIBUTING.md" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range linksOf(string(text)) {
			followed++
			if err := follow(name, target); err != nil {
				t.Errorf("%s: %s: %v", document, target, err)
			}
		}
	}
	if followed == 0 {
		t.Error("there are no links")
	}
}

// linksOf returns the targets of the links in a document. Brackets in code are no links, but
// code can be the text of one.
func linksOf(text string) []string {
	text = code.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("x", len(s)) })
	var targets []string
	for _, found := range append(link.FindAllStringSubmatch(text, -1), reference.FindAllStringSubmatch(text, -1)...) {
		targets = append(targets, found[1])
	}
	return targets
}

// follow returns an error if a link of the document does not lead anywhere. What other
// sites have is not looked up.
func follow(document, target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return err
	case strings.EqualFold(u.Hostname(), "pkg.go.dev"):
		return errors.New("that site does not know the module")
	case u.IsAbs():
		return nil
	case u.Host != "" || strings.HasPrefix(u.Path, "/"):
		return errors.New("that is not relative")
	}
	name := document
	if u.Path != "" {
		name = filepath.Join(filepath.Dir(document), filepath.FromSlash(u.Path))
	}
	info, err := os.Stat(name)
	if err != nil || u.Fragment == "" {
		return err
	}
	if info.IsDir() {
		return errors.New("a folder has no fragments")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return checkFragment(string(text), filepath.Ext(name) == ".md", u.Fragment)
}

func checkFragment(text string, isMarkdown bool, fragment string) error {
	if isMarkdown {
		if !anchors(text)[fragment] {
			return errors.New("there is no such heading")
		}
		return nil
	}
	found := lines.FindStringSubmatch(fragment)
	if found == nil {
		return errors.New("the fragment is no line")
	}
	for _, number := range found[1:] {
		if number == "" {
			continue
		}
		if n, err := strconv.Atoi(number); err != nil || n < 1 || n > strings.Count(text, "\n") {
			return errors.New("there is no such line")
		}
	}
	return nil
}

// anchors returns what the headings of a document are linked by: lower case, with
// hyphens for spaces and without punctuation, and with a number from the second on.
func anchors(text string) map[string]bool {
	text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	all, seen := map[string]bool{}, map[string]int{}
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= 0x80 || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(found[1]))
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		all[anchor] = true
	}
	return all
}

// A check that sees nothing would pass everything.
func TestBrokenLinksAreSeen(t *testing.T) {
	document := filepath.Join(t.TempDir(), "a.md")
	for name, text := range map[string]string{
		document:                              "# One heading: `code`!\n\n## Twice\n\n## Twice\n",
		filepath.Join(document, "../code.go"): "package a\n\nvar b int\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "[`a`](code.go) [b](code.go#L3 \"title\") ![c](code.go#L1-L3) [d](#one-heading-code) [e](a.md#twice-1) [f](.)\n" +
		"[g](https://example.com/x) [h]\n\n[h]: code.go\n\n`[no](nowhere)`\n\n```\n[no](nowhere)\n```\n"
	targets := linksOf(text)
	if len(targets) != 8 {
		t.Errorf("the links are %q", targets)
	}
	for _, target := range targets {
		if err := follow(document, target); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, target := range []string{
		"missing.go", "code.go#L4", "code.go#L0", "code.go#L2-L9", "code.go#b", "#two", "a.md#twice-2", ".#x",
		"https://pkg.go.dev/example.com", "//example.com/x", "/code.go", "%zz",
	} {
		if follow(document, target) == nil {
			t.Errorf("%s is taken for good", target)
		}
	}
}
