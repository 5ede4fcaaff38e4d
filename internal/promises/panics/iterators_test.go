package panics_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The input and the loop body are not the code of one URL: Goexit of the input ends the
// goroutine that ranges, as iter.Pull has it, and that of the loop body is its own.

// inputs are streams of both kinds whose input blows up after so many.
var inputs = map[string]func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result]{
	"Stream": func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result] {
		return f.Stream(ctx, func(yield func(string) bool) {
			for i := range n {
				if !yield(fmt.Sprintf("http://bomb/%d", i)) {
					return
				}
			}
			blow()
		})
	},
	"DoStream": func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result] {
		return f.DoStream(ctx, func(yield func(*http.Request) bool) {
			for i := range n {
				req, err := http.NewRequest("POST", fmt.Sprintf("http://bomb/%d", i), strings.NewReader("data"))
				if err != nil || !yield(req) {
					return
				}
			}
			blow()
		})
	},
}

func TestBlastsInInputs(t *testing.T) {
	for kind, stream := range inputs {
		for how, b := range blasts {
			for _, n := range []int{0, 1, 5, 20} {
				t.Run(fmt.Sprintf("%s, %s after %d", kind, how, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						blowUpAround(t, func(f *fetch.Fetcher) {
							value, ended := fetchtest.Recovered(func() {
								for r := range stream(f, t.Context(), b.blow, n) {
									fetchtest.CheckResult(t, r.Index, fmt.Sprintf("http://bomb/%d", r.Index), r)
								}
							})
							if !b.isPanic() {
								if value != nil || ended {
									t.Errorf("the loop went on after its input had exited; %v", value)
								}
								return
							}
							b.checkOut(t, value, ended)
						})
					})
				})
			}
		}
	}
}

func TestBlastsInLoopBodies(t *testing.T) {
	for kind, stream := range inputs {
		for how, b := range blasts {
			for _, n := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, %s after %d", kind, how, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						blowUpAround(t, func(f *fetch.Fetcher) {
							value, ended := fetchtest.Recovered(func() {
								seen := 0
								for range stream(f, t.Context(), func() {}, 100) {
									if seen++; seen > n {
										b.blow()
									}
								}
							})
							if !b.isPanic() {
								if value != nil || ended {
									t.Errorf("Goexit has not ended the goroutine; %v", value)
								}
								return
							}
							// It never left the caller's goroutine: it is just what it was.
							if err, ok := value.(error); !ok || !b.is(err) || strings.Contains(err.Error(), "goroutine") {
								t.Errorf("panicked with %.200v", value)
							}
						})
					})
				})
			}
		}
	}
}
