package neighbours_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// urlCount makes 105,000 URLs of all cases together.
func urlCount() int {
	if testing.Short() {
		return 250
	}
	return 2500
}

var slots = []int{1, 8, 64}

// Each server answers all URLs in its unclean way. None may hurt another.
func TestUncleanAnswersHurtNoNeighbour(t *testing.T) {
	nothingIsLogged(t)
	for _, u := range uncleans {
		for _, n := range slots {
			t.Run(fmt.Sprintf("%s/%d slots", u.name, n), func(t *testing.T) {
				checkNeighbours(t, &u, n, urlCount(), func(int) bool { return true })
			})
		}
	}
}

// A tenth of the URLs are answered so, and the others clean.
func TestCleanURLsBesideUncleanOnesAreNotHurt(t *testing.T) {
	nothingIsLogged(t)
	for _, u := range uncleans {
		for _, n := range slots {
			t.Run(fmt.Sprintf("%s/%d slots", u.name, n), func(t *testing.T) {
				checkNeighbours(t, &u, n, urlCount(), func(i int) bool { return i%10 == 0 }, fetch.WithRetries(3))
			})
		}
	}
}

// checkNeighbours fetches so many URLs, those of isUnclean with the unclean answer, and counts
// those that are hurt: with an error that is not their own, or a body that is not theirs.
func checkNeighbours(t *testing.T, u *unclean, slots, count int, isUnclean func(i int) bool, opts ...fetch.Option) {
	target := u.serve(t)
	var reqs []*http.Request
	var urls []string
	for i := range count {
		path, method := fmt.Sprintf("/clean/%d", i), "GET"
		if isUnclean(i) {
			path = "/un" + path[1:]
			if u.method != "" {
				method = u.method
			}
		}
		reqs = append(reqs, fetchtest.NewRequest(t, method, target+path, nil))
		urls = append(urls, target+path)
	}
	opts = append(opts, fetch.WithConcurrency(slots), fetch.WithBackoff(0, 0))
	results := fetchtest.NewFetcher(t, opts...).DoAll(t.Context(), reqs)
	fetchtest.CheckResults(t, urls, results)
	hurt, foreign := 0, 0
	var first error
	for i, r := range results {
		path := strings.TrimPrefix(r.URL, target)
		fine := hasBody
		if isUnclean(i) {
			fine = u.fine
		}
		switch {
		case fine(r, path):
		case r.Err == nil:
			foreign++
		default:
			hurt++
			if first == nil {
				first = r.Err
			}
		}
	}
	if hurt != 0 || foreign != 0 {
		t.Errorf("of %d URLs %d were hurt, and %d got a body that is not theirs; first: %v", count, hurt, foreign, first)
	}
}
