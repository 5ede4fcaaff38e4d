package engine_test

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/job"
)

// Work is the code of a job's requests. Its error is the outcome.
type work func(t job.Turn, r *job.Report) error

// lasts returns work that takes d, unless its context ends before.
func lasts(d time.Duration) work {
	return func(t job.Turn, r *job.Report) error {
		if err := rest(t.Context, d); err != nil {
			return cmp.Or(t.Cancelled(), err) // the Turn's context may end before it has heard why
		}
		r.Answer = job.Accepted
		return nil
	}
}

// rest waits for d, or returns the cause of the end of ctx.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turns returns work that does one after the other, and the last for all later turns.
func turns(all ...work) work {
	turn := -1
	return func(t job.Turn, r *job.Report) error {
		turn = min(turn+1, len(all)-1)
		return all[turn](t, r)
	}
}

// reports returns work that takes a second, and reports r.
func reports(r job.Report) work {
	return func(t job.Turn, out *job.Report) error {
		err := lasts(time.Second)(t, out)
		if err == nil {
			*out = r
		}
		return err
	}
}

// A task is a job.Job without a URL.
type task struct {
	host     string
	hostErr  error
	ctx      context.Context
	distinct string
	size     int
	work     work
	onEnd    func()

	onAttempt, onTold func() // in Attempted and Ended

	blowsUp bool // in the first End, so that it has another

	turns int       // that it had
	first time.Time // when the first began
	late  bool      // whether one began after a context had ended

	// The outcome:
	err    error
	ends   int // calls of End
	ended  time.Time
	tally  job.Tally
	result int // results that were handed in

	attempts []attempt // that it was told of
	told     int       // how often it was told that it has ended
	shared   bool      // it has the outcome of another
}

// An attempt is one that a task was told of.
type attempt struct {
	tally job.Tally
	again time.Time
}

// tasks returns n tasks of a host.
func tasks(n int, host string, w func(i int) work) []*task {
	all := make([]*task, n)
	for i := range all {
		all[i] = &task{host: host, work: w(i)}
	}
	return all
}

// each is for tasks that all do the same, which has no state.
func each(w work) func(int) work { return func(int) work { return w } }

func (k *task) Host() (string, error)    { return k.host, k.hostErr }
func (k *task) Context() context.Context { return k.ctx }
func (k *task) Distinct() string         { return k.distinct }
func (k *task) Size() int                { return k.size }

func (k *task) End(err error) {
	k.ends++
	k.ended = time.Now()
	if err != nil {
		k.err = err
	}
	if k.onEnd != nil {
		k.onEnd()
	}
}

func (k *task) Result() (int64, bool) { return int64(k.size), k.err != nil }

func (k *task) Attempted(tally job.Tally, again time.Time) {
	k.attempts = append(k.attempts, attempt{tally, again})
	if k.onAttempt != nil {
		k.onAttempt()
	}
}

func (k *task) Ended(job.Tally) {
	k.told++
	if k.onTold != nil {
		k.onTold()
	}
}

// check checks that the task has one outcome, and was told of it and of each attempt.
func (k *task) check(t testing.TB, i int) {
	t.Helper()
	if k.result != 1 {
		t.Errorf("task %d has %d results", i, k.result)
	}
	if k.late {
		t.Errorf("task %d had a turn after its context had ended", i)
	}
	if k.told != 1 {
		t.Errorf("task %d was told %d times that it has ended", i, k.told)
	}
	if !k.shared && len(k.attempts) != k.tally.Attempts {
		t.Errorf("task %d was told of %d attempts, and had %d", i, len(k.attempts), k.tally.Attempts)
	}
	if k.ends != 1 && !(k.blowsUp && k.ends == 2) {
		t.Errorf("task %d was ended %d times", i, k.ends)
	}
	if k.tally.Attempts == 0 && k.turns > 0 || k.tally.Attempts > k.turns+1 || k.tally.Waited < 0 || k.tally.Took < 0 {
		t.Errorf("task %d had %d turns, and its tally is %+v", i, k.turns, k.tally)
	}
}

func isOver(deadline time.Time) bool { return !deadline.IsZero() && time.Now().After(deadline) }

func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}

// A runner runs tasks, and notes how many run at a time.
type runner struct{ gauges *gauges }

// gauges has the most that were in flight at a time.
type gauges struct {
	all   gauge
	hosts map[string]*gauge // not written to while tasks run
}

type gauge struct{ now, most atomic.Int64 }

func (g *gauge) add(n int64) {
	now := g.now.Add(n)
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); {
		most = g.most.Load()
	}
}

func (r runner) Run(t job.Turn, j job.Job, out *job.Report) {
	k := j.(*task)
	host := r.gauges.hosts[k.host]
	r.gauges.all.add(1)
	host.add(1)
	defer r.gauges.all.add(-1)
	defer host.add(-1)
	if err := t.Context.Err(); err != nil { // the batch has ended since the turn began
		k.err = cmp.Or(t.Cancelled(), err)
		return
	}
	if k.turns == 0 {
		k.first = time.Now()
	}
	k.turns++
	k.late = k.late || isOver(t.Deadline) || k.ctx != nil && isOver(deadlineOf(k.ctx))
	k.err = k.work(t, out)
}

var errTest = errors.New("test")

// hopTo returns work that takes a second and leads a task to another host.
func hopTo(k *task, host string) work {
	return func(t job.Turn, r *job.Report) error {
		err := lasts(time.Second)(t, r)
		if err == nil {
			k.host, r.Next = host, job.Hop
		}
		return err
	}
}
