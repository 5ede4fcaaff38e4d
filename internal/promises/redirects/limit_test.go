package redirects_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// forever is a transport whose every page leads to the next, up to the page
// of the given number.
func forever(last int) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		var n int
		fmt.Sscanf(req.URL.Path, "/%d", &n)
		if n == last {
			return fetchtest.Respond(req, 200, "end"), nil
		}
		return fetchtest.Respond(req, 302, "", "Location", fmt.Sprintf("/%d", n+1)), nil
	}
}

func TestAChainEndsAtTheLimit(t *testing.T) {
	none := func(*http.Request, []*http.Request) error { return nil }
	for _, test := range []struct {
		name   string
		last   int // page
		opts   []fetch.Option
		client *http.Client

		redirects, status int
		err               bool
	}{
		{name: "ten by default", last: 10, redirects: 10, status: 200},
		{name: "eleven", last: 11, redirects: 10, status: 302, err: true},
		{name: "endless", last: -1, redirects: 10, status: 302, err: true},
		{name: "as many as given", last: 3, opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 200},
		{name: "one more than given", last: 4, opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 302, err: true},
		{name: "more than ten when given", last: 25, opts: []fetch.Option{fetch.WithMaxRedirects(25)}, redirects: 25, status: 200},
		{name: "none", last: -1, opts: []fetch.Option{fetch.WithMaxRedirects(0)}, status: 302},
		{name: "the client's own rule replaces the default", last: 15, client: &http.Client{CheckRedirect: none}, redirects: 15, status: 200},
		{name: "the client's own rule and a number", last: 15, client: &http.Client{CheckRedirect: none},
			opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 302, err: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent fetchtest.Recorder
			client := cmp.Or(test.client, &http.Client{})
			client.Transport = sent.Over(forever(test.last))
			r := fetchtest.GetOne(t, "http://a.example/0", append(test.opts, fetch.WithClient(client))...)
			if errors.Is(r.Err, fetch.ErrRedirect) != test.err || (r.Err != nil) != test.err {
				t.Errorf("error is %v", r.Err)
			}
			if r.StatusCode != test.status || r.Redirects != test.redirects {
				t.Errorf("got %d after %d redirects, want %d after %d", r.StatusCode, r.Redirects, test.status, test.redirects)
			}
			if want := fmt.Sprintf("http://a.example/%d", test.redirects); r.FinalURL != want {
				t.Errorf("FinalURL is %q, want %q", r.FinalURL, want)
			}
			if n := len(sent.Take()); n != test.redirects+1 {
				t.Errorf("%d requests for %d redirects", n, test.redirects)
			}
		})
	}
}

func TestALoopEndsAtTheLimit(t *testing.T) {
	for name, location := range map[string]func(*http.Request) string{
		"to itself": func(*http.Request) string { return "" },
		"between two hosts": func(req *http.Request) string {
			return "http://" + map[string]string{"a.example": "b.example", "b.example": "a.example"}[req.URL.Host] + "/"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				return fetchtest.Respond(req, 301, "", "Location", cmp.Or(location(req), "?")), nil
			}))
			if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != 301 || r.Redirects != 10 {
				t.Errorf("got %d after %d redirects, %v", r.StatusCode, r.Redirects, r.Err)
			}
		})
	}
}

func TestWithoutRedirectsThe3xxItselfIsTheResult(t *testing.T) {
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(chain(found("http://b.example/")...)), fetch.WithMaxRedirects(0))
	if r.Err != nil || r.StatusCode != 302 || string(r.Body) != "see there" || r.Header.Get("Location") != "http://b.example/" {
		t.Errorf("got %d, %q, %v, %v", r.StatusCode, r.Body, r.Header, r.Err)
	}
	r = fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(chain(found("http://b c/")...)), fetch.WithMaxRedirects(0))
	if r.Err != nil || r.StatusCode != 302 {
		t.Errorf("with a bad Location: got %d, %v", r.StatusCode, r.Err)
	}
}
