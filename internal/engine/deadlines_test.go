package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// The turns of an attempt share its timeout, in which no time in a queue counts.
func TestTheTimeoutIsThatOfAllHopsTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: 3500 * time.Millisecond, Limits: sched.Config{Slots: 1}})
		k := &task{host: "a"}
		k.work = hopTo(k, "a")
		others := tasks(4, "a", each(lasts(3*time.Second)))
		c.list(t.Context(), slices.Concat(others, []*task{k}))
		if k.turns != 4 || !errors.Is(k.err, fault.ErrTimeout) || !errors.Is(k.err, context.DeadlineExceeded) {
			t.Errorf("%d turns, error %v", k.turns, k.err)
		}
		if k.tally.Took != 3500*time.Millisecond || k.tally.Attempts != 1 || k.tally.Waited != 12*time.Second {
			t.Errorf("%+v", k.tally)
		}
		if others[3].err != nil {
			t.Error(others[3].err)
		}
	})
}

func TestEachAttemptHasTheWholeTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: 1500 * time.Millisecond})
		again := reports(job.Report{Next: job.Again})
		all := tasks(1, "a", each(turns(again, again, again, lasts(2*time.Second))))
		fetchtest.CheckTook(t, "the batch", c.list(t.Context(), all), 4500*time.Millisecond)
		if k := all[0]; k.err != fault.AttemptTimeout || k.tally.Attempts != 4 {
			t.Errorf("%d attempts, error %v", k.tally.Attempts, k.err)
		}
	})
}

// A rest of the timeout is shorter than a whole one, and ends before attempts that began earlier.
func TestTimeoutsEndInTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: 3 * time.Second, Limits: sched.Config{Slots: 9}})
		start := time.Now()
		all := tasks(5, "a", each(lasts(time.Minute)))
		for _, i := range []int{1, 3} { // time out after 1 s, and after 1 s and 2 s of their second turns
			all[i].work = turns(hopTo(all[i], "b"), lasts(time.Minute))
		}
		all[4].work = turns(reports(job.Report{Next: job.Again}), lasts(time.Minute))
		c.list(t.Context(), all)
		for i, want := range []time.Duration{3, 3, 3, 3, 4} {
			if got := all[i].ended.Sub(start); got != want*time.Second || all[i].err != fault.AttemptTimeout {
				t.Errorf("task %d ended after %v with %v", i, got, all[i].err)
			}
		}
	})
}

// A worker whose task ends at the very instant of its timeout goes on with the next unharmed.
func TestATimeoutDoesNotHitTheNextTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: time.Second, Limits: sched.Config{Slots: 1}})
		all := tasks(20, "a", func(i int) work {
			if i%2 == 0 {
				return func(turn job.Turn, r *job.Report) error { time.Sleep(time.Second); return nil }
			}
			return lasts(999 * time.Millisecond)
		})
		c.list(t.Context(), all)
		for i, k := range all {
			if k.err != nil {
				t.Errorf("task %d: %v", i, k.err)
			}
		}
	})
}

// A task that uses up its timeout to the last instant, and hops, times out at once.
func TestNoRestOfTheTimeoutIsATimeoutAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: time.Second})
		all := tasks(1, "a", each(turns(func(_ job.Turn, r *job.Report) error {
			time.Sleep(5 * time.Second) // as code does that ignores its context
			r.Next = job.Hop
			return nil
		}, lasts(time.Minute))))
		if took := c.list(t.Context(), all); took > 5*time.Second+time.Microsecond || all[0].err != fault.AttemptTimeout {
			t.Errorf("%v after %v", all[0].err, took)
		}
	})
}

// A task that goes on beyond its timeout has no place among the others any more: when it ends at
// last, the next in line then has ended too.
func TestATaskThatIgnoresItsTimeoutHarmsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Timeout: time.Second, Limits: sched.Config{Slots: 3}})
		deaf := &task{host: "a", work: func(turn job.Turn, _ *job.Report) error {
			time.Sleep(5 * time.Second)
			return context.Cause(turn.Context)
		}}
		next, late := &task{host: "a", work: lasts(900 * time.Millisecond)}, &task{host: "a", work: lasts(time.Hour)}
		in := func(yield func(job.Job) bool) {
			_ = yield(deaf) && rest(t.Context(), 200*time.Millisecond) == nil &&
				yield(next) && rest(t.Context(), 4700*time.Millisecond) == nil && yield(late)
		}
		for range c.streamOf(t.Context(), in, engine.StreamConfig{}) {
		}
		if deaf.err != fault.AttemptTimeout || next.err != nil {
			t.Errorf("%v, %v", deaf.err, next.err)
		}
		fetchtest.CheckTook(t, "the last", late.tally.Took, time.Second)
	})
}
