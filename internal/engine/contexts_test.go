package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// stages are instants in the life of the second of two tasks of a host, in one slot: the first
// takes 2 s; then the second takes 2 s, waits 4 s, and takes 2 s more.
var stages = map[string]struct {
	at    time.Duration
	turns int // that it has had
}{
	"before it is accepted": {0, 0},
	"waiting for a slot":    {time.Second, 0},
	"in flight":             {3 * time.Second, 1},
	"in its back-off":       {6 * time.Second, 1},
	"in flight again":       {9 * time.Second, 2},
}

// twoTasks returns the tasks of the stages.
func twoTasks() []*task {
	all := tasks(2, "a", each(lasts(2*time.Second)))
	all[1].work = turns(func(t job.Turn, r *job.Report) error {
		err := lasts(2*time.Second)(t, r)
		if err == nil {
			r.Next, r.After = job.Again, 4*time.Second
		}
		return err
	}, lasts(2*time.Second))
	return all
}

func TestTheEndOfTheBatchsContextAtEachStage(t *testing.T) {
	for name, stage := range stages {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run runTasks) {
				c, all, start := hire(t, engine.Config{Limits: sched.Config{Slots: 1}}), twoTasks(), time.Now()
				ctx, cancel := cancelAfter(stage.at)
				defer cancel()
				run(c, ctx, all)
				fetchtest.CheckTook(t, "the batch", time.Since(start), stage.at)
				for _, k := range all {
					if k.result == 0 && stage.at == 0 {
						continue // a stream that was cancelled before reads nothing
					}
					if done := k.err == nil; done != (k == all[0] && stage.at > 2*time.Second) || !done && !errors.Is(k.err, errTest) {
						t.Errorf("error %v", k.err)
					}
				}
				if all[1].turns != stage.turns {
					t.Errorf("it had %d turns, want %d", all[1].turns, stage.turns)
				}
			})
		})
	}
}

func TestTheEndOfATasksContextAtEachStage(t *testing.T) {
	for name, stage := range stages {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run runTasks) {
				c, all, start := hire(t, engine.Config{Limits: sched.Config{Slots: 1}}), twoTasks(), time.Now()
				k := all[1]
				own, cancel := cancelAfter(stage.at)
				defer cancel()
				k.ctx = own
				k.work = within(own, k.work)
				all = append(all, &task{host: "b", work: lasts(time.Second)})
				run(c, context.Background(), all)
				if !errors.Is(k.err, errTest) || !errors.Is(k.err, context.Canceled) || k.turns != stage.turns {
					t.Errorf("%d turns, want %d; error %v", k.turns, stage.turns, k.err)
				}
				fetchtest.CheckTook(t, "the task", k.ended.Sub(start), stage.at)
				if all[0].err != nil || all[2].err != nil {
					t.Errorf("the others end with %v and %v", all[0].err, all[2].err)
				}
			})
		})
	}
}

// A job of its own accord may want another turn although its context has ended in this one.
func TestATaskWhoseContextEndedInFlightHasNoOtherTurn(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{})
		all := tasks(1, "a", each(reports(job.Report{Next: job.Again})))
		ctx, cancel := cancelAfter(500 * time.Millisecond)
		defer cancel()
		all[0].ctx = ctx
		run(c, context.Background(), all)
		if all[0].turns != 1 || !errors.Is(all[0].err, errTest) {
			t.Errorf("%d turns, error %v", all[0].turns, all[0].err)
		}
	})
}

// No request follows on a context that has ended, and so none takes a permit or a token of a rate.
func TestATaskWhoseContextHasEndedTakesNoPermit(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		m := &meter{}
		c := hire(t, engine.Config{Limiter: m})
		all := tasks(2, "a", each(lasts(time.Second)))
		ctx, cancel := cancelAfter(0)
		defer cancel()
		all[0].ctx = ctx
		run(c, context.Background(), all)
		if m.asked != 1 || all[0].tally.Attempts != 0 || all[1].err != nil {
			t.Errorf("%d permits, %d attempts, then %v", m.asked, all[0].tally.Attempts, all[1].err)
		}
	})
}

// Contexts that end together end their tasks once each, and the slot that another task frees is used.
func TestManyContextsEndAtTheSameInstant(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{})
		ctx, cancel := cancelAfter(1500 * time.Millisecond)
		defer cancel()
		all := tasks(300, "a", each(lasts(time.Second)))
		for i, k := range all {
			if i%3 > 0 {
				k.ctx, k.work = ctx, within(ctx, k.work)
			}
		}
		run(c, context.Background(), all)
		for i, k := range all[6:] {
			if (k.err == nil) != (k.ctx == nil) {
				t.Errorf("task %d: %v", 6+i, k.err)
			}
		}
	})
}

// A turn does not get the context of the turn before if it has ended.
func TestATurnBeginsWithALiveContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 1}})
		all := tasks(4, "a", each(func(t job.Turn, r *job.Report) error {
			err := t.Context.Err()
			t.Cancel(errTest)
			return err
		}))
		c.list(t.Context(), all)
		for i, k := range all {
			if k.err != nil {
				t.Errorf("task %d: %v", i, k.err)
			}
		}
	})
}

// A turn knows the deadline of its batch, and whether that was cancelled.
func TestATurnKnowsTheEndOfItsBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{})
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errTest)
		defer cancel()
		all := tasks(1, "a", each(func(turn job.Turn, r *job.Report) error {
			if err := turn.Cancelled(); err != nil || !turn.Fits(time.Now().Add(time.Second-1)) || turn.Fits(time.Now().Add(time.Second)) {
				t.Errorf("%v, %v", err, turn.Deadline)
			}
			<-turn.Context.Done()
			synctest.Wait()
			return turn.Cancelled()
		}))
		c.list(ctx, all)
		if err := all[0].err; !errors.Is(err, errTest) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// cancelAfter returns a context that ends after so long, with errTest.
func cancelAfter(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	if d == 0 {
		cancel(errTest)
	}
	timer := time.AfterFunc(d, func() { cancel(errTest) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// within returns work that a context ends too.
func within(own context.Context, w work) work {
	return func(t job.Turn, r *job.Report) error {
		ctx, cancel := context.WithCancelCause(t.Context)
		defer cancel(nil)
		defer context.AfterFunc(own, func() { cancel(fmt.Errorf("%w: %w", own.Err(), context.Cause(own))) })()
		t.Context = ctx
		return w(t, r)
	}
}
