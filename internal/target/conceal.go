package target

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
)

// Conceal returns err with a text that shows neither user information nor query nor
// fragment of a URL, whoever wrote it.
func Conceal(err error, rawURL string) error {
	if !strings.ContainsAny(rawURL, "?#@") {
		return err
	}
	return &concealed{err, rawURL}
}

// A concealed looks for the secrets when its text is asked for: few are.
type concealed struct {
	err    error
	rawURL string
}

func (c *concealed) Error() string { return c.Show(nil) }
func (c *concealed) Unwrap() error { return c.err }

// Show is that of package fault.
func (c *concealed) Show(cut fault.Cut) string {
	pairs := 1 + strings.Count(c.rawURL, "&") + strings.Count(c.rawURL, ";")
	var secrets []hiddenPart
	if pairs <= mostPairs {
		secrets = secretsOf(c.rawURL)
	}
	return fault.Show(c.err, func(text string) string {
		if pairs > mostPairs || pairs*len(text) > mostCompared {
			return hidden
		}
		for _, s := range secrets {
			text = s.cutOut(text)
		}
		if cut != nil {
			text = cut(text)
		}
		return text
	})
}

// A hiddenPart is a part of a URL as a text may have it. One that is not sure to be there for
// the sake of the URL must stand as a word.
type hiddenPart struct {
	text  string
	word  bool
	begin string // of text, which is left
}

const (
	longSecret  = 6 // that is not in a text by chance
	shortSecret = 3 // that may be, as a word
	hidden      = "..."

	// Each secret is looked for in the whole text. A text that would take long is not shown.
	mostPairs    = 1000
	mostCompared = 4 << 20
)

// secretsOf returns the secrets of a URL, the longest first, which may have others in them.
func secretsOf(rawURL string) []hiddenPart {
	var s secrets
	rest, fragment, _ := strings.Cut(strings.Trim(rawURL, blanks), "#")
	rest, query, _ := strings.Cut(rest, "?")
	s.addWhole("#", fragment)
	s.addWhole("?", query)
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		key, value, _ := strings.Cut(pair, "=")
		s.addWord(value)
		if value != "" {
			s.add(pair, true)
			s.add(unescaped(pair), true)
		}
		if value == "" || len(key) >= longSecret {
			s.addWord(key)
		}
	}
	if user := userOf(rest); user != "" {
		s.addUser(user)
	}
	slices.SortStableFunc(s.all, func(a, b hiddenPart) int { return cmp.Compare(len(b.text), len(a.text)) })
	return s.all
}

// userOf returns the user information of a URL, as far as there is any.
func userOf(rest string) string {
	if _, after, ok := strings.Cut(rest, "//"); ok {
		rest = after
	}
	if i := strings.IndexAny(rest, "/\\"); i >= 0 {
		rest = rest[:i]
	}
	return rest[:max(strings.LastIndexByte(rest, '@'), 0)]
}

type secrets struct{ all []hiddenPart }

func (s *secrets) add(text string, word bool) {
	if text != "" {
		s.all = append(s.all, hiddenPart{text: text, word: word})
	}
}

// addWhole adds a part of a URL with the character that begins it.
func (s *secrets) addWhole(begin, part string) {
	if part == "" {
		return
	}
	for _, form := range formsOf(part) {
		s.all = append(s.all, hiddenPart{text: begin + form, begin: begin})
	}
	s.addWord(part)
}

// addWord adds a part in all its forms, unless it is too short to tell anything.
func (s *secrets) addWord(part string) {
	for _, form := range formsOf(part) {
		if len(form) >= shortSecret {
			s.add(form, len(form) < longSecret)
		}
	}
}

// addUser adds user information, in the form too in which it is sent.
func (s *secrets) addUser(user string) {
	name, password, _ := strings.Cut(user, ":")
	for _, form := range formsOf(user) {
		s.add(form+"@", false)
	}
	s.addWord(user)
	s.addWord(name)
	s.addWord(password)
	s.addWord(base64.StdEncoding.EncodeToString([]byte(decoded(name) + ":" + decoded(password))))
}

// formsOf returns a part of a URL as it is, as it is sent, decoded, encoded anew, and quoted.
func formsOf(part string) []string {
	plain := unescaped(part)
	forms := []string{part, spellQuery(part), plain, decoded(part), url.QueryEscape(plain), url.QueryEscape(part), url.PathEscape(plain), quoted(part), quoted(plain),
		strings.ReplaceAll(part, "&", `\u0026`), strings.ReplaceAll(part, "&", "&amp;")}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// unescaped returns a part of a query decoded.
func unescaped(part string) string { return decoded(strings.ReplaceAll(part, "+", " ")) }

func quoted(part string) string {
	q := strconv.QuoteToASCII(part)
	return q[1 : len(q)-1]
}

// cutOut returns a text without the secret, in upper or lower case.
func (s hiddenPart) cutOut(text string) string {
	lower, wanted := strings.ToLower(text), strings.ToLower(s.text)
	if len(lower) != len(text) || len(wanted) != len(s.text) {
		lower, wanted = text, s.text // letters whose cases differ in length
	}
	var b strings.Builder
	begin := 0
	for at := 0; ; {
		i := strings.Index(lower[at:], wanted)
		if i < 0 {
			break
		}
		i += at
		end := i + len(wanted)
		if s.word && (continues(text, i-1) || continues(text, end)) {
			at = i + 1
			continue
		}
		b.WriteString(text[begin:i] + s.begin + hidden)
		begin, at = end, end
	}
	if begin == 0 {
		return text
	}
	return b.String() + text[begin:]
}

// continues reports whether the byte at i belongs to a word.
func continues(text string, i int) bool {
	return 0 <= i && i < len(text) && (isAlphanumeric(text[i]) || text[i] >= 0x80)
}
