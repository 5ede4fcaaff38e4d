package h1

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// byNetHTTP returns the head of a request as net/http writes it.
func byNetHTTP(req *http.Request) ([]byte, error) {
	var b bytes.Buffer
	err := req.Write(&b)
	return b.Bytes(), err
}

// sorted returns the lines of a head, those behind the first in order.
func sorted(head []byte) []string {
	lines := strings.SplitAfter(string(head), "\r\n")
	if len(lines) > 3 {
		slices.Sort(lines[1 : len(lines)-2])
	}
	return lines
}

// checkHead checks what a Head makes of a request, and returns whether it takes it.
func checkHead(t *testing.T, req *http.Request) bool {
	t.Helper()
	var h Head
	want, err := byNetHTTP(req)
	if !h.Write(req) {
		if err == nil && !mayRefuse(req, want) {
			t.Errorf("refused without a reason: %q", want)
		}
		return false
	}
	if err != nil {
		t.Fatalf("net/http refuses: %v", err)
	}
	if !slices.Equal(sorted(h.bytes), sorted(want)) {
		t.Errorf("got %q, want %q", h.bytes, want)
	}
	first := bytes.Clone(h.bytes)
	if !h.Write(req) || !bytes.Equal(h.bytes, first) {
		t.Errorf("the second time it is %q", h.bytes)
	}
	return true
}

// mayRefuse reports whether a request is one of those that the comment on Head.Write has. text is
// that of net/http.
func mayRefuse(req *http.Request, text []byte) bool {
	//lint:ignore SA1019 callers may still set it
	if hasBody(req) || req.Cancel != nil || req.Header["Connection"] != nil || req.Header["Upgrade"] != nil ||
		req.Method == http.MethodConnect || req.URL.Opaque != "" || len(text) > maxRequest {
		return true
	}
	target := req.URL.RequestURI()
	if !strings.HasPrefix(target, "/") && target != "*" && !strings.HasPrefix(target, "*?") || !isVisible(target) {
		return true
	}
	if !isHost(cmp.Or(req.Host, req.URL.Host)) {
		return true
	}
	// Otherwise net/http's text lacks something of what was given, or its Transport refuses it.
	if !isToken(cmp.Or(req.Method, "GET")) {
		return true
	}
	for name, values := range req.Header {
		for _, value := range values {
			if !isToken(name) || !isFieldValue(value) {
				return true
			}
		}
		if !isToken(name) {
			return true
		}
	}
	return false
}

func FuzzHead(f *testing.F) {
	for _, rawURL := range []string{"http://a.example/", "http://A.example:8080/a%2Fb?q=1#f", "http://[::1]:80", "https://a.example?", "http://a.example//x", "http://a/*", "http:opaque", "http://a/ä?ä", "http://u:p@a.example/%zz"} {
		for _, method := range []string{"", "GET", "POST", "PUT", "get", "CONNECT", "B A D", "OPTIONS"} {
			f.Add(method, rawURL, "", "X-A", "b", byte(0))
		}
	}
	for _, field := range [][2]string{
		{"Host", "b.example"}, {"host", "b.example"}, {"User-Agent", "me"}, {"User-Agent", ""}, {"User-Agent", " "}, {"User-Agent", "a\nb"}, {"Content-Length", "5"}, {"content-length", "5"},
		{"Transfer-Encoding", "chunked"}, {"Trailer", "X"}, {"Connection", "close"}, {"connection", "close"}, {"Upgrade", "x"}, {"X", " a\t"}, {"X", "a\r\nb: c"},
		{"X", "\x00"}, {"X", "\x7f"}, {"X", "ä\xff"}, {"X ", "a"}, {"", "a"}, {"X:", "a"}, {"X", ""}, {"X", strings.Repeat("y", 17<<10)}, {"Expect", "100-continue"},
	} {
		for flags := range byte(8) {
			f.Add("GET", "http://a.example/", "", field[0], field[1], flags)
		}
	}
	for _, host := range []string{"b.example", "B.example:81", "bücher.example", "b\r\nX: y", "[fe80::1%25lo]", "b c", "b/c", "127.0.0.1", "a_b"} {
		f.Add("GET", "http://a.example/", host, "A", "b", byte(3))
	}
	f.Fuzz(func(t *testing.T, method, rawURL, host, name, value string, flags byte) {
		u, err := url.Parse(rawURL)
		if err != nil || u.Host == "" && u.Opaque == "" {
			t.Skip("no URL of a request")
		}
		req := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{name: {value}}, ProtoMajor: 1, ProtoMinor: 1}
		if flags&1 != 0 {
			req.Header["Z"], req.Header["M"] = []string{"1", "2"}, []string{}
		}
		if flags&2 != 0 {
			req.Header["User-Agent"] = []string{"me", "and me"}
		}
		req.Close = flags&4 != 0
		if req.Close && req.Header["Connection"] == nil && strings.EqualFold(name, "connection") {
			t.Skip("two fields of net/http's and of ours")
		}
		checkHead(t, req)
	})
}

func TestRequestsThatAreNotTaken(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"a body":            func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) },
		"a length":          func(r *http.Request) { r.ContentLength = 1 },
		"an unknown length": func(r *http.Request) { r.ContentLength = -1 },
		"an encoding":       func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"a trailer":         func(r *http.Request) { r.Trailer = http.Header{"X": nil} },
		//lint:ignore SA1019 callers may still set it
		"a Cancel channel":     func(r *http.Request) { r.Cancel = make(chan struct{}) },
		"Connection":           func(r *http.Request) { r.Header.Set("Connection", "close") },
		"Upgrade":              func(r *http.Request) { r.Header.Set("Upgrade", "h2c") },
		"CONNECT":              func(r *http.Request) { r.Method = "CONNECT" },
		"a method of no token": func(r *http.Request) { r.Method = "G T" },
		"an opaque URL":        func(r *http.Request) { r.URL.Opaque = "//b.example/x" },
		"a query with a space": func(r *http.Request) { r.URL.RawQuery = "a b" },
		"a line in a query":    func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" },
		"a host with a line":   func(r *http.Request) { r.Host = "b\r\nX: y" },
		"a host beyond ASCII":  func(r *http.Request) { r.Host = "bücher.example" },
		"a zone":               func(r *http.Request) { r.Host = "[fe80::1%25lo]" },
		"a name of no token":   func(r *http.Request) { r.Header["X Y"] = []string{"z"} },
		"a line in a value":    func(r *http.Request) { r.Header["X"] = []string{"a\nb"} },
		"a long value":         func(r *http.Request) { r.Header["X"] = []string{strings.Repeat("y", maxRequest)} },
	} {
		req, _ := newRequest(t, "GET")
		change(req)
		if new(Head).Write(req) {
			t.Errorf("a request with %s is taken", name)
		}
	}
}

func TestAHeadMayBeAsLongAsTheLimitAndNoLonger(t *testing.T) {
	req, h := newRequest(t, "GET")
	rest := maxRequest - len(h.bytes) - len("X: \r\n")
	for n, fits := range map[int]bool{rest: true, rest + 1: false} {
		req.Header["X"] = []string{strings.Repeat("y", n)}
		if h.Write(req) != fits {
			t.Errorf("%d bytes fit: %v", len(h.bytes), !fits)
		}
		if h.Reset(); cap(h.bytes) != 0 {
			t.Errorf("a buffer of %d is kept", cap(h.bytes))
		}
	}
}

// The bytes of a kept buffer cost no allocation.
func TestAHeadTakesNoMemoryAgain(t *testing.T) {
	req, h := newRequest(t, "GET")
	req.Header = http.Header{"Accept": {"*/*"}, "X": {"a", "b"}}
	h.Write(req)
	if n := testing.AllocsPerRun(100, func() {
		h.Write(req)
		h.Reset()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
