package politeness_test

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Of 64 slots an unknown host gets ten until its first answer, where that is little beside the whole.
func TestAnUnknownHostIsSentTenRequestsFirst(t *testing.T) {
	const answer = 100 * time.Millisecond
	all := fetchtest.Numbered("http://a.example", 500)
	for name, c := range map[string]struct {
		urls   []string
		answer time.Duration
		opts   []fetch.Option
		first  int           // requests at the start
		then   time.Duration // when all slots are used
	}{
		"much to do":                  {all, answer, nil, 10, answer},
		"no answer for a while":       {all, 10 * time.Second, nil, 10, 3 * time.Second},
		"little to do":                {all[:130], answer, nil, 64, 0},
		"few slots":                   {all, answer, []fetch.Option{fetch.WithConcurrency(40)}, 40, answer},
		"many slots":                  {all, answer, []fetch.Option{fetch.WithConcurrency(500)}, 500, 0},
		"a limit of the host":         {all, answer, []fetch.Option{fetch.WithHostConcurrency(40)}, 40, answer},
		"a rate of the host":          {all, answer, []fetch.Option{fetch.WithHostRate(1000, 50)}, 50, 14 * time.Millisecond},
		"quotas are not to be heeded": {all, answer, []fetch.Option{fetch.WithMaxRetryAfter(0)}, 64, 0},
	} {
		for how, run := range map[string]func(t *testing.T, f *fetch.Fetcher) []fetch.Result{
			"FetchAll": func(t *testing.T, f *fetch.Fetcher) []fetch.Result { return f.FetchAll(t.Context(), c.urls) },
			"Stream": func(t *testing.T, f *fetch.Fetcher) []fetch.Result {
				return fetchtest.Collect(t, c.urls, f.Stream(t.Context(), slices.Values(c.urls)))
			},
		} {
			t.Run(fmt.Sprintf("%s, %s", name, how), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := fetchtest.NewTimeline()
					f := fetchtest.NewFetcher(t, append(c.opts, fetch.WithInOrder(), fetchtest.Over(sent.Over(fetchtest.AnswerAfter(c.answer))))...)
					fetchtest.MustAllBeFine(t, c.urls, run(t, f))
					at := sent.OfHost("a.example")
					if n := sent.Between("a.example", -1, time.Nanosecond); n != c.first {
						t.Errorf("%d requests at first, want %d", n, c.first)
					}
					if n := min(64, len(c.urls)); c.first < n && at[n-1] != c.then {
						t.Errorf("the %dth request is sent at %v, want %v", n, at[n-1], c.then)
					}
				})
			})
		}
	}
}

// What a host is not sent yet, others are.
func TestOthersUseTheSlotsThatAnUnknownHostDoesNotGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls []string
		hosts := []string{"a", "b", "c", "d", "e", "f", "g"}
		for _, host := range hosts {
			urls = append(urls, fetchtest.Numbered("http://"+host+".example", 200)...)
		}
		sent := fetchtest.NewTimeline()
		results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(sent.Over(fetchtest.AnswerAfter(50*time.Millisecond))))
		fetchtest.MustAllBeFine(t, urls, results)
		first := 0
		for _, host := range hosts {
			n := sent.Between(host+".example", -1, time.Nanosecond)
			first += n
			if n > 10 {
				t.Errorf("%d requests to %s at first", n, host)
			}
		}
		if first != 64 {
			t.Errorf("%d of 64 slots are used before the first answer", first)
		}
	})
}

// readSlowly is an iterator that takes some time for each URL, and a second for the end.
func readSlowly(urls []string, each time.Duration) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, u := range urls {
			if !yield(u) {
				return
			}
			time.Sleep(each)
		}
		time.Sleep(time.Second)
	}
}

// While a stream grows its hosts may soon have much to do, but not if it does not grow any more.
func TestAStreamThatGrowsBeginsWithTenRequests(t *testing.T) {
	const answer = 100 * time.Millisecond
	for each, want := range map[time.Duration]int{5 * time.Millisecond: 10, 0: 30, 20 * time.Millisecond: 5} {
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := fetchtest.Numbered("http://a.example", 30)
				sent := fetchtest.NewTimeline()
				f := fetchtest.NewFetcher(t, fetch.WithInOrder(), fetchtest.Over(sent.Over(fetchtest.AnswerAfter(answer))))
				fetchtest.MustAllBeFine(t, urls, fetchtest.Collect(t, urls, f.Stream(t.Context(), readSlowly(urls, each))))
				if n := sent.Between("a.example", -1, answer); n != want {
					t.Errorf("%d requests before the first answer, want %d", n, want)
				}
			})
		})
	}
}

// Others that come meanwhile are not held up by it.
func TestAnOpenStreamDelaysNoOtherBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = 100 * time.Millisecond
		urls := fetchtest.Numbered("http://a.example/stream", 10)
		f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(answer)))
		var wg sync.WaitGroup
		wg.Go(func() { fetchtest.Collect(t, urls, f.Stream(t.Context(), readSlowly(urls, 0))) })
		time.Sleep(20 * time.Millisecond)
		more := fetchtest.Numbered("http://a.example/list", 50)
		start := time.Now()
		fetchtest.MustAllBeFine(t, more, f.FetchAll(t.Context(), more))
		fetchtest.CheckTook(t, "the list beside a stream", time.Since(start), answer)
		wg.Wait()
	})
}

// A list is queued bit by bit.
func TestAListThatIsQueuedSlowlyBeginsWithTenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = 100 * time.Millisecond
		var urls []string
		hosts := []string{"a", "b", "c", "d", "e"}
		for i := range 400 {
			for _, host := range hosts {
				urls = append(urls, fmt.Sprintf("http://%s.example/%d", host, i))
			}
		}
		sent := fetchtest.NewTimeline()
		slow := fetch.WithHostGroup(func(host string) string {
			time.Sleep(time.Microsecond)
			return host
		})
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, slow, fetchtest.Over(sent.Over(fetchtest.AnswerAfter(answer)))))
		for _, host := range hosts {
			if n := sent.Between(host+".example", -1, answer); n != 10 {
				t.Errorf("%d requests to %s before the first answer", n, host)
			}
		}
	})
}
