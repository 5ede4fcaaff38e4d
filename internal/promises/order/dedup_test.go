package order_test

import (
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestEqualURLsAreFetchedOnceEach(t *testing.T) {
	var flight fetchtest.InFlight
	urls := []string{"http://a.example/x", "http://a.example/x", "http://b.example/", "http://a.example/x"}
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetchtest.Over(flight.Over(fetchtest.AnswerAfter(0)))))
	if n := flight.Total(); n != len(urls) {
		t.Errorf("%d requests for %d URLs", n, len(urls))
	}
}

func TestDedupSendsEachDistinctURLOnce(t *testing.T) {
	urls := []string{
		"http://host/a", "http://host/a#top", "HTTP://HOST/a", "http://host/a#", // one
		"http://host/A",      // a path has case
		"http://host/a?q",    // a query counts
		"https://host/a",     // another scheme
		"http://u@host/a",    // user information counts
		"http://U@host/a",    // and has case
		"http://U@HOST/a#x",  // as the one before
		"http://refused/",    // an error is shared too
		"http://refused/#it", // as the one before
		"http://h%zz/", "http://h%zz/",
	}
	const distinct = 7 // that can be sent
	var sent atomic.Int32
	transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		if req.URL.Host == "refused" {
			return nil, syscall.ECONNREFUSED
		}
		return fetchtest.Respond(req, 200, "body of "+req.URL.String()), nil
	})
	results := fetch.FetchAll(t.Context(), urls, transport, fetch.WithDedup())
	fetchtest.CheckResults(t, urls, results)
	if sent.Load() != distinct {
		t.Errorf("%d requests were sent, want %d", sent.Load(), distinct)
	}
	for i, r := range results[:10] {
		if r.Err != nil || len(r.Body) == 0 {
			t.Fatalf("%s: %q, %v", urls[i], r.Body, r.Err)
		}
	}
	for _, i := range []int{1, 2, 3} {
		if &results[i].Body[0] != &results[0].Body[0] {
			t.Errorf("the Body of %s is not shared", urls[i])
		}
	}
	for i, r := range results[10:] {
		if r.Err == nil {
			t.Errorf("%s: no error", urls[10+i])
		}
	}

	sent.Store(0)
	fetchtest.CheckResults(t, urls, fetch.FetchAll(t.Context(), urls, transport))
	if sent.Load() != int32(len(urls)-2) {
		t.Errorf("without the option %d were sent, want %d", sent.Load(), len(urls)-2)
	}

	sent.Store(0)
	f := fetchtest.NewFetcher(t, transport, fetch.WithDedup())
	req := func() *http.Request {
		r, _ := http.NewRequest("GET", "http://host/a", nil)
		return r
	}
	fetchtest.CheckResults(t, []string{"http://host/a", "http://host/a"}, f.DoAll(t.Context(), []*http.Request{req(), req()}))
	if sent.Load() != 2 {
		t.Errorf("of two equal requests of DoAll %d were sent", sent.Load())
	}
}
