package engine_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// A meter gives a permit each second, and counts.
type meter struct{ asked, most, now int }

func (m *meter) Wait(ctx context.Context) error {
	m.asked++
	m.now++
	m.most = max(m.most, m.now)
	defer func() { m.now-- }()
	return rest(ctx, time.Second)
}

// A start takes a permit: each hop, and each attempt. One is asked for at a time.
func TestEachStartTakesAPermit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &meter{}
		c := hire(t, engine.Config{Limiter: m, Limits: sched.Config{Slots: 9}})
		hopping := &task{host: "a"}
		hopping.work = turns(hopTo(hopping, "b"), reports(job.Report{Next: job.Again}), lasts(time.Second))
		all := append(tasks(3, "c", each(lasts(time.Second))), hopping)
		c.list(t.Context(), all)
		starts := 0
		for _, k := range all {
			starts += k.turns
		}
		if m.asked != starts || m.most != 1 {
			t.Errorf("%d permits, %d at a time, for %d starts", m.asked, m.most, starts)
		}
	})
}

// While no task could start, no permit is asked for.
func TestThePermitIsAskedForWhenATaskCanStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		start := time.Now()
		var asked []time.Duration
		c := hire(t, engine.Config{
			Limits:  sched.Config{Slots: 1},
			Limiter: limiterFunc(func(context.Context) error { asked = append(asked, time.Since(start)); return nil }),
		})
		all := tasks(1, "a", each(turns(
			reports(job.Report{Next: job.Again, After: 10 * time.Second}),
			reports(job.Report{Answer: job.Throttled, Pause: 20 * time.Second, Next: job.Again}),
			lasts(time.Second),
		)))
		c.list(t.Context(), all)
		if want := []time.Duration{0, 11 * time.Second, 32 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
	})
}

// Its context ends with the last batch, and the next batch asks again.
func TestALimiterThatNobodyWaitsForIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked := 0
		c := hire(t, engine.Config{Limiter: limiterFunc(func(ctx context.Context) error {
			if asked++; asked > 1 {
				return nil
			}
			if _, ok := ctx.Deadline(); ok {
				t.Error("the context has a deadline")
			}
			<-ctx.Done()
			return ctx.Err()
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut := tasks(3, "a", each(lasts(time.Second)))
		fetchtest.CheckTook(t, "the batch", c.list(ctx, cut), time.Second)
		later := tasks(1, "a", each(lasts(time.Second)))
		c.list(t.Context(), later)
		if !errors.Is(cut[0].err, context.DeadlineExceeded) || later[0].err != nil {
			t.Errorf("%v, then %v", cut[0].err, later[0].err)
		}
	})
}

// Its error belongs to no task of a later batch, which has to wait for its return all the same.
func TestTheErrorOfALimiterFromBeforeIsNobodys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked := 0
		c := hire(t, engine.Config{Limiter: limiterFunc(func(context.Context) error {
			if asked++; asked == 1 {
				time.Sleep(10 * time.Second) // as code does that ignores its context
				return errTest
			}
			return nil
		})})
		ctx, cancel := cancelAfter(time.Second)
		defer cancel()
		go c.list(ctx, tasks(1, "a", each(lasts(time.Second))))
		time.Sleep(2 * time.Second)
		later := tasks(1, "a", each(lasts(time.Second)))
		fetchtest.CheckTook(t, "the later batch", c.list(t.Context(), later), 9*time.Second)
		if later[0].err != nil {
			t.Error(later[0].err)
		}
	})
}

// The oldest task gets the error, and the next task the next permit.
func TestAnErrorOfALimiterEndsTheTaskThatWouldHaveStarted(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		asked := 0
		c := hire(t, engine.Config{Limiter: limiterFunc(func(context.Context) error {
			if asked++; asked == 2 {
				return errTest
			}
			return nil
		})})
		all := tasks(4, "a", each(lasts(time.Second)))
		run(c, t.Context(), all)
		for i, k := range all {
			if failed := errors.Is(k.err, errTest); failed != (i == 1) || failed != (k.turns == 0) {
				t.Errorf("task %d had %d turns, and its error is %v", i, k.turns, k.err)
			}
		}
	})
}

func TestGoexitOfALimiterIsAnErrorOfOneTask(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		asked := 0
		c := hire(t, engine.Config{Limiter: limiterFunc(func(context.Context) error {
			if asked++; asked == 2 {
				runtime.Goexit()
			}
			return nil
		})})
		all := tasks(4, "a", each(lasts(time.Second)))
		run(c, t.Context(), all)
		for i, k := range all {
			if (k.err != nil) != (i == 1) {
				t.Errorf("task %d: %v", i, k.err)
			}
		}
	})
}

// The batch of the blamed task may have nothing else to do, and so end at once.
func TestAPanicOfALimiterIsNeverLost(t *testing.T) {
	for range 2000 {
		c := hire(t, engine.Config{Limiter: limiterFunc(func(context.Context) error { panic(errTest) })})
		all := tasks(1, "a", each(lasts(time.Second)))
		value, _ := fetchtest.Recovered(func() { c.list(t.Context(), all) })
		if err, ok := value.(error); !ok || !errors.Is(err, errTest) {
			t.Fatalf("%v came out", value)
		}
		if all[0].err != fault.Panicked {
			t.Fatal(all[0].err)
		}
	}
}

// The end of a task is code of the caller's, which may take its time.
func TestATaskThatALimiterEndsHoldsUpNoOtherBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked := 0
		c := hire(t, engine.Config{Limiter: limiterFunc(func(context.Context) error {
			time.Sleep(time.Second)
			if asked++; asked == 1 {
				return errTest
			}
			return nil
		})})
		slow := tasks(1, "a", each(lasts(time.Second)))
		slow[0].onEnd = func() { time.Sleep(time.Minute) }
		go c.list(t.Context(), slow)
		synctest.Wait()
		fetchtest.CheckTook(t, "the other batch", c.list(t.Context(), tasks(1, "b", each(lasts(time.Second)))), 3*time.Second)
		time.Sleep(time.Hour)
	})
}
