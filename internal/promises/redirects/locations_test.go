package redirects_test

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// FuzzLocation answers with a redirect to anywhere.
func FuzzLocation(f *testing.F) {
	for _, location := range []string{
		"", "/", "x", "?y", "#z", "//b.example", "//", "///", "http://", "http:///", "http:x", "https://a.example/", "http://a.example:80",
		"http://a.example.:080/", "HTTP://A.EXAMPLE", "http://u:p@a.example/", "http://u:p@b c/?q=@x", "ftp://a.example", "file:///etc/passwd",
		"javascript:x", "http://[::1", "http://[::1%25lo]/", "http://a.example:99999", "http://a.example:0", "/%zz", "/\x00", "/\x1b[31m", "/\r\nX: y",
		"http://İ.example", "http://\u212a.example", "/../../..", ":", "http://a.example\\@b.example", "http://.", "//::", "\t/x", " http://b.example",
		strings.Repeat("/..", 1000), "http://" + strings.Repeat("a", 5000),
	} {
		for _, status := range []int{301, 307} {
			f.Add(location, status)
		}
	}
	f.Fuzz(func(t *testing.T, location string, status int) {
		if status < 300 || status > 399 || strings.Contains(location, "canary") {
			t.Skip("no redirect, or a canary of its own")
		}
		for _, location := range []string{location, location + "?t=canary", location + "#canary", "http://canary:canary@" + location} {
			var log fetchtest.Recorder
			req := fetchtest.NewRequest(t, "GET", "http://a.example/dir/start", nil, "X-Api-Key", "canary")
			r := fetchtest.SendOne(t, req, fetch.WithMaxRedirects(3), fetchtest.Over(log.Over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/dir/start" && req.URL.RawQuery == "" {
					return fetchtest.Respond(req, status, "", "Location", location), nil
				}
				return fetchtest.Respond(req, 200, ""), nil
			})))
			if r.Err != nil {
				checkRedirectError(t, location, r.Err)
			}
			for i, s := range log.Take() {
				u, err := url.Parse(s.URL)
				if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || i > 3 {
					t.Errorf("request %d went to %q", i, s.URL)
					continue
				}
				home := sameOrigin(t, "http://a.example", s.URL) || sameOrigin(t, "https://a.example", s.URL)
				if _, ok := s.Header["X-Api-Key"]; ok && !home {
					t.Errorf("the header of the caller went to %q", s.URL)
				}
			}
		}
	})
}

func checkRedirectError(t *testing.T, location string, err error) {
	t.Helper()
	if !errors.Is(err, fetch.ErrRedirect) {
		t.Errorf("error is %v", err)
	}
	text := err.Error()
	if strings.Contains(text, "canary") {
		t.Errorf("Location %q shows in %q", location, text)
	}
	if len(text) > 2000 {
		t.Errorf("an error text of %d bytes", len(text))
	}
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] >= 0x7f {
			t.Errorf("byte %#x in %q", text[i], text)
			return
		}
	}
}

// found returns steps of 302 to the locations.
func found(locations ...string) []moved {
	steps := make([]moved, len(locations))
	for i, location := range locations {
		steps[i] = moved{302, location}
	}
	return steps
}

func TestLocationsAreResolvedAsNetHTTPDoes(t *testing.T) {
	const start = "http://a.example/dir/page?q=1#old"
	for name, location := range map[string]string{
		"absolute path":        "/x",
		"relative path":        "x",
		"parent":               "../x/./y",
		"above the root":       "../../../../x",
		"query only":           "?y",
		"fragment only":        "#new",
		"a fragment":           "/x#new",
		"scheme-relative":      "//b.example/x",
		"two slashes":          "//",
		"three slashes":        "///x",
		"absolute":             "http://b.example:8080/x?y#z",
		"capitals":             "HTTP://B.Example/X",
		"no path":              "http://b.example",
		"escapes":              "/a%20b%2Fc",
		"spaces":               "/a b",
		"raw UTF-8":            "/ü?q",
		"IPv6":                 "http://[2001:db8::1]:81/",
		"https":                "https://a.example/",
		"a lone percent query": "/x?100%",
	} {
		t.Run(name, func(t *testing.T) {
			var theirs, ours fetchtest.Recorder
			want := doByNetHTTP(t, fetchtest.NewClient(theirs.Over(chain(found(location)...))), fetchtest.NewRequest(t, "GET", start, nil))
			r := fetchtest.GetOne(t, start, fetchtest.Over(ours.Over(chain(found(location)...))))
			if got := outcomeOf(r); got != want {
				t.Errorf("got %+v (%v), net/http %+v", got, r.Err, want)
			}
			if got, want := compared(ours.Take()), compared(theirs.Take()); !slices.Equal(got, want) {
				t.Errorf("sent %q, net/http sent %q", got, want)
			}
			if r.Redirects != 1 {
				t.Errorf("Redirects is %d", r.Redirects)
			}
		})
	}
}

func TestABadLocationIsAnErrorThatShowsNothingOfIt(t *testing.T) {
	for name, location := range map[string]string{
		"a space in the host":    "http://user:canary@a b/?token=canary",
		"bad escape":             "http://user:canary%zz@b.example/?token=canary",
		"open bracket":           "http://user:canary@[::1/?token=canary#canary",
		"no scheme before colon": ":canary",
		"no host":                "http://?canary",
		"an empty host":          "http:///x?canary",
		"user information only":  "http://canary@/x",
		"opaque":                 "http:canary@b.example",
		"port too large":         "http://canary@b.example:99999/?canary",
		"port zero":              "http://canary@b.example:0/?canary",
		"letters as port":        "http://b.example:canary/",
		"a control character":    "http://canary@b.example/\x01?canary",
		"an escape sequence":     "http://canary@b.example/\x1b[31m?canary",
		"at signs all over":      "http://user:ca@b c/p?mail=x@canary#y@canary",
		"another scheme":         "ftp://user:canary@b.example/?canary",
		"a file":                 "file:///etc/passwd?canary",
		"a file in capitals":     "FILE:///etc/passwd?canary",
		"a script":               "javascript:alert('canary')",
		"data":                   "data:text/plain,canary",
		"mail":                   "mailto:canary@b.example",
		"a socket":               "unix:/canary@x",
		"a scheme nobody knows":  "canary://canary@b.example/",
		"WebSocket":              "ws://canary@b.example/",
		"gopher":                 "gopher://b.example:70/_canary",
	} {
		t.Run(name, func(t *testing.T) {
			var sent fetchtest.Recorder
			r := fetchtest.GetOne(t, "http://a.example/start", fetchtest.Over(sent.Over(chain(found(location)...))))
			if !errors.Is(r.Err, fetch.ErrRedirect) {
				t.Fatalf("got %d, %v", r.StatusCode, r.Err)
			}
			if text := r.Err.Error(); strings.Contains(text, "canary") && !strings.Contains(location, "canary://") {
				t.Errorf("shows the Location: %s", text)
			}
			if r.StatusCode != 302 || r.Header.Get("Location") != location || r.FinalURL != "http://a.example/start" ||
				r.Redirects != 0 || r.Body != nil {
				t.Errorf("got %d, %v, %q, %d redirects, %q", r.StatusCode, r.Header, r.FinalURL, r.Redirects, r.Body)
			}
			if n := len(sent.Take()); n != 1 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestARedirectToAFileIsNotFollowedThoughTheTransportKnowsFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Location"] = []string{"file://" + filepath.ToSlash(name)}
		w.WriteHeader(302)
	})
	transport := &http.Transport{}
	transport.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	defer transport.CloseIdleConnections()
	r := fetchtest.GetOne(t, server.URL, fetch.WithClient(fetchtest.NewClient(transport)))
	if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != 302 {
		t.Errorf("got %d, %q, %v", r.StatusCode, r.Body, r.Err)
	}
}
