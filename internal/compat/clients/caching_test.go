package clients

import (
	"net/http"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/gregjones/httpcache"
)

// httpcache around the Fetcher's own client answers what is fresh without a request, and asks again
// with the ETag for what is not.
func TestHttpcache(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		if r.URL.Path == "/0" {
			w.Header().Set("Cache-Control", "max-age=60")
		} else {
			w.Header().Set("Cache-Control", "no-cache")
		}
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		hello(w, r)
	})
	cache := httpcache.NewMemoryCache()
	f, err := fetch.New(fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return &httpcache.Transport{Transport: next, Cache: cache, MarkCachedResponses: true}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	urls := numbered(s.URL, 2)
	mustBeFine(t, f.FetchAll(t.Context(), urls), "hello")
	again := f.FetchAll(t.Context(), urls)
	mustBeFine(t, again, "hello")
	if len(s.seen()) != 3 {
		t.Errorf("%d requests, want 2 and one with an ETag", len(s.seen()))
	}
	for _, r := range again {
		if r.Header.Get(httpcache.XFromCache) != "1" {
			t.Errorf("%s did not come from the cache: %v", r.URL, r.Header)
		}
	}
}
