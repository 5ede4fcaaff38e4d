package order_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAPanicOfTheInputComesOutOfTheLoop(t *testing.T) {
	for name, read := range map[string]int{"at once": 0, "later": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var counter fetchtest.InFlight
				f := fetchtest.NewFetcher(t, fetchtest.Over(lingering(&counter)))
				var got any
				func() {
					defer func() { got = recover() }()
					for range f.Stream(t.Context(), func(yield func(string) bool) {
						for i := range read {
							if !yield(fmt.Sprintf("http://a.example/%d", i)) {
								return
							}
						}
						panic("input broke")
					}) {
					}
				}()
				if !strings.Contains(fmt.Sprint(got), "input broke") {
					t.Errorf("recovered %v", got)
				}
				if n := counter.Current(); n != 0 {
					t.Errorf("%d requests are still in flight", n)
				}
				// The Fetcher is none the worse for it.
				urls := []string{"http://a.example/0"}
				results := f.FetchAll(t.Context(), urls)
				fetchtest.CheckResults(t, urls, results)
				if results[0].Err != nil {
					t.Error(results[0].Err)
				}
			})
		})
	}
}

// iter.Pull takes a Goexit of the input to the goroutine that ranges, and so may a Stream.
func TestAnInputThatExitsDoesNotHangTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counter fetchtest.InFlight
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range fetch.Stream(t.Context(), func(yield func(string) bool) {
				yield("http://a.example/1")
				runtime.Goexit()
			}, fetchtest.Over(lingering(&counter))) {
			}
		}()
		<-done
		if n := counter.Current(); n != 0 {
			t.Errorf("%d requests are still in flight", n)
		}
	})
}
