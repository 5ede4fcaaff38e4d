package urls_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Number 12, and others: each list is of URLs that are sent alike.
var alike = [][]string{
	{"http://h", "http://h/", "HTTP://H:80/", "http://h:/", "http://h/#x", " http://h/ \n", "http://@h", "http://h/a/.."},
	{"http://h/é", "http://h/%C3%A9"},
	{"http://h/%c3%a9"},
	{"http://h/a b?c d", "http://h/a%20b?c%20d#%"},
	{"http://h/100%", "http://h/100%25"},
	{"http://h/%41"}, {"http://h/A"},
	{"http://h/?"}, {"http://h/?q"},
	{"https://h", "https://h:443/"},
	{"http://h:443/"},
	{"http://u@h/", "http://u:@h/"}, {"http://U@h/"}, {"http://u:p@h/"},
	{"http://[::1]", "http://[0::1]:80/"},
	{"http://127.0.0.1/", "http://127.1", "http://[::ffff:127.0.0.1]", "http://１２７。0.0.1"},
	{"http://xn--bcher-kva.example/", "http://bücher.example", "http://BÜCHER.example:80/", "http://b%C3%BCcher。example/#x"},
	{"http://bücher.example:81/", "http://xn--bcher-kva.example:81"},
}

func TestDedupComparesWhatIsSent(t *testing.T) { synctest.Test(t, testDedup) }

// testDedup has answers that take a while: a stream compares the URLs that it has read ahead.
func testDedup(t *testing.T) {
	urls := slices.Concat(alike...)
	var flight fetchtest.InFlight
	transport := fetchtest.Over(flight.Over(fetchtest.AnswerAfter(time.Second)))
	results := fetch.FetchAll(t.Context(), urls, transport, fetch.WithDedup())
	fetchtest.MustAllBeFine(t, urls, results)
	if flight.Total() != len(alike) {
		t.Errorf("FetchAll sent %d requests, want %d", flight.Total(), len(alike))
	}
	for _, group := range alike {
		first := results[slices.Index(urls, group[0])]
		for _, r := range results[first.Index:][:len(group)] {
			if r.FinalURL != first.FinalURL {
				t.Errorf("%q has the FinalURL %q", r.URL, r.FinalURL)
			}
		}
	}
	fetchtest.MustAllBeFine(t, urls, fetchtest.Collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), transport, fetch.WithDedup(), fetch.WithInOrder())))
	if flight.Total() != 2*len(alike) {
		t.Errorf("Stream sent %d requests, want %d", flight.Total()-len(alike), len(alike))
	}
}
