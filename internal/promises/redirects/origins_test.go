package redirects_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The origins that a chain visits, and from which on the caller's headers
// must be gone; -1 is never.
var origins = []struct {
	name  string
	chain []string
	gone  int
}{
	{"the same", []string{"http://a.example", "http://a.example"}, -1},
	{"the same in capitals", []string{"http://a.example", "HTTP://A.Example"}, -1},
	{"the same with its default port", []string{"http://a.example", "http://a.example:80", "http://a.example"}, -1},
	{"another host", []string{"http://a.example", "http://b.example"}, 1},
	{"a subdomain", []string{"http://a.example", "http://www.a.example"}, 1},
	{"the parent domain", []string{"http://www.a.example", "http://a.example"}, 1},
	{"a host with the same end", []string{"http://a.example", "http://bada.example"}, 1},
	{"a host that only looks the same", []string{"http://i.example", "http://İ.example"}, 1},
	{"another port", []string{"http://a.example", "http://a.example:8080"}, 1},
	{"from one port to another", []string{"http://a.example:8080", "http://a.example:8081"}, 1},
	{"an IPv6 neighbour", []string{"http://[2001:db8::1]", "http://[2001:db8::11]"}, 1},
	{"up to https", []string{"http://a.example", "https://a.example", "https://a.example"}, -1},
	{"up to https with both ports given", []string{"http://a.example:80", "https://a.example:443"}, -1},
	{"up to https on another port", []string{"http://a.example", "https://a.example:8443"}, 1},
	{"up to https from another port", []string{"http://a.example:8080", "https://a.example"}, 1},
	{"up to https on the same odd port", []string{"http://a.example:8080", "https://a.example:8080"}, 1},
	{"up to https from 443", []string{"http://a.example:443", "https://a.example"}, 1},
	{"up to https of another host", []string{"http://a.example", "https://b.example"}, 1},
	{"down to http", []string{"https://a.example", "http://a.example"}, 1},
	{"down to http on the same port", []string{"https://a.example", "http://a.example:443"}, 1},
	{"up and down", []string{"http://a.example", "https://a.example", "http://a.example"}, 2},
	{"down and up again", []string{"https://a.example", "http://a.example", "https://a.example"}, 1},
	{"away and back", []string{"http://a.example", "http://b.example", "http://a.example"}, 1},
	{"away and staying there", []string{"http://a.example", "http://b.example", "http://b.example"}, 1},
	{"away late", []string{"http://a.example", "http://a.example", "http://b.example", "http://a.example"}, 2},
	{"up and away", []string{"http://a.example", "https://a.example", "https://b.example", "https://a.example"}, 2},
	{"to another port and back", []string{"http://a.example", "http://a.example:81", "http://a.example"}, 1},
}

func TestHeadersOfTheCallerNeverLeaveTheOrigin(t *testing.T) {
	secret := []string{
		"Authorization", "Cookie", "X-Api-Key", "X-Amz-Security-Token", "Proxy-Authorization", "Www-Authenticate",
		"X-Csrf-Token", "Referer", "Origin", "If-None-Match", "X-Forwarded-For", "Api-Key",
	}
	safe := map[string]string{
		"Accept": "text/x", "Accept-Language": "tlh", "User-Agent": "tester", "Range": "bytes=0-99",
	}
	sources := map[string]func(t *testing.T, rawURL string, sent fetchtest.RoundTripFunc) fetch.Result{
		"the request": func(t *testing.T, rawURL string, rt fetchtest.RoundTripFunc) fetch.Result {
			req := fetchtest.NewRequest(t, "GET", rawURL, nil)
			for _, name := range secret {
				// Several values: it is not enough to drop the first.
				req.Header[name] = []string{"canary-1", "canary-2"}
			}
			req.Header["x-raw-key"] = []string{"canary-3"}
			req.Header["authorization"] = []string{"canary-4"}
			for name, value := range safe {
				req.Header.Set(name, value)
			}
			return fetchtest.SendOne(t, req, fetchtest.Over(rt))
		},
		"the options": func(t *testing.T, rawURL string, rt fetchtest.RoundTripFunc) fetch.Result {
			opts := []fetch.Option{fetchtest.Over(rt)}
			for _, name := range secret {
				opts = append(opts, fetch.WithHeader(name, "canary-1"), fetch.WithHeader(strings.ToLower(name), "canary-2"))
			}
			for name, value := range safe {
				opts = append(opts, fetch.WithHeader(name, value))
			}
			return fetchtest.GetOne(t, rawURL, opts...)
		},
	}
	for _, test := range origins {
		for source, send := range sources {
			t.Run(test.name+", from "+source, func(t *testing.T) {
				var locations []string
				for i, origin := range test.chain[1:] {
					locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
				}
				var log fetchtest.Recorder
				r := send(t, test.chain[0]+"/0", log.Over(chain(found(locations...)...)))
				if r.Err != nil || r.StatusCode != 200 || r.Redirects != len(locations) {
					t.Fatalf("got %d after %d redirects, %v", r.StatusCode, r.Redirects, r.Err)
				}
				for i, s := range log.Take() {
					gone := test.gone >= 0 && i >= test.gone
					if got := strings.Contains(s.String(), "canary"); got == gone {
						t.Errorf("request %d: a header of the caller was sent: %v: %v", i, got, s)
					}
					if got := len(s.Header["X-Api-Key"]); !gone && got != 2 {
						t.Errorf("request %d: %d of 2 values", i, got)
					}
					for name, value := range safe {
						if got := s.Header.Values(name); !slices.Equal(got, []string{value}) {
							t.Errorf("request %d: %s is %q", i, name, got)
						}
					}
				}
			})
		}
	}
}

func TestContentHeadersCrossOriginsWithABodyOnly(t *testing.T) {
	for _, status := range []int{302, 303, 307, 308} {
		var log fetchtest.Recorder
		req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil, "Content-Type", "canary", "Content-Token", "canary")
		r := fetchtest.SendOne(t, req, fetchtest.Over(log.Over(chain(moved{status, "http://b.example/"}))))
		sent := log.Take()
		if r.Err != nil || len(sent) != 2 {
			t.Fatal(sent, r.Err)
		}
		if strings.Contains(sent[1].String(), "canary") {
			t.Errorf("after %d: sent %v", status, sent[1])
		}
	}
}

func TestARequestWithoutHeaderMapIsRedirected(t *testing.T) {
	req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil)
	req.Header = nil
	if r := fetchtest.SendOne(t, req, fetchtest.Over(chain(found("/1", "http://b.example/")...))); r.Err != nil || r.Redirects != 2 {
		t.Error(r.Redirects, r.Err)
	}
}

func TestUserInformationIsSentToItsOriginOnly(t *testing.T) {
	for _, test := range origins {
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for i, origin := range test.chain[1:] {
				locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
			}
			var log fetchtest.Recorder
			first := strings.Replace(test.chain[0], "://", "://canary:pass@", 1)
			r := fetchtest.GetOne(t, first+"/0", fetchtest.Over(log.Over(chain(found(locations...)...))))
			if r.Err != nil || strings.Contains(r.FinalURL, "canary") {
				t.Errorf("FinalURL %q, %v", r.FinalURL, r.Err)
			}
			for i, s := range log.Take() {
				_, basic := s.Header["Authorization"]
				if i == 0 && !basic {
					t.Error("the first request has no Authorization")
				}
				if test.gone >= 0 && i >= test.gone && (basic || strings.Contains(s.String(), "canary")) {
					t.Errorf("request %d: %v", i, s)
				}
			}
		})
	}
}

func TestUserInformationIsSentOnRelativeRedirectsAsNetHTTPDoes(t *testing.T) {
	var theirs, ours fetchtest.Recorder
	doByNetHTTP(t, fetchtest.NewClient(theirs.Over(chain(found("/1", "2")...))), fetchtest.NewRequest(t, "GET", "http://user:pa%20ss@a.example/0", nil))
	fetchtest.GetOne(t, "http://user:pa%20ss@a.example/0", fetchtest.Over(ours.Over(chain(found("/1", "2")...))))
	want := theirs.Take()
	for i, s := range ours.Take() {
		if got, want := s.Header["Authorization"], want[i].Header["Authorization"]; !slices.Equal(got, want) {
			t.Errorf("request %d: Authorization %q, net/http %q", i, got, want)
		}
	}
}

func TestUserInformationInALocationIsDropped(t *testing.T) {
	for name, location := range map[string]string{
		"the same origin": "http://canary:canary@a.example/1",
		"another origin":  "http://canary:canary@b.example/1",
		"scheme-relative": "//canary@b.example/1",
		"no password":     "http://canary@a.example/1",
	} {
		t.Run(name, func(t *testing.T) {
			var log fetchtest.Recorder
			r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(log.Over(chain(found(location)...))))
			if r.Err != nil || strings.Contains(r.FinalURL, "canary") {
				t.Errorf("FinalURL %q, %v", r.FinalURL, r.Err)
			}
			s := log.Take()[1]
			if _, ok := s.Header["Authorization"]; ok || strings.Contains(s.URL+s.Host, "canary") {
				t.Errorf("sent %v", s)
			}
		})
	}
}

func TestAHostHeaderStaysWithItsOrigin(t *testing.T) {
	for _, location := range []string{"http://b.example/", "https://a.example:8443/", "//a.example:81/"} {
		var log fetchtest.Recorder
		r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(log.Over(chain(found(location, "http://a.example/2")...))),
			fetch.WithHeader("Host", "canary.example"))
		sent := log.Take()
		if r.Err != nil || len(sent) != 3 || sent[0].Host != "canary.example" {
			t.Fatalf("%v: %v", sent, r.Err)
		}
		for _, s := range sent[1:] {
			if strings.Contains(s.String(), "canary") {
				t.Errorf("after %s: sent %v", location, s)
			}
		}
	}
}

func TestARefererNeverCrossesOriginsNorGoesDownToHTTP(t *testing.T) {
	for _, test := range origins {
		if test.gone < 0 {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for _, origin := range test.chain[1:] {
				locations = append(locations, origin+"/?canary")
			}
			var log fetchtest.Recorder
			r := fetchtest.GetOne(t, test.chain[0]+"/?canary", fetchtest.Over(log.Over(chain(found(locations...)...))))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			for i, s := range log.Take() {
				if i == 0 {
					continue
				}
				referer := s.Header.Get("Referer")
				if from, _ := url.Parse(referer); referer != "" && from.Scheme+"://"+from.Host != test.chain[i] {
					t.Errorf("request %d, to %s, has Referer %s", i, s.URL, referer)
				}
			}
		})
	}
}

// The test looks at the bytes that the second server gets.
func TestNoSecretReachesAnotherServer(t *testing.T) {
	got := make(chan string, 1)
	other := fetchtest.Listen(t, func(conn net.Conn, head string) {
		got <- head
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if user, pass, _ := req.BasicAuth(); req.URL.Path == "/basic" && user+pass != "canarycanary" {
			t.Errorf("%s %s", user, pass)
		}
		http.Redirect(w, req, other+"/x", http.StatusFound)
	})
	for name, rawURL := range map[string]string{
		"by header": server.URL + "/?canary",
		"by URL":    strings.Replace(server.URL, "//", "//canary:canary@", 1) + "/basic?canary",
	} {
		t.Run(name, func(t *testing.T) {
			r := fetchtest.GetOne(t, rawURL,
				fetch.WithHeader("X-Api-Key", "canary"), fetch.WithHeader("X-Api-Key", "canary"), fetch.WithHeader("Cookie", "c=canary"),
				fetch.WithRequestFunc(func(req *http.Request) error { req.Header.Set("X-Signature", "canary"); return nil }))
			if r.Err != nil || r.Redirects != 1 {
				t.Fatal(r.Err)
			}
			if head := <-got; strings.Contains(head, "canary") {
				t.Errorf("the other server got:\n%s", head)
			}
		})
	}
}
