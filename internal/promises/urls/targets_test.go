package urls_test

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A text is that of a URL around its host, and the request target to be sent for it.
type text struct {
	number        int // of the row in the list of tried URLs; 0: of the same kind as one of these
	name          string
	before, after string // before: "http://" if empty
	target        string // "": it is refused
}

var texts = []text{
	{number: 1, name: "an escaped slash beside a blank", after: "/a%2Fb c", target: "/a%2Fb%20c"},
	{name: "escapes beside each byte that is in no path", after: "/%2F\"<>^`{|}", target: "/%2F%22%3C%3E%5E%60%7B%7C%7D"},
	{name: "an escaped ? and # beside UTF-8", after: "/%3f%23é", target: "/%3f%23%C3%A9"},
	{name: "an escaped % beside a blank", after: "/%25 %2525", target: "/%25%20%2525"},
	{number: 2, name: "an escaped slash behind dots", after: "/..%2Fx|", target: "/..%2Fx%7C"},
	{name: "dot segments", after: "/a/../b/./c", target: "/b/c"},
	{name: "escaped dot segments", after: "/a/%2e%2E/b/.%2e/c/%2e", target: "/c/"},
	{number: 3, name: "an escaped backslash", after: "/a%5Cb", target: "/a%5Cb"},
	{number: 3, name: "an escaped star", after: "/gal%2Agun", target: "/gal%2Agun"},
	{number: 3, name: "an escaped #", after: "/c%23-x", target: "/c%23-x"},
	{number: 3, name: "escapes in lower case", after: "/gru%cc%88n", target: "/gru%cc%88n"},
	{name: "an escaped letter", after: "/%41?%41", target: "/%41?%41"},
	{name: "what may be in a path", after: "/-._~!$&'()*+,;=:@[]", target: "/-._~!$&'()*+,;=:@[]"},
	{name: "empty segments", after: "//a///b/", target: "//a///b/"},
	{name: "a backslash", after: `/a\b\..\c`, target: "/a/c"},
	{number: 4, name: "a blank in a query", after: "/?q=a b", target: "/?q=a%20b"},
	{name: "a query without a path", after: "?q=a b", target: "/?q=a%20b"},
	{name: "an empty query", after: "/?", target: "/?"},
	{name: "a second ?", after: "/??a b?", target: "/??a%20b?"},
	{number: 5, name: "UTF-8 in a query", after: "/?q=ä", target: "/?q=%C3%A4"},
	{number: 5, name: "quotes in a query", after: "/?q=\"<>", target: "/?q=%22%3C%3E"},
	{name: "each byte that is in no query", after: "/?^`{|}\\", target: "/?%5E%60%7B%7C%7D%5C"},
	{name: "what may be in a query", after: "/?a[]=1&-._~!$'()*+,;:@/?", target: "/?a[]=1&-._~!$'()*+,;:@/?"},
	{name: "UTF-8 in a path", after: "/ä/€/😀", target: "/%C3%A4/%E2%82%AC/%F0%9F%98%80"},
	{name: "Latin-1", after: "/caf\xe9?\xfc", target: "/caf%E9?%FC"},
	{number: 6, name: "a lone %", after: "/100%", target: "/100%25"},
	{number: 6, name: "a lone % in a query", after: "/?100%", target: "/?100%"},
	{name: "a lone % before letters", after: "/50%off/%zz/%2", target: "/50%25off/%25zz/%252"},
	{name: "a lone % before letters in a query", after: "/?50%off&%zz&%2", target: "/?50%off&%zz&%2"},
	{name: "a fragment", after: "/a#b", target: "/a"},
	{name: "a lone % in a fragment", after: "/a#100%", target: "/a"},
	{name: "anything in a fragment", after: "/a?b#c d\"é\\%?#", target: "/a?b"},
	{number: 7, name: "a blank before", before: " http://", after: "/x", target: "/x"},
	{number: 7, name: "a blank behind", after: "/x ", target: "/x"},
	{number: 7, name: "a carriage return behind", after: "/x\r", target: "/x"},
	{name: "blanks and line ends around", before: "\r\n\t http://", after: "/?x \t\f\r\n", target: "/?x"},
	{name: "a blank before a fragment", after: "/x #y", target: "/x%20"},
	{number: 8, name: "a tab within", after: "/a\tb"},
	{number: 8, name: "a zero byte within", after: "/a\x00b"},
	{name: "a line end within", after: "/a\r\nX: y"},
	{name: "a control character in a query", after: "/?a\x1bb"},
	{name: "DEL", after: "/a\x7fb"},
	{name: "a zero byte behind", after: "/a\x00"},
	{name: "a scheme in capitals", before: "HTTP://", after: "/x", target: "/x"},
}

func TestWhatIsSentForAText(t *testing.T) {
	for _, text := range texts {
		if text.before == "" {
			text.before = "http://"
		}
		for _, way := range ways {
			t.Run(text.name+"/"+way.name, func(t *testing.T) {
				w, r, ok := way.send(t, text.before, text.after)
				if !ok {
					t.Skip("cannot come this way")
				}
				if text.target == "" {
					checkRefused(t, w, r)
					return
				}
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				target, header := w.last(t)
				if target != text.target {
					t.Errorf("the target is %q, want %q", target, text.target)
				}
				if header.Get("Host") != w.host() {
					t.Errorf("the Host is %q, want %q", header.Get("Host"), w.host())
				}
				checkFinalURL(t, w, r, text.target)
			})
		}
	}
}

// checkRefused checks that a text was not sent, and is said to be invalid.
func checkRefused(t *testing.T, w *wire, r fetch.Result) {
	t.Helper()
	if !errors.Is(r.Err, fetch.ErrInvalidURL) && !errors.Is(r.Err, fetch.ErrRedirect) {
		t.Errorf("got %v", r.Err)
	}
	for _, head := range w.take() {
		if !strings.HasPrefix(head, "GET /start ") {
			t.Errorf("sent %q", head)
		}
	}
}

// checkFinalURL checks that FinalURL has the target that was sent. An empty path is sent as a slash.
func checkFinalURL(t *testing.T, w *wire, r fetch.Result, target string) {
	t.Helper()
	final := strings.TrimPrefix(r.FinalURL, w.rawURL)
	if !strings.HasPrefix(final, "/") {
		final = "/" + final
	}
	if final != target {
		t.Errorf("FinalURL is %q, and the target was %q", r.FinalURL, target)
	}
}

// Number 10.
func TestFinalURLIsWhatWasSentWithoutARedirectToo(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			w, r, ok := way.send(t, "http://", "/a b#c")
			if !ok || r.FinalURL != w.rawURL+"/a%20b" || r.URL == r.FinalURL {
				t.Errorf("FinalURL is %q, URL %q, %v", r.FinalURL, r.URL, r.Err)
			}
		})
	}
}

// Only OPTIONS asks for all of a server (RFC 9112, section 3.2.4). Otherwise * is the path that the text
// of the URL has.
func TestAStarIsAPathButForOptions(t *testing.T) {
	for method, want := range map[string]string{"OPTIONS": "*", "GET": "/*", "": "/*", "HEAD": "/*", "POST": "/*"} {
		w := newWire(t, nil)
		req := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: w.host(), Path: "*"}, Header: http.Header{}}
		r := fetchtest.SendOne(t, req)
		if r.Err != nil || r.FinalURL != w.rawURL+strings.TrimPrefix(want, "*") {
			t.Errorf("%s: FinalURL %q, %v", method, r.FinalURL, r.Err)
		}
		if heads := w.take(); len(heads) != 1 || strings.Fields(heads[0])[1] != want {
			t.Errorf("%s: sent %q", method, heads)
		}
		r = fetchtest.SendOne(t, fetchtest.NewRequest(t, cmp.Or(method, "GET"), w.rawURL, nil), fetch.WithRequestFunc(func(r *http.Request) error {
			r.URL = req.URL
			return nil
		}))
		if heads := w.take(); r.Err != nil || len(heads) != 1 || strings.Fields(heads[0])[1] != want {
			t.Errorf("%s by a RequestFunc: %v, sent %q", method, r.Err, heads)
		}
	}
}

// An Opaque goes out as it is, and no request target has a fragment.
func TestAnOpaqueWithAFragmentIsInvalid(t *testing.T) {
	for _, opaque := range []string{"/a#b", "/#", "//HOST/a#b", "http://HOST/?q#" + fetchtest.Canary} {
		w := newWire(t, nil)
		u := &url.URL{Scheme: "http", Host: w.host(), Opaque: strings.ReplaceAll(opaque, "HOST", w.host())}
		r := fetchtest.SendOne(t, &http.Request{URL: u, Header: http.Header{}})
		checkRefused(t, w, r)
		if r.Attempts != 0 {
			t.Errorf("%q took %d attempts", opaque, r.Attempts)
		}
		r = fetchtest.GetOne(t, w.rawURL, fetch.WithRequestFunc(func(req *http.Request) error {
			req.URL = u
			return nil
		}))
		checkRefused(t, w, r)
		fetchtest.CheckNoSecret(t, []fetch.Result{r})
	}
}

// It is a URL for a request target too that is none (RFC 9112, section 3.3).
func TestFinalURLIsTheURLThatWasAskedFor(t *testing.T) {
	for _, test := range []struct {
		u    url.URL
		want string // of OPTIONS
	}{
		{url.URL{Path: "*"}, "http://h"},
		{url.URL{Opaque: "*"}, "http://h"},
		{url.URL{Opaque: "/a%2Fb", RawQuery: "c"}, "http://h/a%2Fb?c"},
		{url.URL{Opaque: "//other.example/a", RawQuery: "c"}, "http://other.example/a?c"},
		{url.URL{Opaque: "http://other.example/a", RawQuery: "c"}, "http://other.example/a?c"},
	} {
		test.u.Scheme, test.u.Host = "http", "h"
		r := fetchtest.SendOne(t, &http.Request{Method: "OPTIONS", URL: &test.u, Header: http.Header{}}, fetchtest.Over(fetchtest.AtOnce))
		if r.Err != nil || r.FinalURL != test.want {
			t.Errorf("%q: %q, %v", test.u.RequestURI(), r.FinalURL, r.Err)
		}
	}
}

// A proxy gets the same, behind scheme and host.
func TestAProxyIsAskedForTheSame(t *testing.T) {
	w := newWire(t, nil)
	proxy, err := url.Parse(w.rawURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	t.Cleanup(transport.CloseIdleConnections)
	for _, text := range texts {
		if text.before != "" || text.target == "" {
			continue
		}
		r := fetchtest.GetOne(t, "http://u:p@bücher.example"+text.after, fetch.WithClient(fetchtest.NewClient(transport)))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if target, _ := w.last(t); target != "http://xn--bcher-kva.example"+text.target {
			t.Errorf("%s: the proxy was asked for %q", text.name, target)
		}
	}
}
