package target

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/fault"
)

// A browserURL is an http URL as a browser reads it: the WHATWG URL Standard, states from
// "scheme start" to "fragment", for texts without control characters. Hosts are left as
// they are. It is written after the standard and has nothing in common with the package.
type browserURL struct {
	scheme, authority string
	path              []string // segments, decoded
	query             string   // decoded
	hasQuery          bool
}

// browse reads text with base, which may be nil. ok is false for a URL of no use to the package.
func browse(text string, base *browserURL) (u browserURL, ok bool) {
	text = strings.Trim(text, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	slash := func(i int) bool { return i < len(text) && (text[i] == '/' || text[i] == '\\') }
	scheme, i := schemeOf(text)
	switch {
	case scheme == "http" || scheme == "https":
		u.scheme = scheme
		if base != nil && base.scheme == scheme && !(slash(i) && slash(i+1)) {
			return u, false // "special relative": the package wants two slashes
		}
	case scheme != "" || base == nil:
		return u, false
	case slash(0) && slash(1):
		u.scheme = base.scheme
	default:
		return browseRelative(text, base), true
	}
	for slash(i) { // "special authority ignore slashes"
		i++
	}
	start := i
	for i < len(text) && !slash(i) && text[i] != '?' && text[i] != '#' {
		i++
	}
	u.authority = text[start:i]
	u.takePath(text[i:], true)
	return u, u.authority != ""
}

func schemeOf(text string) (scheme string, length int) {
	for i := range len(text) {
		switch c := text[i] | 0x20; {
		case 'a' <= c && c <= 'z':
		case i > 0 && (text[i] >= '0' && text[i] <= '9' || strings.IndexByte("+-.", text[i]) >= 0):
		case i > 0 && text[i] == ':':
			return strings.ToLower(text[:i]), i + 1
		default:
			return "", 0
		}
	}
	return "", 0
}

func browseRelative(text string, base *browserURL) browserURL {
	u := *base
	u.path = slices.Clone(base.path)
	switch {
	case text == "" || text[0] == '#':
	case text[0] == '?':
		u.query, u.hasQuery = "", false
		u.takeQuery(text)
	default:
		u.query, u.hasQuery = "", false
		fromRoot := text[0] == '/' || text[0] == '\\'
		if fromRoot {
			u.path = nil
		} else if len(u.path) > 0 {
			u.path = u.path[:len(u.path)-1]
		}
		u.takePath(text, fromRoot)
	}
	return u
}

// takePath is the states "path start" and "path".
func (u *browserURL) takePath(text string, start bool) {
	if start && text != "" && (text[0] == '/' || text[0] == '\\') {
		text = text[1:]
	}
	buffer := ""
	for i := 0; ; i++ {
		end := i == len(text) || text[i] == '?' || text[i] == '#'
		if !end && text[i] != '/' && text[i] != '\\' {
			buffer += text[i : i+1]
			continue
		}
		switch strings.ReplaceAll(strings.ToLower(buffer), "%2e", ".") {
		case "..":
			if len(u.path) > 0 {
				u.path = u.path[:len(u.path)-1]
			}
			if end {
				u.path = append(u.path, "")
			}
		case ".":
			if end {
				u.path = append(u.path, "")
			}
		default:
			u.path = append(u.path, undo(buffer))
		}
		buffer = ""
		if end {
			u.takeQuery(text[i:])
			return
		}
	}
}

func (u *browserURL) takeQuery(text string) {
	text, _, _ = strings.Cut(text, "#")
	if query, ok := strings.CutPrefix(text, "?"); ok {
		u.query, u.hasQuery = undo(query), true
	}
}

// undo is "percent-decode".
func undo(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// sentAs returns the request target and the Host that are sent for u.
func sentAs(t *testing.T, u *url.URL) (requestTarget, host string) {
	t.Helper()
	var b bytes.Buffer
	req := &http.Request{Method: "GET", URL: u, Host: HostField(u)}
	if err := req.Write(&b); err != nil {
		t.Fatalf("%v cannot be written: %v", u, err)
	}
	line, _, _ := strings.Cut(b.String(), "\r\n")
	words := strings.Split(line, " ")
	if len(words) != 3 {
		t.Fatalf("the request line is %q", line)
	}
	read, err := http.ReadRequest(bufio.NewReader(&b))
	if err != nil {
		t.Fatalf("the request line is %q: %v", line, err)
	}
	for _, word := range append(words, read.Host) {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q of %q, Host %q, is no word", word, line, read.Host)
		}
	}
	return words[1], read.Host
}

// checkSent checks that u is sent as a browser sends it.
func checkSent(t *testing.T, text string, u *url.URL, base *browserURL) {
	t.Helper()
	requestTarget, _ := sentAs(t, u)
	path, query, hasQuery := strings.Cut(requestTarget, "?")
	var segments []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		segments = append(segments, undo(segment))
	}
	want, ok := browse(text, base)
	if !ok {
		t.Fatalf("%q is sent as %q; a browser refuses it", text, requestTarget)
	}
	if u.Scheme != want.scheme || !slices.Equal(segments, want.path) || undo(query) != want.query || hasQuery != want.hasQuery {
		t.Fatalf("%q is sent as %q, a browser has %q and %q", text, requestTarget, want.path, want.query)
	}
}

var oddTexts = []string{
	"http://h/a%2Fb c", "http://h/..%2Fx|", "http://h/?q=a b", "http://h/?q=\"<>", "http://h/100%", "http://h?100%", " http://h/ ",
	"http://h/x\r", "http://@h/", "http://:@h/", "http://[::1]", "http://[0:0:0:0:0:0:0:1]:80", "http://[::ffff:127.0.0.1]/", "http://[fe80::1%25lo]/", "http://[fd80::1%251 ] ",
	"http://h/%2e%2E/a/./b/%2e", "http://h/a/..", "http://h/..//x", "http://h\\a\\..\\b", "http://h/a\\b?c\\d", "http://h#\x00%", "http://h/\xe9\xff",
	"http://h/ü?ü#ü", "http://bücher.example/", "http://b%C3%BCcher.example/", "http://\xff/", "http://xn--\xc3\xbc/", "http://ü.xn--a/", "http://Ú.Xn--0", "http://0x7f.1/", "http://1.2.3.4.5/",
	"http://h/{a}^`[]'()*!", "http://h/?{a}^`[]'()*!\\", "http://u p:%@h/", "http://u\\x@h/", "http://h\\@g/", "HTTP://H:080/", "http://h:/", "http://a%25b/", "http://a%41/",
	"http://h//", "http://h///..", "http://h/.a/..b/...", "http://h/.%2e%2e", "http://h/%2", "http://h/%%41", "http://h/??", "http://h/?", "https://h.", "http://h..", "http://./",
	"//g/x", "\\\\g\\x", "/\\g/x", "///x", "//", "//?y", "?y", "#z", "", "x", "../x", "..", ".", "/..", "x:y", "./x:y", "1:2", "é:x", "http:x", "https:x", "?\\", "\\x", " /x ",
}

// FuzzSpelling compares the request for a text, be it an input, a Location or the URL of a
// request, with that of a browser.
func FuzzSpelling(f *testing.F) {
	for _, text := range oddTexts {
		f.Add(text)
	}
	base, err := Parse("http://a.example/b/c%2Fd/e?f=g")
	if err != nil {
		f.Fatal(err)
	}
	baseOfBrowser, _ := browse(base.String(), nil)
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := Parse(text); err == nil {
			checkSent(t, text, u, nil)
			checkAgain(t, text, u)
		} else if !errors.Is(err, fault.ErrInvalidURL) {
			t.Fatal(err)
		}
		if u, _, err := Resolve(base, text); err == nil {
			if !isNetHTTPs(text) {
				checkSent(t, text, u, &baseOfBrowser)
			}
			if u.User != nil {
				t.Fatalf("%q has user information", text)
			}
		} else if !errors.Is(err, fault.ErrInvalidURL) {
			t.Fatal(err)
		}
	})
}

// FuzzRequestURL has URLs that were made by hand.
func FuzzRequestURL(f *testing.F) {
	f.Add("h", "/a b", "/a%20b", "c d", "")
	f.Add("[::1]:80", "*", "", "", "/x y")
	f.Add("h", "", "", "", "//u@h/x")
	f.Add("h", "", "", "", "//%80")
	f.Add("h", "", "", "", "//[fe80::1%251 ]/")
	f.Add("h", "a\\b\x00", "a\\b\x00", "#\r\n", "*")
	f.Fuzz(func(t *testing.T, host, path, rawPath, query, opaque string) {
		given := url.URL{Scheme: "http", Host: host, Path: path, RawPath: rawPath, RawQuery: query, Opaque: opaque}
		u := given
		clean, err := Clean(&u, http.MethodOptions)
		if u != given {
			t.Fatalf("%+v is now %+v", given, u)
		}
		if err != nil {
			if !errors.Is(err, fault.ErrInvalidURL) {
				t.Fatal(err)
			}
			return
		}
		sent, _ := sentAs(t, clean)
		again, err := Clean(clean, http.MethodOptions)
		if err != nil || *again != *clean {
			t.Fatalf("%+v is clean as %+v, and that as %+v, %v", given, clean, again, err)
		}
		if opaque == "" && path != "*" && path != "" {
			got, _, _ := strings.Cut(sent, "?")
			want := checkedPath(path)
			if rawPath == "" && undo(got) != want {
				t.Fatalf("the path %q is sent as %q", path, got)
			}
		}
	})
}

// checkedPath is a decoded path as a browser has it.
func checkedPath(path string) string {
	u := browserURL{}
	u.takePath((&url.URL{Path: "/" + strings.TrimPrefix(path, "/")}).EscapedPath(), true)
	return "/" + strings.Join(u.path, "/")
}

// isNetHTTPs reports whether a reference has an empty authority, in which Resolve is as net/http.
func isNetHTTPs(reference string) bool {
	rest := strings.ReplaceAll(strings.Trim(reference, blanks), "\\", "/")
	authority, ok := strings.CutPrefix(rest, "//")
	return ok && (authority == "" || strings.IndexByte("/?#", authority[0]) >= 0)
}

// checkAgain checks that a text, its FinalURL, the same URL from net/url and the key of WithDedup
// are all sent alike.
func checkAgain(t *testing.T, text string, u *url.URL) {
	t.Helper()
	want, wantHost := sentAs(t, u)
	check := func(what string, again *url.URL, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%q: %s: %v", text, what, err)
		}
		got, host := sentAs(t, again)
		if got != want || again.Scheme != u.Scheme || dialled(again) != dialled(u) {
			t.Fatalf("%q: %s is sent as %q to %q, the text as %q to %q", text, what, got, host, want, wantHost)
		}
	}
	again, err := Parse(Plain(u))
	check("FinalURL", again, err)
	if err == nil && Plain(again) != Plain(u) {
		t.Fatalf("%q: %q, then %q", text, Plain(u), Plain(again))
	}
	again, err = Clean(u, http.MethodOptions)
	check("Clean", again, err)
	again, err = Parse(Distinct(text))
	check("Distinct", again, err)
	if again.User.String() != u.User.String() || Distinct(text) != Distinct(Distinct(text)) {
		t.Fatalf("%q: Distinct is %q", text, Distinct(text))
	}
	// net/url does not tell a blank before an empty fragment from one at the end.
	if theirs, err := url.Parse(strings.TrimLeft(text, blanks)); err == nil && !strings.Contains(text, " #") {
		before := *theirs
		again, err = Clean(theirs, http.MethodOptions)
		check("net/url", again, err)
		if *theirs != before {
			t.Fatalf("%q: Clean changed its argument", text)
		}
	}
}
