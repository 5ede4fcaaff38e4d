package watching_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

// At the end the sums are those of the results, whatever became of them.
func TestStatsAddUpToTheResults(t *testing.T) {
	for name, run := range runs {
		for _, dedup := range []bool{false, true} {
			for _, ends := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond, time.Hour} {
				t.Run(fmt.Sprintf("%s, dedup %v, ends after %v", name, dedup, ends), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						opts := []fetch.Option{fetchtest.Over(answerMixed), fetch.WithRetries(2), fetch.WithConcurrency(3), fetch.WithMaxRetryAfter(10 * time.Second), fetch.WithMaxHostFailures(2)}
						if dedup {
							opts = append(opts, fetch.WithDedup())
						}
						f := fetchtest.NewFetcher(t, opts...)
						ctx, cancel := context.WithTimeout(t.Context(), ends)
						defer cancel()
						var want fetch.Stats
						for r := range run(f, ctx) {
							want.Done++
							if r.Err != nil {
								want.Failed++
							}
							if !dedup { // equal URLs share them
								want.Attempts += int64(r.Attempts)
								want.Bytes += int64(len(r.Body))
							}
						}
						got := f.Stats()
						if dedup {
							want.Attempts, want.Bytes = got.Attempts, got.Bytes
						}
						if got != want {
							t.Errorf("%+v, want %+v", got, want)
						}
						if hosts := f.Hosts(); hosts == nil || len(hosts) != 0 {
							t.Errorf("hosts are left: %v", hosts)
						}
					})
				})
			}
		}
	}
}

func TestEachURLIsCountedOnceAtEveryInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		var urls []string
		for i := range n {
			urls = append(urls, fmt.Sprintf("http://host%d.example/%d", i%13, i))
		}
		var f *fetch.Fetcher
		var flight fetchtest.InFlight
		check := func() {
			s := f.Stats()
			if sum := s.Queued + s.BackingOff + s.InFlight + int(s.Done); sum != n {
				t.Errorf("%d URLs in %+v", sum, s)
			}
			var queued, backingOff, inFlight, paused int
			hosts := f.Hosts()
			for i, h := range hosts {
				queued, backingOff, inFlight = queued+h.Queued, backingOff+h.BackingOff, inFlight+h.InFlight
				if h.PausedUntil.After(time.Now()) {
					paused++
				}
				if i > 0 && h.Left > hosts[i-1].Left || h.Queued+h.BackingOff+h.InFlight == 0 {
					t.Errorf("host %d of %+v", i, hosts)
				}
			}
			if queued != s.Queued || backingOff != s.BackingOff || inFlight != s.InFlight || paused != s.PausedHosts {
				t.Errorf("%+v, but the hosts have %d, %d, %d, and %d are paused", s, queued, backingOff, inFlight, paused)
			}
		}
		opts := []fetch.Option{
			fetch.WithConcurrency(20), fetch.WithHostConcurrency(3), fetch.WithRetries(3),
			fetchtest.Over(flight.Over(fetchtest.Flaky(0.2, fetchtest.Failing(fetchtest.ErrReset), fetchtest.Flaky(0.05, fetchtest.Always(429, "Retry-After", "1"), fetchtest.Varied(fetchtest.AtOnce))))),
		}
		f = fetchtest.NewFetcher(t, opts...)
		var polls sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		most := fetch.Stats{}
		polls.Go(func() {
			time.Sleep(time.Microsecond) // the list has been taken
			for ctx.Err() == nil {
				check()
				s := f.Stats()
				most.BackingOff, most.InFlight, most.PausedHosts = max(most.BackingOff, s.BackingOff), max(most.InFlight, s.InFlight), max(most.PausedHosts, s.PausedHosts)
				fetchtest.SleepCtx(ctx, 7*time.Millisecond)
			}
		})
		fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
		cancel()
		polls.Wait()
		if most.BackingOff == 0 || most.InFlight != flight.Most() || most.PausedHosts == 0 {
			t.Errorf("at most %+v, %d in flight", most, flight.Most())
		}
	})
}

func TestBytesCountWhatABodyFuncReads(t *testing.T) {
	urls := fetchtest.Numbered("http://a.example", 3)
	f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AtOnce), fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	}))
	fetchtest.MustFetch(t, f, urls...)
	if s := f.Stats(); s.Bytes != 6 {
		t.Errorf("%d bytes", s.Bytes)
	}
}

// A view of a batch at a part of its time: how long was left in truth, and how long it said.
type view struct{ truth, left, simple time.Duration }

// watch runs a batch, and returns views at parts of its time.
func watch(t *testing.T, parts []float64, run func(f *fetch.Fetcher) int, opts ...fetch.Option) []view {
	t.Helper()
	type poll struct {
		at, left time.Duration
		done     int64
	}
	var polls []poll
	f := fetchtest.NewFetcher(t, opts...)
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	var polling sync.WaitGroup
	polling.Go(func() {
		for ctx.Err() == nil {
			s := f.Stats()
			polls = append(polls, poll{time.Since(start), s.Left, s.Done})
			fetchtest.SleepCtx(ctx, 5*time.Millisecond)
		}
	})
	n := run(f)
	took := time.Since(start)
	cancel()
	polling.Wait()
	var views []view
	for _, part := range parts {
		at := time.Duration(part * float64(took))
		i, _ := slices.BinarySearchFunc(polls, at, func(p poll, at time.Duration) int { return int(p.at - at) })
		p := polls[min(i, len(polls)-1)]
		simple := time.Duration(float64(p.at) / float64(max(1, p.done)) * float64(int64(n)-p.done))
		views = append(views, view{took - p.at, p.left, simple})
	}
	return views
}

// off returns by how much an estimate is off, as a share of the truth.
func (v view) off() float64 { return math.Abs(float64(v.left-v.truth)) / float64(v.truth) }

// slowHost are 640 URLs of which 40 are of a host of its own.
func slowHost() []string {
	var urls []string
	for i := range 640 {
		host := fmt.Sprintf("host%d.example", i%30)
		if i%16 == 5 {
			host = "slow.example"
		}
		urls = append(urls, fmt.Sprintf("http://%s/%d", host, i))
	}
	return urls
}

func TestLeftIsHonest(t *testing.T) {
	slowly := fetch.WithHostLimits(func(host string) fetch.HostLimits {
		if host == "slow.example" {
			return fetch.HostLimits{Rate: 10}
		}
		return fetch.HostLimits{}
	})
	manySlots := fetch.WithConcurrency(16)
	for name, opts := range map[string][]fetch.Option{
		"a host of 10/s":     {manySlots, slowly},
		"the slots decide":   {fetch.WithConcurrency(4), slowly},
		"one at a time each": {manySlots, fetch.WithHostConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(50 * time.Millisecond))},
		"a rate for all":     {manySlots, fetch.WithRate(100, 5)},
		"a rate for each":    {manySlots, fetch.WithHostRate(8, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parts := []float64{0.1, 0.2, 0.3, 0.6}
				views := watch(t, parts, func(f *fetch.Fetcher) int {
					urls := slowHost()
					fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
					return len(urls)
				}, append([]fetch.Option{fetchtest.Over(fetchtest.Varied(fetchtest.AtOnce))}, opts...)...)
				for i, v := range views {
					t.Logf("at %.0f %%: %v left, said %v (%.1f %% off), by the share that is done %v", 100*parts[i], v.truth, v.left, 100*v.off(), v.simple)
					if v.off() > 0.05 {
						t.Errorf("at %.0f %%: %v left, said %v", 100*parts[i], v.truth, v.left)
					}
				}
			})
		})
	}
}

// A host that refuses is slow by its own account.
func TestLeftIsHonestWhileAHostIsPaused(t *testing.T) {
	for name, server := range map[string]func() fetchtest.RoundTripFunc{
		"once": func() fetchtest.RoundTripFunc {
			var once sync.Once
			return func(req *http.Request) (resp *http.Response, err error) {
				resp, err = fetchtest.Varied(fetchtest.AtOnce)(req)
				once.Do(func() { resp = fetchtest.Respond(req, 429, "", "Retry-After", "3") })
				return resp, err
			}
		},
		"until it is well again": func() fetchtest.RoundTripFunc {
			start := time.Now()
			return func(req *http.Request) (*http.Response, error) {
				if at := time.Since(start); 200*time.Millisecond < at && at < 400*time.Millisecond {
					return fetchtest.Respond(req, 429, "", "Retry-After", "4"), nil
				}
				return fetchtest.Varied(fetchtest.AtOnce)(req)
			}
		},
		"by 10/s": func() fetchtest.RoundTripFunc {
			bucket := rate.NewLimiter(10, 10)
			return func(req *http.Request) (*http.Response, error) {
				if !bucket.Allow() {
					return fetchtest.Respond(req, 429, "", "Retry-After", "1"), nil
				}
				return fetchtest.Varied(fetchtest.AtOnce)(req)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuses := server()
				type poll struct{ at, left time.Duration }
				var paused []poll
				start := time.Now()
				f := fetchtest.NewFetcher(t, fetch.WithConcurrency(16), fetch.WithRetries(9), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Host == "slow.example" {
						return refuses(req)
					}
					return fetchtest.Varied(fetchtest.AtOnce)(req)
				}))
				ctx, cancel := context.WithCancel(t.Context())
				var polling sync.WaitGroup
				polling.Go(func() {
					for ctx.Err() == nil {
						if s := f.Stats(); s.PausedHosts > 0 {
							paused = append(paused, poll{time.Since(start), s.Left})
						}
						fetchtest.SleepCtx(ctx, 100*time.Millisecond)
					}
				})
				urls := slowHost()
				fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				took := time.Since(start)
				cancel()
				polling.Wait()
				if len(paused) == 0 {
					t.Fatal("it was never paused")
				}
				for _, p := range paused {
					v := view{truth: took - p.at, left: p.left}
					t.Logf("after %v: %v left, said %v (%.0f %% off)", p.at, v.truth, v.left, 100*v.off())
					if v.off() > 0.25 {
						t.Errorf("after %v: %v left, said %v", p.at, v.truth, v.left)
					}
				}
			})
		})
	}
}

func TestHostsTellWhatIsKnownOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(8), fetch.WithHostConcurrency(2), fetch.WithRetries(1), fetch.WithBackoff(time.Hour, time.Hour),
			fetchtest.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
				"a.example:81": fetchtest.AnswerAfter(time.Second),
				"busy.example": fetchtest.Always(503, "Retry-After", "30"),
				"down.example": fetchtest.Failing(fetchtest.ErrReset),
			})))
		ctx, cancel := context.WithCancel(t.Context())
		var hosts []fetch.HostStats
		var stats fetch.Stats
		time.AfterFunc(2500*time.Millisecond, func() { hosts, stats = f.Hosts(), f.Stats(); cancel() })
		urls := slices.Concat(fetchtest.HostURLs(10, "a.example:81"), fetchtest.HostURLs(3, "busy.example"), fetchtest.HostURLs(1, "down.example"))
		fetchtest.CheckResults(t, urls, f.FetchAll(ctx, urls))
		if len(hosts) != 3 || hosts[0].Host != "down.example" && hosts[0].Host != "busy.example" {
			t.Fatalf("%+v", hosts)
		}
		for _, h := range hosts {
			switch {
			case h.Host == "a.example:81" && (h.Queued != 4 || h.InFlight != 2 || h.Took != time.Second || h.Left < 2*time.Second || h.Left > 3*time.Second || !h.PausedUntil.IsZero()),
				h.Host == "busy.example" && (h.Queued != 3 || h.InFlight != 0 || h.PausedUntil != start.Add(30*time.Second) || h.Left < 27*time.Second),
				h.Host == "down.example" && (h.BackingOff != 1 || h.Queued != 0):
				t.Errorf("%+v", h)
			}
		}
		if stats.PausedHosts != 1 || stats.Left != hosts[0].Left {
			t.Errorf("%+v, where the last host ends in %v", stats, hosts[0].Left)
		}
	})
}

// BenchmarkStats measures Stats, and BenchmarkHosts Hosts, while nothing changes: of hosts that have
// a rate, and something to do.
func BenchmarkStats(b *testing.B) {
	benchmarkWaiting(b, func(f *fetch.Fetcher) { f.Stats() })
}

func BenchmarkHosts(b *testing.B) {
	benchmarkWaiting(b, func(f *fetch.Fetcher) { f.Hosts() })
}

func benchmarkWaiting(b *testing.B, ask func(*fetch.Fetcher)) {
	for _, hosts := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			f := fetchtest.NewFetcher(b, fetch.WithConcurrency(1), fetch.WithHostRate(1, 1), fetchtest.Over(fetchtest.Hanging))
			var batch sync.WaitGroup
			batch.Go(func() {
				f.FetchAll(ctx, fetchtest.HostURLs(3, slices.Collect(fetchtest.NumberedHosts(hosts))...))
			})
			for f.Stats().Queued < 3*hosts-1 {
				time.Sleep(time.Millisecond)
			}
			for b.Loop() {
				ask(f)
			}
			cancel()
			batch.Wait()
		})
	}
}
