package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// More hosts than a worker may have take turns.
func TestHostsThatWaitForAWorkerGetTheirTurn(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.Hosts, c.Turn = 1, 500*time.Millisecond })
	h := newHosts(t, 3, slowly(20*time.Millisecond))
	urls := h.urls(60) // more than a second for each
	add(t, f, urls)
	l := newLedger()
	start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 5*time.Second, "all hosts were called", func() bool {
		return !slices.ContainsFunc(h.names, func(name string) bool { return len(h.arrivals(name)) == 0 })
	})
	waitUntilDone(t, f, 60*time.Second)
	again := l.check(t, urls)
	h.checkLimit(t, 1)
	if _, repeated := h.counts(); repeated > 0 || again > 0 {
		t.Errorf("%d repeated, %d handled again", repeated, again)
	}
}

// A worker that joins gets its share of the hosts that others have, and nothing is done twice.
func TestAWorkerThatJoinsGetsHosts(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 20, slowly(30*time.Millisecond))
	urls := h.urls(100)
	add(t, f, urls)
	l := newLedger()
	start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 10*time.Second, "a tenth is done", func() bool { return l.distinct() > len(urls)/10 })
	start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 5*time.Second, "both have hosts", func() bool {
		s, err := f.Status(t.Context())
		return err == nil && len(s.Workers) == 2 && min(s.Workers[0].Hosts, s.Workers[1].Hosts) >= 5
	})
	waitUntilDone(t, f, 30*time.Second)
	again := l.check(t, urls)
	h.checkLimit(t, 1)
	if _, repeated := h.counts(); repeated > 0 || again > 0 {
		t.Errorf("%d repeated, %d handled again", repeated, again)
	}
}

// A host that is handed over goes on at once, also if one of its URLs is put off.
func TestAHandOverClosesNoHostThatHasMoreToDo(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 1, func(_ string, w http.ResponseWriter, r *http.Request) {
		time.Sleep(30 * time.Millisecond)
		if r.URL.Path == "/0" {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	urls := h.urls(200)
	l := newLedger()
	add(t, f, urls[:100])
	stop := start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 10*time.Second, "one is put off", func() bool {
		s, err := f.Status(t.Context())
		return err == nil && len(s.Workers) == 1 && s.Workers[0].Again == 1
	})
	add(t, f, urls[100:]) // behind it, so that the worker has come to it before them
	waitFor(t, 20*time.Second, "the worker is at these", func() bool { return l.distinct() > 110 })
	stop()
	start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 20*time.Second, "the others are done", func() bool { return l.distinct() == 199 })
	l.check(t, urls[1:])
}

// A URL that is put off is done when it is due, though its host always has something in flight.
func TestABusyHostHoldsUpNoURLThatIsPutOff(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 1, func(string, http.ResponseWriter, *http.Request) { time.Sleep(200 * time.Millisecond) })
	var failed, again atomic.Int64
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		if strings.HasSuffix(d.Request.URL, "/0") {
			if d.Deliveries == 0 {
				failed.Store(time.Now().UnixNano())
				return errors.New("not now")
			}
			again.Store(time.Now().UnixNano())
		}
		return nil
	}, fetch.WithHostConcurrency(2))
	deadline := time.Now().Add(15 * time.Second)
	for i := 0; again.Load() == 0; i++ {
		if time.Now().After(deadline) {
			t.Fatal("it is not done while there is anything else to do")
		}
		add(t, f, []string{fmt.Sprintf("http://%s/%d", h.names[0], i)})
		time.Sleep(120 * time.Millisecond)
	}
	if took := time.Duration(again.Load() - failed.Load()); took > 8*time.Second {
		t.Errorf("a second took %v", took)
	}
}

// A host whose token was lost, with a producer or a broker, gets another.
func TestAPageWithoutATokenIsFound(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 1, nil)
	add(t, f, h.urls(5))
	dropTokens(t, f)
	l := newLedger()
	start(t, f, note(l))
	waitUntilDone(t, f, 10*time.Second)
	l.check(t, h.urls(5))
}
