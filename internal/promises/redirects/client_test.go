package redirects_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A call of CheckRedirect, as far as two clients can be compared by it.
type redirectCall struct {
	to, method string
	via        []string
	status     int
	header     string
}

func logRedirects(calls *[]redirectCall, then func(req *http.Request, via []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		header := req.Header.Clone()
		header.Del("Referer")
		header.Del("Accept-Encoding")
		call := redirectCall{to: req.URL.String(), method: req.Method, header: fmt.Sprint(header)}
		for _, v := range via {
			call.via = append(call.via, cmp.Or(v.Method, "GET")+" "+v.URL.String())
		}
		if req.Response != nil {
			call.status = req.Response.StatusCode
		}
		*calls = append(*calls, call)
		return then(req, via)
	}
}

func TestCheckRedirectOfTheClientIsAskedAsNetHTTPDoes(t *testing.T) {
	stop := errors.New("no further")
	for _, test := range []struct {
		name  string
		steps []moved
		check func(*http.Request, []*http.Request) error
	}{
		{"it lets pass", []moved{{302, "/1"}, {307, "http://b.example/2"}, {301, "/3"}},
			func(*http.Request, []*http.Request) error { return nil }},
		{"it wants the 3xx", found("/1", "/2", "/3"), func(_ *http.Request, via []*http.Request) error {
			if len(via) == 2 {
				return http.ErrUseLastResponse
			}
			return nil
		}},
		{"it refuses", found("/1", "/2", "/3"), func(_ *http.Request, via []*http.Request) error {
			if len(via) == 2 {
				return fmt.Errorf("wrapped: %w", stop)
			}
			return nil
		}},
		{"it adds a header", found("/1", "/2"), func(req *http.Request, via []*http.Request) error {
			req.Header.Set("X-Hop", fmt.Sprint(len(via)))
			return nil
		}},
		{"it adds a header to the first hop", found("/1", "/2"), func(req *http.Request, via []*http.Request) error {
			if len(via) == 1 {
				req.Header.Set("X-First", "1")
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var theirs, ours fetchtest.Recorder
			var theirCalls, ourCalls []redirectCall
			client := fetchtest.NewClient(theirs.Over(chain(test.steps...)))
			client.CheckRedirect = logRedirects(&theirCalls, test.check)
			want := doByNetHTTP(t, client, fetchtest.NewRequest(t, "GET", "http://a.example/0", nil, "Accept", "x/y"))
			client = fetchtest.NewClient(ours.Over(chain(test.steps...)))
			client.CheckRedirect = logRedirects(&ourCalls, test.check)
			r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", "http://a.example/0", nil, "Accept", "x/y"), fetch.WithClient(client))

			if got := outcomeOf(r); got != want {
				t.Errorf("got %+v (%v), net/http %+v", got, r.Err, want)
			}
			if !reflect.DeepEqual(ourCalls, theirCalls) {
				t.Errorf("asked\n%+v\nnet/http asks\n%+v", ourCalls, theirCalls)
			}
			if got, want := compared(ours.Take()), compared(theirs.Take()); !slices.Equal(got, want) {
				t.Errorf("sent\n%s\nnet/http sent\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if r.Err != nil && (!errors.Is(r.Err, fetch.ErrRedirect) || !errors.Is(r.Err, stop)) {
				t.Errorf("the error is neither ErrRedirect nor that of CheckRedirect: %v", r.Err)
			}
			if want := len(ourCalls); r.Err == nil && r.StatusCode == 200 && r.Redirects != want {
				t.Errorf("Redirects is %d, want %d", r.Redirects, want)
			}
		})
	}
}

func TestCookiesOfTheJarAreAsInNetHTTP(t *testing.T) {
	// Each answer sets cookies: one that changes, one of its own path, one that
	// the caller also has, one of the whole domain.
	answer := func() fetchtest.RoundTripFunc {
		next := map[string]string{
			"http://a.example/0":     "/dir/1",
			"http://a.example/dir/1": "http://b.a.example/2",
			"http://b.a.example/2":   "http://a.example/3",
			"http://a.example/3":     "https://a.example/4",
			"https://a.example/4":    "http://a.example/5",
		}
		return func(req *http.Request) (*http.Response, error) {
			name := strings.Trim(strings.ReplaceAll(req.URL.Path, "/", "-"), "-")
			status, location := 302, next[req.URL.String()]
			if location == "" {
				status = 200
			}
			return fetchtest.Respond(req, status, "", "Location", location,
				"Set-Cookie", "step="+name+"; Path=/",
				"Set-Cookie", "own-"+name+"=1",
				"Set-Cookie", "mine=theirs",
				"Set-Cookie", "wide-"+name+"=1; Domain=a.example; Path=/",
				"Set-Cookie", "sure-"+name+"=1; Secure; Path=/",
				"Set-Cookie", "foreign=1; Domain=c.example"), nil
		}
	}
	newJar := func() http.CookieJar {
		jar, _ := cookiejar.New(nil)
		u, _ := url.Parse("http://a.example/")
		jar.SetCookies(u, []*http.Cookie{{Name: "old", Value: "1"}})
		return jar
	}
	sorted := func(sent []fetchtest.SentRequest) []string {
		var out []string
		for _, s := range sent {
			cookies := strings.Split(strings.Join(s.Header["Cookie"], "; "), "; ")
			slices.Sort(cookies)
			out = append(out, s.URL+" "+strings.Join(cookies, "; "))
		}
		return out
	}
	for name, cookie := range map[string]string{"without a header": "", "with a header": "mine=1; other=2"} {
		t.Run(name, func(t *testing.T) {
			newReq := func() *http.Request {
				req := fetchtest.NewRequest(t, "GET", "http://a.example/0", nil)
				if cookie != "" {
					req.Header.Set("Cookie", cookie)
				}
				return req
			}
			var theirs, ours fetchtest.Recorder
			client := fetchtest.NewClient(theirs.Over(answer()))
			client.Jar = newJar()
			theirJar := client.Jar
			doByNetHTTP(t, client, newReq())
			client = fetchtest.NewClient(ours.Over(answer()))
			client.Jar = newJar()
			ourJar := client.Jar
			if r := fetchtest.SendOne(t, newReq(), fetch.WithClient(client)); r.Err != nil || r.Redirects != 5 {
				t.Fatal(r.Redirects, r.Err)
			}
			got, want := sorted(ours.Take()), sorted(theirs.Take())
			if cookie != "" {
				// net/http would send the caller's cookies to a subdomain as well.
				for _, s := range got[2:] {
					if strings.Contains(s, "other=2") {
						t.Errorf("the caller's cookie has left the origin: %s", s)
					}
				}
				got, want = got[:2], want[:2]
			}
			if !slices.Equal(got, want) {
				t.Errorf("sent\n%s\nnet/http sent\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for _, raw := range []string{"http://a.example/", "https://a.example/dir/x", "http://b.a.example/", "http://c.example/"} {
				u, _ := url.Parse(raw)
				if got, want := fmt.Sprint(ourJar.Cookies(u)), fmt.Sprint(theirJar.Cookies(u)); got != want {
					t.Errorf("the jar has %s for %s, that of net/http %s", got, raw, want)
				}
			}
		})
	}
}
