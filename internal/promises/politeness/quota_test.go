package politeness_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A quota is a host that takes so many requests a second, a burst of them at once, and
// answers 429 to the others. It notices when it is sent something in a pause that it has asked for.
type quota struct {
	retryAfter int // seconds; 0 is no such field

	mu        sync.Mutex
	perSecond float64
	burst     float64
	tokens    float64
	filled    time.Time
	outage    func() bool // while it takes nothing

	taken   []time.Duration // when requests were accepted, since the start
	refused int
	start   time.Time
	asked   time.Time // the end of the pause
	since   time.Time // when that was asked for last
	early   int       // requests sent in a pause
}

func newQuota(perSecond, burst float64, retryAfter int) *quota {
	now := time.Now()
	return &quota{perSecond: perSecond, burst: burst, tokens: burst, retryAfter: retryAfter, filled: now, start: now}
}

// set changes the quota.
func (q *quota) set(perSecond, burst float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill()
	q.perSecond, q.burst, q.tokens = perSecond, burst, min(q.tokens, burst)
}

func (q *quota) fill() {
	now := time.Now()
	q.tokens = min(q.burst, q.tokens+q.perSecond*now.Sub(q.filled).Seconds())
	q.filled = now
}

func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill()
	now := time.Now()
	// An answer of this very instant may not have been read yet.
	if now.After(q.since) && now.Before(q.asked) {
		q.early++
	}
	// Tokens are floats: a client on the exact pace must not be refused for the last digit.
	if q.tokens < 1-1e-6 || q.outage != nil && q.outage() {
		return false
	}
	q.tokens--
	q.taken = append(q.taken, now.Sub(q.start))
	return true
}

// serve takes a request or not when it comes, and says so 20 to 80 ms later.
func (q *quota) serve(req *http.Request) (*http.Response, error) {
	if q.take() {
		return fetchtest.Varied(fetchtest.AtOnce)(req)
	}
	return fetchtest.Varied(q.refuse)(req)
}

func (q *quota) refuse(req *http.Request) (*http.Response, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refused++
	if q.retryAfter == 0 {
		return fetchtest.Respond(req, 429, "too many"), nil
	}
	q.since = time.Now()
	if asked := q.since.Add(time.Duration(q.retryAfter) * time.Second); asked.After(q.asked) {
		q.asked = asked
	}
	return fetchtest.Respond(req, 429, "too many", "Retry-After", strconv.Itoa(q.retryAfter)), nil
}

// took returns the time between two acceptances, counted from 0.
func (q *quota) took(from, to int) time.Duration { return q.taken[to] - q.taken[from] }

// checkUsed checks, once a batch is over, that all its requests were accepted, and that
// neither the last 500 nor all of them took more than one and a half times as long as the
// quota allows.
func (q *quota) checkUsed(t *testing.T, requests int, last500, all time.Duration) {
	t.Helper()
	took := time.Since(q.start)
	if len(q.taken) != requests {
		t.Fatalf("%d of %d were accepted", len(q.taken), requests)
	}
	if last := q.took(requests-500, requests-1); last > last500*3/2 {
		t.Errorf("the last 500 took %v, the quota allows %v", last, last500)
	}
	if took > all*3/2 {
		t.Errorf("took %v, the quota allows %v", took, all)
	}
}

// checkPaused checks the error of a URL that ends for the pause of its host, which ends at one of the instants.
func checkPaused(t testing.TB, r fetch.Result, host string, until ...time.Time) {
	t.Helper()
	paused, _ := errors.AsType[*fetch.HostPausedError](r.Err)
	if paused == nil || !errors.Is(r.Err, fetch.ErrHostPaused) {
		t.Errorf("%s: %d, error %v, want a HostPausedError", r.URL, r.StatusCode, r.Err)
		return
	}
	if !strings.Contains(r.Err.Error(), "paused until "+paused.Until.UTC().Format(time.RFC3339)) {
		t.Errorf("%s: the error does not name the instant: %v", r.URL, r.Err)
	}
	if paused.Host != host || !slices.ContainsFunc(until, paused.Until.Equal) {
		t.Errorf("%s: host %s paused until %v, want %s until %v", r.URL, paused.Host, paused.Until, host, until)
	}
}
