package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// However many owners the hosts of a chain of redirects have, it goes as in one Fetcher: the same
// requests are sent, and the same comes of them.
func TestRedirectsOverAFleetAreAsInOneFetcher(t *testing.T) {
	forbids := func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.Path, "/internal") {
			return errors.New("forbidden")
		}
		return nil
	}
	var bodies struct {
		sync.Mutex
		read []string
	}
	bodyFunc := fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
		text, err := io.ReadAll(body)
		bodies.Lock()
		defer bodies.Unlock()
		bodies.read = append(bodies.read, fmt.Sprint(r.StatusCode, string(text)))
		return err
	})
	// A chain is where each path leads to: a status, and a path at the same host or, behind "other ", at
	// the other one. A path that leads nowhere is answered with 200.
	cases := map[string]struct {
		chain        map[string]string
		method, body string
		opts         []fetch.Option
		wait         time.Duration
		long         bool // the bodies of redirects
	}{
		"a DELETE that becomes a GET at its own host": {chain: map[string]string{"/1": "303 /2", "/2": "307 other /3"}, method: "DELETE"},
		"a DELETE that stays one":                     {chain: map[string]string{"/1": "307 /2", "/2": "307 other /3"}, method: "DELETE"},
		"a body that is dropped at its own host":      {chain: map[string]string{"/1": "303 /2", "/2": "307 other /3"}, method: "POST", body: "secret"},
		"a body that must not leave":                  {chain: map[string]string{"/1": "307 /2", "/2": "307 other /3"}, method: "POST", body: "secret"},
		"a PUT that becomes a GET at another host":    {chain: map[string]string{"/1": "302 other /2"}, method: "PUT", body: "secret"},
		"a HEAD":                                            {chain: map[string]string{"/1": "302 other /2", "/2": "303 other /3"}, method: "HEAD"},
		"there and back":                                    {chain: map[string]string{"/1": "302 other /2", "/2": "302 other /3"}},
		"as many as are allowed, by turns":                  {chain: map[string]string{"/1": "302 other /2", "/2": "302 /3", "/3": "302 other /4"}},
		"one too many, by turns":                            {chain: map[string]string{"/1": "302 other /2", "/2": "302 /3", "/3": "302 other /4", "/4": "302 /5"}},
		"one too many, at the other host":                   {chain: map[string]string{"/1": "302 other /2", "/2": "302 /3", "/3": "302 /4", "/4": "302 /5"}},
		"no redirects":                                      {chain: map[string]string{"/1": "302 other /2"}},
		"a CheckRedirect that refuses another host":         {chain: map[string]string{"/1": "302 other /internal"}, opts: []fetch.Option{fetch.WithClient(&http.Client{CheckRedirect: forbids})}},
		"a CheckRedirect that allows one":                   {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{fetch.WithClient(&http.Client{CheckRedirect: forbids})}},
		"a body of a redirect that is longer than the most": {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{fetch.WithMaxBody(1000)}, long: true},
		"a BodyFunc":                                        {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{bodyFunc}},
		"statuses that are errors":                          {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{fetch.WithStatusErrors()}},
		"a RetryIf that wants redirects again":              {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{fetch.WithRetries(2), fetch.WithRetryIf(func(r fetch.Result) bool { return r.StatusCode == 302 })}},
		"a redirect that asks to wait":                      {chain: map[string]string{"/1": "302 other /2"}, wait: time.Second},
		"one that asks to wait for too long":                {chain: map[string]string{"/1": "302 other /2"}, opts: []fetch.Option{fetch.WithMaxRetryAfter(100 * time.Millisecond)}, wait: time.Second},
		"a Location that cannot be followed":                {chain: map[string]string{"/1": "302 other:0 /2"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var sent []string
			var h *hosts
			h = newHosts(t, 2, func(host string, w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				sent = append(sent, fmt.Sprintf("%s %d%s %s %q", r.Method, slices.Index(h.names, host), r.URL.Path, r.Header.Get("X-Own"), body))
				mu.Unlock()
				var code int
				to := c.chain[r.URL.Path]
				if to == "" {
					fmt.Fprint(w, "done")
					return
				}
				fmt.Sscan(to, &code)
				location := to[4:]
				if path, ok := strings.CutPrefix(location, "other"); ok {
					location = strings.ReplaceAll("http://"+h.names[1-slices.Index(h.names, host)]+path, " ", "")
				}
				w.Header().Set("Location", location)
				if c.wait > 0 {
					w.Header().Set("Retry-After", fmt.Sprint(int(c.wait.Seconds())))
				}
				w.WriteHeader(code)
				if c.long {
					w.Write(make([]byte, 2000))
				}
			})
			// ending runs one way, and says what was sent and what came of it.
			ending := func(get func() fetch.Result) string {
				bodies.read, sent = nil, nil
				start := time.Now()
				r := get()
				kind, kinds := "", map[string]error{"redirect": fetch.ErrRedirect, "invalid": fetch.ErrInvalidURL, "large": fetch.ErrBodyTooLarge}
				for k, err := range kinds {
					if errors.Is(r.Err, err) {
						kind += k
					}
				}
				return fmt.Sprintf("%q\n%d %q after %d redirects, error %v %q, waited %v, read %q",
					sent, r.StatusCode, r.Body, r.Redirects, r.Err != nil, kind, time.Since(start) >= time.Second, bodies.read)
			}
			most := 3
			if name == "no redirects" {
				most = -1
			}
			add := fleet.Request{URL: "http://" + h.names[0] + "/1", Method: c.method, Header: http.Header{"X-Own": {"own"}}, Body: []byte(c.body)}
			alone := ending(func() fetch.Result {
				f, err := fetch.New(append(c.opts, fetch.WithMaxRedirects(max(most, 0)))...)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				req, err := http.NewRequest(c.method, add.URL, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header = add.Header.Clone()
				return f.DoAll(t.Context(), []*http.Request{req})[0]
			})
			together := ending(func() fetch.Result {
				f := open(t, func(config *fleet.Config) { config.MaxRedirects = most })
				results := make(chan fetch.Result, 10)
				for range 2 {
					start(t, f, func(_ context.Context, d fleet.Delivery) error {
						results <- d.Result
						return nil
					}, c.opts...)
				}
				if _, err := f.AddRequests(t.Context(), slices.Values([]fleet.Request{add})); err != nil {
					t.Fatal(err)
				}
				waitUntilDone(t, f, 20*time.Second)
				return <-results
			})
			if alone != together {
				t.Errorf("one Fetcher:\n%s\na fleet:\n%s", alone, together)
			}
		})
	}
}
