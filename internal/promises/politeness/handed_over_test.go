package politeness_test

import (
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

// refusing answers the nth request, from 0, with a 429, and the others at once.
func refusing(nth int32, after string) fetchtest.RoundTripFunc {
	var n atomic.Int32
	return func(req *http.Request) (*http.Response, error) {
		if n.Add(1) == nth+1 {
			return fetchtest.Respond(req, 429, "later", "Retry-After", after), nil
		}
		return fetchtest.Respond(req, 200, "ok"), nil
	}
}

func TestAHostIsHandedOverWithItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		server := refusing(3, "30")
		first := fetchtest.NewFetcher(t, fetchtest.Over(server), fetch.WithHostConcurrency(1))
		urls := fetchtest.Numbered("http://h.example", 4)
		fetchtest.CheckResults(t, urls, first.FetchAll(t.Context(), urls))
		state := first.HostState("h.example")
		if want := start.Add(30 * time.Second); !state.PausedUntil.Equal(want) || !state.Refusing.Equal(start) {
			t.Fatalf("%+v, want a pause until %v", state, want)
		}

		sent := fetchtest.NewTimeline()
		second := fetchtest.NewFetcher(t, fetchtest.Over(sent.Over(fetchtest.Taking(time.Second, server))), fetch.WithHostConcurrency(8))
		if err := second.SetHostState("h.example", state); err != nil {
			t.Fatal(err)
		}
		urls = fetchtest.Numbered("http://h.example", 20)
		fetchtest.MustAllBeFine(t, urls, second.FetchAll(t.Context(), urls))
		if n := sent.Between("h.example", -1, 30*time.Second); n != 0 {
			t.Errorf("%d requests in the pause", n)
		}
		if n := sent.Between("h.example", 29*time.Second, 31*time.Second); n != 1 {
			t.Errorf("%d requests at its end, want one to probe", n)
		}
	})
}

func TestAHostIsHandedOverWithItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		f := fetchtest.NewFetcher(t, fetchtest.Over(sent.Over(fetchtest.AtOnce)))
		if err := f.SetHostState("h.example", fetch.HostState{Pace: 2}); err != nil {
			t.Fatal(err)
		}
		if pace := f.HostState("h.example").Pace; pace != 2 {
			t.Errorf("pace %v", pace)
		}
		urls := fetchtest.Numbered("http://h.example", 10)
		fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		if at := sent.OfHost("h.example"); at[3]-at[1] < 900*time.Millisecond {
			t.Errorf("sent at %v, with two a second", at)
		}
	})
}

func TestAHostIsHandedOverWithItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		option := fetchtest.Over(sent.Over(fetchtest.AtOnce))
		var state fetch.HostState
		const hands, each, burst = 4, 7, 5
		for range hands {
			f := fetchtest.NewFetcher(t, option, fetch.WithHostRate(rate.Every(time.Second), burst))
			if err := f.SetHostState("h.example", state); err != nil {
				t.Fatal(err)
			}
			urls := fetchtest.Numbered("http://h.example", each)
			fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			state = f.HostState("h.example")
		}
		at := sent.OfHost("h.example")
		for i := range at {
			for j := i; j < len(at); j++ {
				if most := burst + (at[j] - at[i]).Seconds(); float64(j-i+1) > most+1e-6 {
					t.Fatalf("%d starts within %v", j-i+1, at[j]-at[i])
				}
			}
		}
		if took, want := at[len(at)-1], (hands*each-burst)*time.Second; took > want+time.Millisecond {
			t.Errorf("it took %v, and %v is enough", took, want)
		}
	})
}

func TestAHostIsHandedOverWithItsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := fetchtest.Over(func(*http.Request) (*http.Response, error) { return nil, fetchtest.ErrRefused })
		first := fetchtest.NewFetcher(t, dead, fetch.WithMaxHostFailures(3), fetch.WithHostConcurrency(1))
		urls := fetchtest.Numbered("http://h.example", 2)
		fetchtest.CheckResults(t, urls, first.FetchAll(t.Context(), urls))
		state := first.HostState("h.example")
		if state.Failures != 2 {
			t.Fatalf("%d failures, want 2", state.Failures)
		}
		var sent atomic.Int32
		second := fetchtest.NewFetcher(t, fetchtest.Over(func(*http.Request) (*http.Response, error) {
			sent.Add(1)
			return nil, fetchtest.ErrRefused
		}), fetch.WithMaxHostFailures(3), fetch.WithHostConcurrency(1))
		if err := second.SetHostState("h.example", state); err != nil {
			t.Fatal(err)
		}
		urls = fetchtest.Numbered("http://h.example", 10)
		fetchtest.CheckResults(t, urls, second.FetchAll(t.Context(), urls))
		if sent.Load() != 1 {
			t.Errorf("%d requests, and the third failure was the last", sent.Load())
		}
	})
}

func TestOfAStrangeHostNothingIsKnown(t *testing.T) {
	f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AtOnce))
	if s := f.HostState("h.example"); s != (fetch.HostState{}) {
		t.Errorf("%+v", s)
	}
	for name, s := range map[string]fetch.HostState{
		"pace": {Pace: -1}, "no number": {Pace: rate.Limit(math.NaN())}, "in flight": {InFlight: -1}, "failures": {Failures: -1},
		"quota left": {QuotaLeft: -1}, "quota size": {QuotaSize: -1},
	} {
		if err := f.SetHostState("h.example", s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bad := fetchtest.NewFetcher(t, fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Burst: -1} }))
	if err := bad.SetHostState("h.example", fetch.HostState{}); err == nil {
		t.Error("limits that are none: no error")
	}
}

func TestAHostIsHandedOverWithItsQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		sent := fetchtest.NewTimeline()
		first := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, 200, "ok", "RateLimit-Limit", "5", "RateLimit-Remaining", "2", "RateLimit-Reset", "20"), nil
		}))
		fetchtest.MustFetch(t, first, "http://h.example/")
		state := first.HostState("h.example")
		if state.QuotaLeft != 2 || state.QuotaSize != 5 || !state.QuotaReset.Equal(start.Add(20*time.Second)) {
			t.Fatalf("%+v", state)
		}
		second := fetchtest.NewFetcher(t, fetchtest.Over(sent.Over(fetchtest.AtOnce)))
		if err := second.SetHostState("h.example", state); err != nil {
			t.Fatal(err)
		}
		if got := second.HostState("h.example"); got.QuotaLeft != 2 || got.QuotaSize != 5 || !got.QuotaReset.Equal(state.QuotaReset) {
			t.Errorf("%+v, want %+v", got, state)
		}
		urls := fetchtest.Numbered("http://h.example", 7)
		fetchtest.MustAllBeFine(t, urls, second.FetchAll(t.Context(), urls))
		if n := sent.Between("h.example", -1, 19*time.Second); n != 2 {
			t.Errorf("%d requests before the reset, want 2", n)
		}
	})
}
