package main

import (
	"container/heap"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"text/tabwriter"
	"time"

	"golang.org/x/time/rate"

	"github.com/batchhttp/fetch/internal/sched"
)

// refused is how a list fared at a host that takes ten requests a second.
type refused struct {
	answers429, lost int
	took             time.Duration
}

const (
	refusalURLs     = 500
	refusalAttempts = 5
	refusalRate     = 10
	refusalTakes    = 50 * time.Millisecond
)

// compareRefusals prints how fetch, and back-off for each URL alone, treat a
// host that answers 429 to all beyond ten requests a second.
func compareRefusals(out io.Writer) {
	fmt.Fprintf(out, "A host that takes %d requests a second (burst %[1]d) and answers 429 otherwise: %d URLs, %d attempts each, lower bound 49 s\n\n",
		refusalRate, refusalURLs, refusalAttempts)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "policy\tin flight\tthe host tells\t429s\tlost\tseconds\t")
	for _, slots := range []int{5, 50, 200} {
		alone := backOffAlone(slots)
		fmt.Fprintf(table, "each URL backs off by itself\t%d\tnothing\t%d\t%d\t%.1f\t\n", slots, alone.answers429, alone.lost, alone.took.Seconds())
		for _, tells := range []telling{nothing, retryAfter, quotaLeft} {
			r := hostObeyed(slots, tells)
			fmt.Fprintf(table, "fetch\t%d\t%s\t%d\t%d\t%.1f\t\n", slots, tells, r.answers429, r.lost, r.took.Seconds())
		}
	}
	table.Flush()
	fmt.Fprintln(out)
}

// A telling is the help that a host gives.
type telling string

const (
	nothing    telling = "nothing"
	retryAfter telling = "Retry-After: 1"     // with a 429
	quotaLeft  telling = "RateLimit: r=…;t=…" // with every answer
)

// quotaOf returns the quota as the host tells it, in whole requests and seconds.
func quotaOf(server *rate.Limiter, now time.Time) sched.Quota {
	tokens := server.TokensAt(now)
	return sched.Quota{
		Left: int(tokens), Size: refusalRate,
		Reset: time.Duration(math.Ceil((refusalRate-tokens)/refusalRate)) * time.Second,
	}
}

// hostObeyed is the scheduler of fetch with retries on.
func hostObeyed(slots int, tells telling) (r refused) {
	start := time.Unix(0, 0)
	s := sched.New(start, sched.Config{Slots: slots, InitialWindow: sched.DefaultInitialWindow, PauseBase: 200 * time.Millisecond, PauseMax: 10 * time.Second})
	server := rate.NewLimiter(refusalRate, refusalRate)
	lane, attempts := s.NewLane(nil), make([]int, refusalURLs)
	for i := range refusalURLs {
		lane.Push(start, "host", i)
	}
	var running ends
	now := start
	for {
		for task, ok := s.Pop(now); ok; task, ok = s.Pop(now) {
			accepted := 0
			if server.AllowN(now, 1) {
				accepted = 1
			}
			e := ending{at: now.Add(refusalTakes).Sub(start), host: accepted, task: task}
			if tells == quotaLeft {
				e.quota = quotaOf(server, now)
			}
			heap.Push(&running, e)
		}
		at, waits := s.Next(now)
		if running.Len() > 0 && (!waits || !at.Before(start.Add(running[0].at))) {
			e := heap.Pop(&running).(ending)
			now = start.Add(e.at)
			r.end(s, lane, now, e, attempts, tells)
			continue
		}
		if !waits {
			r.took = now.Sub(start)
			return r
		}
		now = at
	}
}

// end hands a response to the scheduler; a refused URL goes to the back while it has attempts.
func (r *refused) end(s *sched.Scheduler, lane *sched.Lane, now time.Time, e ending, attempts []int, tells telling) {
	if e.host == 1 {
		s.Done(now, e.task, sched.Outcome{Verdict: sched.Accepted, Quota: e.quota})
		return
	}
	r.answers429++
	o := sched.Outcome{Verdict: sched.Throttled, Pause: e.quota.Reset, Quota: e.quota}
	if tells == retryAfter {
		o.Pause = time.Second
	}
	s.Done(now, e.task, o)
	if attempts[e.task.ID]++; attempts[e.task.ID] == refusalAttempts {
		r.lost++
	} else {
		lane.Back(now, "host", e.task.ID)
	}
}

// backOffAlone is what most clients do: each URL waits for a random time, and
// the host is asked by all the others meanwhile. A URL that waits holds no slot.
func backOffAlone(slots int) (r refused) {
	random := rand.New(rand.NewPCG(1, 2))
	server := rate.NewLimiter(refusalRate, refusalRate)
	start := time.Unix(0, 0)
	attempts := make([]int, refusalURLs)
	var due, running ends // due has what may start, by when
	for i := range refusalURLs {
		heap.Push(&due, ending{host: i})
	}
	now := time.Duration(0)
	for due.Len()+running.Len() > 0 {
		if running.Len() < slots && due.Len() > 0 && (running.Len() == 0 || max(now, due[0].at) <= running[0].at) {
			e := heap.Pop(&due).(ending)
			now = max(now, e.at)
			accepted := server.AllowN(start.Add(now), 1)
			if accepted {
				attempts[e.host] = -1
			}
			heap.Push(&running, ending{at: now + refusalTakes, host: e.host})
			continue
		}
		e := heap.Pop(&running).(ending)
		now = e.at
		if attempts[e.host] < 0 {
			continue
		}
		r.answers429++
		attempts[e.host]++
		if attempts[e.host] == refusalAttempts {
			r.lost++
			continue
		}
		ceiling := min(10*time.Second, 200*time.Millisecond<<(attempts[e.host]-1))
		heap.Push(&due, ending{at: now + time.Duration(random.Int64N(int64(ceiling)+1)), host: e.host})
	}
	r.took = now
	return r
}
