package urls_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A wire is a server that keeps the heads of requests as they came.
type wire struct {
	rawURL string
	mu     sync.Mutex
	heads  []string
}

// newWire starts a server that answers "/start" with a redirect, if there is a Location to
// answer with, and all else with 200.
func newWire(t *testing.T, location func(rawURL string) string) *wire {
	w := &wire{}
	w.rawURL = fetchtest.Listen(t, func(conn net.Conn, head string) {
		w.mu.Lock()
		w.heads = append(w.heads, head)
		w.mu.Unlock()
		if location != nil && strings.HasPrefix(head, "GET /start ") {
			io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: "+location(w.rawURL)+"\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(conn, fetchtest.WithLength("ok"))
	})
	return w
}

// take returns the heads that came since the last call.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	heads := w.heads
	w.heads = nil
	return heads
}

func (w *wire) host() string { return strings.TrimPrefix(w.rawURL, "http://") }

// last returns the target of the last request, and its header.
func (w *wire) last(t *testing.T) (target string, header http.Header) {
	t.Helper()
	heads := w.take()
	if len(heads) == 0 {
		t.Fatal("nothing was sent")
	}
	line, rest, _ := strings.Cut(heads[len(heads)-1], "\r\n")
	words := strings.Split(line, " ")
	if len(words) != 3 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		t.Fatalf("the request line is %q", line)
	}
	header = http.Header{}
	for field := range strings.SplitSeq(strings.TrimSpace(rest), "\r\n") {
		name, value, _ := strings.Cut(field, ": ")
		header.Add(name, value)
	}
	return words[1], header
}

// A way is one of the ways for a text to become a request. It reports false for a text that
// cannot go it.
type way struct {
	name string
	send func(t *testing.T, before, after string) (w *wire, r fetch.Result, ok bool)
}

// ways are all ways for a URL of a text before its host, and one behind it.
var ways = []way{
	{"FetchAll", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, nil)
		return w, fetchtest.GetOne(t, before+w.host()+after), true
	}},
	{"Stream", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, nil)
		given := []string{before + w.host() + after}
		return w, fetchtest.Collect(t, given, fetch.Stream(t.Context(), slices.Values(given)))[0], true
	}},
	{"FetchAll, a client", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, nil)
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		return w, fetchtest.GetOne(t, before+w.host()+after, fetch.WithClient(fetchtest.NewClient(transport))), true
	}},
	{"DoAll", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, nil)
		u, err := url.Parse(before + w.host() + after)
		if err != nil {
			return nil, fetch.Result{}, false
		}
		req := &http.Request{URL: u, Header: http.Header{}}
		kept := fetchtest.SnapshotOf(req)
		r := fetchtest.SendOne(t, req)
		if *req.URL != kept.URL {
			t.Errorf("the URL of the request is now %v", req.URL)
		}
		return w, r, true
	}},
	{"a RequestFunc", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, nil)
		u, err := url.Parse(before + w.host() + after)
		if err != nil {
			return nil, fetch.Result{}, false
		}
		return w, fetchtest.GetOne(t, w.rawURL, fetch.WithRequestFunc(func(req *http.Request) error {
			req.URL = u
			return nil
		})), true
	}},
	{"a Location", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		return followed(t, before+after, func(rawURL string) string {
			return before + strings.TrimPrefix(rawURL, "http://") + after
		})
	}},
	{"a Location without host", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		if strings.TrimSpace(before) != "http://" || !strings.HasPrefix(after, "/") || strings.HasPrefix(after, "//") {
			return nil, fetch.Result{}, false
		}
		return followed(t, after, func(string) string { return strings.TrimSuffix(before, "http://") + after })
	}},
	{"a CheckRedirect", func(t *testing.T, before, after string) (*wire, fetch.Result, bool) {
		w := newWire(t, func(string) string { return "/" })
		u, err := url.Parse(before + w.host() + after)
		if err != nil {
			return nil, fetch.Result{}, false
		}
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		client := fetchtest.NewClient(transport)
		client.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
			req.URL = u
			return nil
		}
		return w, fetchtest.GetOne(t, w.rawURL+"/start", fetch.WithClient(client)), true
	}},
}

// followed fetches a URL that redirects to a text, unless net/http has that in no header.
func followed(t *testing.T, text string, location func(rawURL string) string) (*wire, fetch.Result, bool) {
	if strings.ContainsFunc(strings.Trim(text, " \t\r\n\f"), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return nil, fetch.Result{}, false
	}
	w := newWire(t, func(rawURL string) string { return strings.Trim(location(rawURL), "\r\n\f") })
	return w, fetchtest.GetOne(t, w.rawURL+"/start"), true
}
