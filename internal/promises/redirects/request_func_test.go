package redirects_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestRequestFuncIsCalledWithinTheOriginOnly(t *testing.T) {
	for _, test := range origins {
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for i, origin := range test.chain[1:] {
				locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
			}
			// An upgrade to https keeps the caller's headers, but is another origin.
			within := 1
			for within < len(test.chain) && sameOrigin(t, test.chain[0], test.chain[within]) {
				within++
			}
			var mu sync.Mutex
			var called []string
			var log fetchtest.Recorder
			r := fetchtest.GetOne(t, test.chain[0]+"/0", fetchtest.Over(log.Over(chain(found(locations...)...))),
				fetch.WithRequestFunc(func(req *http.Request) error {
					mu.Lock()
					defer mu.Unlock()
					called = append(called, req.URL.Path)
					req.Header.Add("X-Signature", "canary "+req.URL.Path)
					return nil
				}))
			if r.Err != nil || r.Redirects != len(locations) {
				t.Fatal(r.Redirects, r.Err)
			}
			if want := []string{"/0", "/1", "/2", "/3"}[:within]; !slices.Equal(called, want) {
				t.Errorf("called for %q, want %q", called, want)
			}
			for i, s := range log.Take() {
				var want []string
				if i < within {
					want = []string{fmt.Sprintf("canary /%d", i)}
				}
				if got := s.Header["X-Signature"]; !slices.Equal(got, want) {
					t.Errorf("request %d has %q, want %q", i, got, want)
				}
			}
		})
	}
}

func sameOrigin(t *testing.T, a, b string) bool {
	t.Helper()
	key := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		port := cmp.Or(strings.TrimLeft(u.Port(), "0"), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		// ASCII only: what else has a lower case is another host.
		return u.Scheme + "://" + strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, strings.TrimSuffix(u.Hostname(), ".")) + ":" + port
	}
	return key(a) == key(b)
}

func TestAnErrorOfRequestFuncOnAHopEndsTheURL(t *testing.T) {
	refused := errors.New("no token left")
	var log fetchtest.Recorder
	calls := 0
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(log.Over(chain(found("/1", "/2")...))), fetch.WithRequestFunc(func(*http.Request) error {
		if calls++; calls == 2 {
			return refused
		}
		return nil
	}))
	if !errors.Is(r.Err, refused) || r.StatusCode != 302 || r.FinalURL != "http://a.example/" {
		t.Errorf("got %d from %q, %v", r.StatusCode, r.FinalURL, r.Err)
	}
	if n := len(log.Take()); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}
