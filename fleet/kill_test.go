package fleet_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/batchhttp/fetch/fleet"
)

// slowly answers after a while, or when the client has gone.
func slowly(d time.Duration) func(string, http.ResponseWriter, *http.Request) {
	return func(_ string, w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(d):
			fmt.Fprint(w, "ok")
		}
	}
}

// 20,000 URLs on 200 hosts with a limit of 2, three workers, one killed at a
// third and one added at half.
func TestAWorkerIsKilledAndAnotherJoins(t *testing.T) {
	const lease = 4 * time.Second
	f := open(t, func(c *fleet.Config) { c.Lease = lease })
	h := newHosts(t, 200, slowly(20*time.Millisecond))
	urls := h.urls(100)
	add(t, f, urls)
	l := newLedger()
	var workers []*process
	for range 3 {
		workers = append(workers, startWorker(t, f.URL(), lease, l))
	}
	waitFor(t, time.Minute, "a third is done", func() bool { return l.distinct() >= len(urls)/3 })
	before := owners(t, f)
	killed := time.Now()
	workers[0].kill()
	waitFor(t, time.Minute, "half is done", func() bool { return l.distinct() >= len(urls)/2 })
	startWorker(t, f.URL(), lease, l)
	waitUntilDone(t, f, time.Minute)

	again := l.check(t, urls)
	requests, repeated := h.counts()
	h.checkLimit(t, 2)
	gone := ofTheDead(t, f, before)
	slowest := h.slowestReturn(t, gone, killed)
	t.Logf("%d requests, %d repeated, of these %d handled before; the %d hosts of the killed went on after %v at most", requests, repeated, again, len(gone), slowest)
	// The feed stops when 64 wait for the broker to write them down. Those in flight are handled all the same.
	if inFlight := 2 * len(gone); repeated-again > inFlight || again > 64+inFlight {
		t.Errorf("%d URLs were fetched again, %d of them handled before, and at most %d were in flight", repeated, again, inFlight)
	}
	if slowest > lease+3*time.Second { // one on a machine that has nothing else to do
		t.Errorf("a host went on after %v", slowest)
	}
}

// owners returns the owners of hosts.
func owners(t testing.TB, f *fleet.Fleet) map[string]string {
	t.Helper()
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	for _, h := range s.Hosts {
		if h.Owner != "" {
			owners[h.Host] = h.Owner
		}
	}
	return owners
}

// ofTheDead returns the hosts whose owners do not live.
func ofTheDead(t testing.TB, f *fleet.Fleet, owners map[string]string) (hosts []string) {
	t.Helper()
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for host, owner := range owners {
		if !slices.ContainsFunc(s.Workers, func(w fleet.WorkerStatus) bool { return w.Name == owner }) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// slowestReturn returns the longest time from an instant to the next request to one of the hosts.
func (h *hosts) slowestReturn(t testing.TB, hosts []string, at time.Time) (slowest time.Duration) {
	t.Helper()
	for _, host := range hosts {
		for _, arrival := range h.arrivals(host) {
			if arrival.After(at) {
				slowest = max(slowest, arrival.Sub(at))
				break
			}
		}
	}
	return slowest
}

// A worker that is told to stop finishes what is in flight and hands its hosts over at once.
func TestAWorkerThatStopsHandsItsHostsOver(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	f := open(t, func(c *fleet.Config) { c.Lease = lease })
	h := newHosts(t, 30, slowly(30*time.Millisecond))
	urls := h.urls(200)
	add(t, f, urls)
	l := newLedger()
	staying, leaving := startWorker(t, f.URL(), lease, l), startWorker(t, f.URL(), lease, l)
	var before map[string]string
	waitFor(t, time.Minute, "both have hosts", func() bool {
		before = owners(t, f)
		each := map[string]int{}
		for _, owner := range before {
			each[owner]++
		}
		return len(each) == 2 && min(slices.Min(slices.Collect(maps.Values(each))), 5) == 5
	})
	at := time.Now()
	leaving.stop()
	took := time.Since(at)
	gone := ofTheDead(t, f, before)
	waitUntilDone(t, f, time.Minute)
	staying.stop()
	again := l.check(t, urls)
	_, repeated := h.counts()
	h.checkLimit(t, 2)
	slowest := h.slowestReturn(t, gone, at)
	t.Logf("stopped in %v; %d hosts went on after %v at most; %d repeated, %d handled again", took, len(gone), slowest, repeated, again)
	if took > 2*time.Second || slowest > 2*time.Second || repeated > 0 || again > 0 || len(gone) < 5 {
		t.Error("it did not go by the book")
	}
}
