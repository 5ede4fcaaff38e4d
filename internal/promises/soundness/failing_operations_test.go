package soundness_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// configurations of the scenario.
var tortureOptions = map[string]func(*torture, int) []fetch.Option{
	"plain":  (*torture).plainOptions,
	"hooked": (*torture).hookedOptions,
}

// countOperations runs the scenario without a harm.
func countOperations(t *testing.T, options func(*torture, int) []fetch.Option) (ops []operation) {
	synctest.Test(t, func(t *testing.T) {
		r := newTorture(t, stories, func(operation) harm { return sound })
		e := r.run(options(r, 1), 1, tortureCalls[0])
		for i, result := range e.results {
			if diff := r.isAsEver(result); diff != "" || result.Attempts != stories[i].attempts {
				t.Errorf("%s: %s after %d attempts", result.URL, diff, result.Attempts)
			}
		}
		if e.took > 5*time.Second {
			t.Errorf("took %v", e.took)
		}
		ops = r.ops
	})
	return ops
}

func TestTortureWithEachOperationFailing(t *testing.T) {
	for name, options := range tortureOptions {
		t.Run(name, func(t *testing.T) {
			ops := countOperations(t, options)
			i := 0
			for _, op := range ops {
				if name == "hooked" && isNetwork(op.kind) {
					continue // as without hooks
				}
				if op.kind == "HostLimits" && op.n > 1 {
					continue // how often a host is asked for again varies
				}
				for _, f := range harmsOf[op.kind] {
					if i++; testing.Short() && i%10 != 0 {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s", op, f), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							call, stories := forCall(tortureCalls[i%len(tortureCalls)], storiesAround(op.host), op.host)
							r := newTorture(t, stories, func(o operation) harm {
								if o == op {
									return f
								}
								return sound
							})
							e := r.run(options(r, 1), 1, call)
							r.checkOneHarm(e, op, f, name == "hooked")
						})
					})
				}
			}
			t.Logf("%d operations, %d ways to fail", len(ops), i)
		})
	}
}

// checkOneHarm checks what one harm has come to.
func (r *torture) checkOneHarm(e tortureEnd, op operation, f harm, hooked bool) {
	t := r.t
	t.Helper()
	if r.struck != 1 {
		t.Fatalf("the operation came up %d times", r.struck)
	}
	// One harm costs at most an attempt, or the minute of the Limiter.
	if limit := tortureTimeout + 15*time.Second; e.took > limit && op.kind != "Limiter" || e.took > limit+time.Minute {
		t.Errorf("took %v", e.took)
	}
	if f == panics {
		r.checkPanic(e)
	} else if e.panicked != nil || !e.returned {
		t.Fatalf("ended with %v", e.panicked)
	}
	different := 0
	for _, result := range e.results {
		story := r.stories[result.Index]
		diff := r.isAsEver(result)
		if diff == "" && result.Attempts <= story.attempts+1 {
			continue
		}
		different++
		switch {
		case f == panics && errors.Is(result.Err, context.Canceled):
		case f == panics && story.has(op.host):
			if strings.Contains(diff, "Goexit") {
				t.Errorf("%s: a panic is not %s", result.URL, diff)
			}
		case !story.has(op.host):
			t.Errorf("%s is none of its business: %s, %d attempts", result.URL, diff, result.Attempts)
		case isMended(op, f, hooked, story):
			t.Errorf("%s was not mended: %s, %d attempts", result.URL, diff, result.Attempts)
		}
	}
	if different > 1 && f != panics {
		t.Errorf("%d URLs were affected", different)
	}
	if f == exits && different != 1 {
		t.Error("Goexit is no URL's error")
	}
}

func (r *torture) checkPanic(e tortureEnd) {
	err, _ := e.panicked.(error)
	if !errors.Is(err, errHook) || !strings.Contains(fmt.Sprint(err), "soundness_test.tear(") {
		r.t.Errorf("panicked with %.100q, want that of tear and its stack", fmt.Sprint(e.panicked))
	}
}

// isMended reports whether another attempt must have made good the harm.
func isMended(op operation, f harm, hooked bool, s story) bool {
	switch {
	case f == exits || s.once:
		return false
	case op.kind == "HostLimits" || op.kind == "Limiter" || op.kind == "RetryIf":
		// There is no attempt yet, or nobody who wants another.
		return false
	case op.kind == "BodyFunc" && f == short:
		return false
	case f == nothing || f == excess || op.kind == "GetBody":
		return hooked // the default policy takes them for final
	}
	return true
}

// TestTortureWithSeveralOperationsFailing has URLs in flight at once, of which several fail.
func TestTortureWithSeveralOperationsFailing(t *testing.T) {
	seeds := 80
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		for name, options := range tortureOptions {
			for _, version := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s, HTTP/%d, seed %d", name, version, seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						decide := harmsBySeed(uint64(seed))
						call, stories := forCall(tortureCalls[seed%len(tortureCalls)], slices.Clone(stories), "nowhere")
						r := newTorture(t, stories, func(op operation) harm {
							if f := decide(op); version == 1 || op.kind != "write" || f != blocks {
								return f
							}
							// net/http holds a mutex meanwhile, and for that the time of a bubble stands still.
							return fails
						})
						r.transport.Protocols = new(http.Protocols)
						r.transport.Protocols.SetHTTP1(version == 1)
						r.transport.Protocols.SetUnencryptedHTTP2(version == 2)
						// A dead connection of HTTP/2 is noticed by pings only.
						r.transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}
						r.checkManyHarms(r.run(options(r, 4), 4, call))
					})
				})
			}
		}
	}
}

func (r *torture) checkManyHarms(e tortureEnd) {
	r.t.Helper()
	switch {
	case e.panicked != nil:
		r.checkPanic(e)
	case !e.returned:
		r.t.Error("ended by Goexit")
	}
	// Each URL has three attempts, and the Limiter may take a minute for each request.
	if limit := time.Duration(len(stories)*(tortureRetries+1)) * (tortureTimeout + time.Minute); e.took > limit {
		r.t.Errorf("took %v", e.took)
	}
}

// harmsBySeed lets some of the operations fail. It goes by what they are, not by their
// order, which varies where several URLs are in flight. Panics are rarer, since they end the run.
func harmsBySeed(seed uint64) func(operation) harm {
	return func(op operation) harm {
		h := fnv.New64a()
		fmt.Fprint(h, seed, op)
		n := h.Sum64()
		n ^= n >> 32
		if n%harmRate != 0 {
			return sound
		}
		n /= harmRate
		ways := harmsOf[op.kind]
		f := ways[n%uint64(len(ways))]
		if f == panics && n/uint64(len(ways))%5 != 0 {
			return sound
		}
		return f
	}
}
