package urls_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Number 13, and others: where a Location leads to from http://a.example:81/b%2Fc/d?e=f.
var locations = []struct{ name, location, want string }{
	{"raw UTF-8", "/ü", "http://a.example:81/%C3%BC"},
	{"raw UTF-8 and relative", "ü/x", "http://a.example:81/b%2Fc/%C3%BC/x"},
	{"raw UTF-8 before a colon", "Spécial:Page", "http://a.example:81/b%2Fc/Sp%C3%A9cial:Page"},
	{"Latin-1", "/caf\xe9?\xe9", "http://a.example:81/caf%E9?%E9"},
	{"blanks around", " \t/x ", "http://a.example:81/x"},
	{"a host", "//b.example/x y", "http://b.example/x%20y"},
	{"a host and no path", "//b.example", "http://b.example"},
	{"a host behind backslashes", `\\b.example\x`, "http://b.example/x"},
	{"a host behind a slash and a backslash", `/\b.example`, "http://b.example"},
	{"a query", "?x", "http://a.example:81/b%2Fc/d?x"},
	{"a query with blanks", "?x y=\"ä\"", "http://a.example:81/b%2Fc/d?x%20y=%22%C3%A4%22"},
	{"an empty query", "?", "http://a.example:81/b%2Fc/d?"},
	{"a fragment", "#x%", "http://a.example:81/b%2Fc/d?e=f"},
	{"a lone %", "100%", "http://a.example:81/b%2Fc/100%25"},
	{"an escaped slash", "a%2Fb c", "http://a.example:81/b%2Fc/a%2Fb%20c"},
	{"an escaped slash behind dots", "..%2Fx", "http://a.example:81/b%2Fc/..%2Fx"},
	{"dot segments", "../x/./y", "http://a.example:81/x/y"},
	{"escaped dot segments", "%2e%2E/x/%2e", "http://a.example:81/x/"},
	{"dot segments before an empty one", "/..//x", "http://a.example:81//x"},
	{"backslashes", `\x\..\y`, "http://a.example:81/y"},
	{"a lone % in a query", "/?100%", "http://a.example:81/?100%"},
	{"a lone % in a fragment", "/x#100%", "http://a.example:81/x"},
	{"capitals", "HTTP://b.example/X y", "http://b.example/X%20y"},
	{"user information", "http://u:p@b.example/", "http://b.example/"},
	{"an address", "http://[0::1]:82/", "http://[::1]:82/"},
}

// movedOnce answers the first request with a redirect, with so many Location fields.
func movedOnce(locations ...string) fetchtest.RoundTripFunc {
	var sent atomic.Int32
	return func(req *http.Request) (*http.Response, error) {
		if sent.Add(1) > 1 {
			return fetchtest.Respond(req, 200, "ok"), nil
		}
		resp := fetchtest.Respond(req, 302, "")
		resp.Header["Location"] = locations
		return resp, nil
	}
}

func TestALocationLeadsToWhatWasMeant(t *testing.T) {
	const start = "http://a.example:81/b%2Fc/d?e=f"
	for _, test := range locations {
		t.Run(test.name, func(t *testing.T) {
			var log fetchtest.Recorder
			r := fetchtest.GetOne(t, start, fetch.WithMaxRedirects(1), fetchtest.Over(log.Over(movedOnce(test.location, "http://second.example/"))))
			sent := log.Take()
			if r.Err != nil || r.FinalURL != test.want || len(sent) != 2 || sent[1].URL != test.want {
				t.Errorf("FinalURL is %q, %v; sent %v", r.FinalURL, r.Err, sent)
			}
		})
	}
}

// The base of a Location is the target URI of the request (RFC 9112, section 3.3): an Opaque and the
// * of OPTIONS are not the Path of their URL. want is the target, or "" for ErrRedirect.
func TestARelativeLocationAfterAnOddTarget(t *testing.T) {
	for _, test := range []struct {
		name     string
		u        url.URL
		location string
		want     string
	}{
		{"all of the server", url.URL{Path: "*"}, "x", "/x"},
		{"all of the server", url.URL{Path: "*"}, "/x", "/x"},
		{"all of the server", url.URL{Path: "*"}, "?q", "/?q"},
		{"all of the server", url.URL{Path: "*"}, "#f", "/"},
		{"all of the server", url.URL{Path: "*"}, "../x", "/x"},
		{"all of the server, opaque", url.URL{Opaque: "*"}, "x", "/x"},
		{"all of the server, opaque", url.URL{Opaque: "*"}, "?q", "/?q"},
		{"all of the server, opaque", url.URL{Opaque: "*"}, "#f", "/"},
		{"an opaque path", url.URL{Opaque: "/a/b%2Fc"}, "x", "/a/x"},
		{"an opaque path", url.URL{Opaque: "/a/b%2Fc"}, "?q", "/a/b%2Fc?q"},
		{"an opaque path", url.URL{Opaque: "/a/b%2Fc", RawQuery: "p"}, "#f", "/a/b%2Fc?p"},
		{"an opaque path", url.URL{Opaque: "/a/b/c"}, "../x", "/a/x"},
		{"an opaque path", url.URL{Opaque: "/a/b", Path: "/p/q/r", RawQuery: "p"}, "x", "/a/x"},
		{"an opaque path", url.URL{Opaque: "/a/b"}, "/x", "/x"},
		{"an opaque query", url.URL{Opaque: "/a/b?c/d"}, "x", "/a/x"},
		{"an opaque query", url.URL{Opaque: "/a/b?c/d"}, "?q", "/a/b?q"},
		{"an opaque query", url.URL{Opaque: "/a/b?c/d", RawQuery: "e"}, "#f", "/a/b?c/d?e"},
		{"an opaque backslash", url.URL{Opaque: `/a/b\c`}, "?q", "/a/b%5Cc?q"},
		{"an opaque backslash", url.URL{Opaque: `/a/b\..\c`}, "x", "/a/x"},
		{"the opaque host", url.URL{Opaque: "//HOST/a/b"}, "x", "/a/x"},
		{"the opaque host", url.URL{Opaque: "//HOST/a/b", RawQuery: "p"}, "#f", "/a/b?p"},
		{"the opaque host", url.URL{Opaque: "//HOST"}, "x", "/x"},
		{"the opaque host", url.URL{Opaque: "//HOST"}, "?q", "/?q"},
		{"an opaque URL", url.URL{Opaque: "http://HOST/a/b"}, "x", "/a/x"},
		{"another opaque host", url.URL{Opaque: "//other.example/a/b"}, "x", ""},
		{"another opaque host", url.URL{Opaque: "//other.example/a/b"}, "/x", ""},
		{"another opaque host", url.URL{Opaque: "//other.example/a/b"}, "?q", ""},
		{"another opaque host", url.URL{Opaque: "//other.example/a/b"}, "//HOST/x", "/x"},
		{"another opaque host", url.URL{Opaque: "//other.example/a/b"}, "http://HOST/x", "/x"},
		{"another opaque URL", url.URL{Opaque: "https://HOST/a/b"}, "x", ""},
		{"another opaque URL", url.URL{Opaque: "ftp://HOST/a/b"}, "x", ""},
		{"an empty query", url.URL{Path: "/a", ForceQuery: true}, "#f", "/a?"},
	} {
		for _, status := range []string{"302", "307"} {
			var heads []string
			var mu sync.Mutex
			rawURL := fetchtest.Listen(t, func(conn net.Conn, head string) {
				mu.Lock()
				defer mu.Unlock()
				heads = append(heads, head)
				if len(heads) > 1 {
					io.WriteString(conn, fetchtest.WithLength("ok"))
					return
				}
				location := strings.ReplaceAll(test.location, "HOST", conn.LocalAddr().String())
				io.WriteString(conn, "HTTP/1.1 "+status+" Moved\r\nLocation: "+location+"\r\nContent-Length: 0\r\n\r\n")
			})
			host := strings.TrimPrefix(rawURL, "http://")
			u := test.u
			u.Scheme, u.Host, u.Opaque = "http", host, strings.ReplaceAll(u.Opaque, "HOST", host)
			req := &http.Request{Method: "OPTIONS", URL: &u, Header: http.Header{}}
			r := fetchtest.SendOne(t, req)
			what := fmt.Sprintf("%s of %s %q, %s %s", status, test.name, u.RequestURI(), status, test.location)
			if test.want == "" {
				if !errors.Is(r.Err, fetch.ErrRedirect) || len(heads) != 1 || r.StatusCode == 0 {
					t.Errorf("%s: %d requests, %v", what, len(heads), r.Err)
				}
				continue
			}
			if r.Err != nil || len(heads) != 2 || strings.Fields(heads[1])[1] != test.want || !strings.Contains(heads[1], "\r\nHost: "+host+"\r\n") {
				t.Errorf("%s: %v; sent %q", what, r.Err, heads)
				continue
			}
			_, rest, _ := strings.Cut(heads[1], "\r\nReferer: ")
			referer, _, _ := strings.Cut(rest, "\r\n")
			if from, err := url.Parse(referer); err != nil || from.Scheme != "http" && from.Scheme != "https" || from.Host == "" || from.Path == "/*" {
				t.Errorf("%s: the Referer is %q", what, referer)
			}
		}
	}
}

// A server chooses a Location, and nothing ends the reading of one: it must not take long. A path
// was copied for each dot segment, and Punycode takes the square of the length of a name.
func TestALongLocationIsReadAtOnce(t *testing.T) {
	const n = 1 << 14
	var letters strings.Builder
	for i := range n {
		letters.WriteRune(rune(0x4e00 + i))
	}
	for _, test := range []struct{ name, location, want string }{
		{"dot segments", "/" + strings.Repeat("a/", n) + strings.Repeat("../", n) + "x", "http://a.example/x"},
		{"dot segments behind a long one", "/" + strings.Repeat("a", n) + strings.Repeat("/b/..", n), "http://a.example/" + strings.Repeat("a", n) + "/"},
		{"a name", "http://" + letters.String() + "/", ""},
		{"a Host of many numbers", "http://" + strings.Repeat("1.", n) + "1/", "http://" + strings.Repeat("1.", n) + "1/"},
	} {
		var r fetch.Result
		took := fetchtest.Allocated(func() {
			r = fetchtest.GetOne(t, "http://a.example/b", fetch.WithMaxRedirects(1), fetchtest.Over(movedOnce(test.location)))
		})
		if test.want == "" && !errors.Is(r.Err, fetch.ErrRedirect) || test.want != "" && (r.Err != nil || r.FinalURL != test.want) {
			t.Errorf("%s: %.80q, %v", test.name, r.FinalURL, r.Err)
		}
		if took > 8<<20 {
			t.Errorf("%s: %d bytes were allocated", test.name, took)
		}
	}
}

// A relative Location keeps the Host that the caller has set, however it is spelled.
func TestARelativeLocationKeepsTheHostField(t *testing.T) {
	for location, want := range map[string]string{"/x": "virtual", "100%": "virtual", " ?ä": "virtual", "http://a.example/": ""} {
		var log fetchtest.Recorder
		req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil)
		req.Host = "virtual"
		fetchtest.SendOne(t, req, fetchtest.Over(log.Over(movedOnce(location))))
		if sent := log.Take(); len(sent) != 2 || sent[1].Host != want {
			t.Errorf("%q: sent %v", location, sent)
		}
	}
}

func TestABlankLocationIsNone(t *testing.T) {
	r := fetchtest.GetOne(t, "http://h/", fetchtest.Over(fetchtest.Always(302, "Location", " \t")))
	if r.Err != nil || r.StatusCode != 302 || r.Redirects != 0 {
		t.Errorf("got %d after %d redirects, %v", r.StatusCode, r.Redirects, r.Err)
	}
}

// A secret goes to the origin whatever its spelling, and to no other.
func TestAnOriginIsTheSameInAnySpelling(t *testing.T) {
	for _, test := range []struct {
		from, to string
		same     bool
	}{
		{"http://[::1]/", "http://[0:0::1]:80/", true},
		{"http://127.0.0.1/", "http://0x7f.1/", true},
		{"http://127.0.0.1/", "http://[::ffff:7f00:1]/", true},
		{"http://h.example/", "HTTP://H.Example.:080/", true},
		{"http://[::1]/", "http://[::2]/", false},
		{"http://127.0.0.1/", "http://127.0.0.2/", false},
		{"http://h.example/", `/\b.example/h.example`, false},
	} {
		var log fetchtest.Recorder
		req := fetchtest.NewRequest(t, "GET", test.from, nil, "X-Api-Key", "secret")
		r := fetchtest.SendOne(t, req, fetchtest.Over(log.Over(movedOnce(test.to))))
		sent := log.Take()
		if r.Err != nil || len(sent) != 2 || (sent[1].Header.Get("X-Api-Key") != "") != test.same {
			t.Errorf("from %s to %s: %v, sent %v", test.from, test.to, r.Err, sent)
		}
	}
}
