package engine_test

import (
	"context"
	"errors"
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

// endings counts how tasks have ended.
func endings(all []*task) (fine, down, paused, other int) {
	for _, k := range all {
		switch {
		case k.err == nil:
			fine++
		case errors.Is(k.err, fault.ErrHostDown):
			down++
		case pausedOf(k) != nil:
			paused++
		default:
			other++
		}
	}
	return
}

func pausedOf(k *task) *fault.HostPaused {
	paused, _ := errors.AsType[*fault.HostPaused](k.err)
	return paused
}

// Tasks of a host that is down end while they wait, be it in a queue or in their back-off. Tasks in
// flight go on.
func TestAHostThatIsDownEndsItsTasks(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{MaxHostFailures: 3, Limits: sched.Config{Slots: 4}})
		fails := reports(job.Report{Down: errTest, Next: job.Again, After: time.Minute})
		all := slices.Concat(tasks(3, "a", each(fails)), tasks(1, "a", each(lasts(10*time.Second))), tasks(200, "a", each(lasts(time.Second))))
		start := time.Now()
		run(c, t.Context(), all)
		// Two may start before the third failure.
		if fine, down, _, other := endings(all); fine > 3 || down < 201 || other != 0 {
			t.Errorf("%d fine, %d down, %d other", fine, down, other)
		}
		for i, k := range all {
			if k.err != nil && (!errors.Is(k.err, errTest) || k.ended.Sub(start) != time.Second) {
				t.Errorf("task %d had %d turns and ended after %v with %v", i, k.turns, k.ended.Sub(start), k.err)
			}
		}
	})
}

// Fewer failures in a row than the limit, and one that is not in a row, end nothing.
func TestFailuresCountInARow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{MaxHostFailures: 3, Limits: sched.Config{Slots: 1}})
		fails, answers := reports(job.Report{Down: errTest}), reports(job.Report{Answer: job.Neutral})
		steps := []work{fails, fails, answers, fails, fails}
		before := tasks(5, "a", func(i int) work { return steps[i] })
		c.list(t.Context(), before)
		if fine, _, _, _ := endings(before); fine != len(before) {
			t.Errorf("%d of the first batch had a turn", fine)
		}
		// The memory of the host lasts: the third in a row is in another batch.
		all := tasks(3, "a", func(i int) work { return fails })
		c.list(t.Context(), all)
		if _, down, _, _ := endings(all); all[0].turns != 1 || down != 2 {
			t.Errorf("%d turns, then %d down", all[0].turns, down)
		}
		// The next batch tries again.
		all = tasks(3, "a", func(i int) work { return lasts(time.Second) })
		c.list(t.Context(), all)
		if fine, _, _, _ := endings(all); fine != 3 {
			t.Errorf("%d fine", fine)
		}
	})
}

// A pause that is longer than anybody waits ends the tasks of the host in all batches.
func TestAPauseThatIsTooLongEndsTheTasksOfAllBatches(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, oneSlot)
		until := time.Now().Add(time.Second + time.Hour)
		others := slices.Concat(tasks(3, "a", each(lasts(time.Second))), tasks(1, "b", each(lasts(time.Second))))
		all := tasks(1, "a", each(reports(job.Report{Answer: job.Throttled, Pause: time.Hour})))
		go func() {
			time.Sleep(500 * time.Millisecond)
			run(c, t.Context(), others)
		}()
		run(c, t.Context(), all)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, k := range others[:3] {
			if p := pausedOf(k); p == nil || p.Host != "a" || !p.Until.Equal(until) || k.turns != 0 {
				t.Errorf("%v", k.err)
			}
		}
		if all[0].err != nil || others[3].err != nil || others[3].result != 1 {
			t.Errorf("%v, %v", all[0].err, others[3].err)
		}
		// A later task need not be queued, until the rest is short enough to be waited for.
		late := tasks(1, "a", each(lasts(time.Second)))
		run(c, t.Context(), late)
		if pausedOf(late[0]) == nil {
			t.Error(late[0].err)
		}
		time.Sleep(time.Until(until) - time.Minute)
		late = tasks(1, "a", each(lasts(time.Second)))
		start := time.Now()
		run(c, t.Context(), late)
		fetchtest.CheckTook(t, "the rest of the pause", time.Since(start), time.Minute+time.Second)
		if late[0].err != nil {
			t.Error(late[0].err)
		}
	})
}

// A pause as long as the batch still waits for is waited for.
func TestAPauseEndsTheTasksWhoseDeadlineItDoesNotFit(t *testing.T) {
	for _, pause := range []time.Duration{9*time.Second - 1, 9 * time.Second} {
		eachWay(t, func(t *testing.T, run runTasks) {
			c := hire(t, oneSlot)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			all := tasks(2, "a", each(reports(job.Report{Answer: job.Throttled, Pause: pause})))
			start := time.Now()
			run(c, ctx, all)
			if pausedOf(all[1]) != nil != (pause == 9*time.Second) {
				t.Errorf("a pause of %v: %v after %v", pause, all[1].err, time.Since(start))
			}
		})
	}
}

// One doubtful refusal, or two, do not speak for the host. Three in a row do.
func TestDoubtfulRefusalsAreBelievedTheThirdTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		doubtful := reports(job.Report{Answer: job.Throttled, Pause: time.Hour, Doubtful: true})
		steps := []work{doubtful, doubtful, lasts(time.Second), doubtful, doubtful, doubtful, lasts(time.Second)}
		all := tasks(7, "a", func(i int) work { return steps[i] })
		c.list(t.Context(), all)
		if fine, _, paused, _ := endings(all); fine != 6 || paused != 1 {
			t.Errorf("%d fine, %d paused", fine, paused)
		}
	})
}

// A host that refuses everything is given up when the patience is over.
func TestAHostThatRefusesEverythingIsGivenUp(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, oneSlot)
		all := tasks(3, "a", func(int) work {
			return func(turn job.Turn, r *job.Report) error {
				time.Sleep(time.Second)
				*r = job.Report{Answer: job.Throttled, Pause: 50 * time.Second}
				if !turn.GivenUp() {
					r.Next = job.Again
				}
				return nil
			}
		})
		start := time.Now()
		run(c, t.Context(), all)
		// Refused after 1 s, 52 s, 103 s and 154 s, where 2 minutes are over.
		fetchtest.CheckTook(t, "giving up", time.Since(start), 154*time.Second)
		if fine, _, paused, _ := endings(all); fine != 1 || paused != 2 {
			t.Errorf("%d have their refusal, %d are paused", fine, paused)
		}
	})
}

// Each host has a budget, which lasts from batch to batch.
func TestTheBudgetOfAHostLasts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Budgets: true, Limits: sched.Config{Slots: 1}})
		paid := map[string]int{}
		pay := func(host string) work {
			return func(turn job.Turn, r *job.Report) error {
				if turn.Pay() {
					paid[host]++
				}
				return nil
			}
		}
		for range 4 {
			c.list(t.Context(), tasks(5, "a", each(pay("a"))))
		}
		c.list(t.Context(), tasks(1, "b", each(pay("b"))))
		// 10, and a fifth for each of the attempts before.
		if paid["a"] != 13 || paid["b"] != 1 {
			t.Errorf("%v were paid", paid)
		}
	})
}

// The eviction of a task may have to wait for the evictions of others, which run code of the caller's.
func TestATaskLosesItsContextWhileItsEvictionWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 4}})
		ctx, cancel := cancelAfter(10 * time.Second)
		defer cancel()
		k := &task{host: "a", ctx: ctx}
		k.work = func(turn job.Turn, r *job.Report) error {
			time.Sleep(2 * time.Second)
			k.host = "b"
			*r = job.Report{Answer: job.Throttled, Pause: time.Hour, Next: job.Hop}
			return nil
		}
		flying := tasks(1, "b", each(lasts(time.Hour)))
		closing := tasks(1, "b", each(reports(job.Report{Answer: job.Throttled, Pause: time.Hour})))
		slow := tasks(9, "a", each(lasts(20*time.Second)))
		for _, other := range slow {
			other.onEnd = func() { time.Sleep(time.Minute) }
		}
		c.list(t.Context(), slices.Concat([]*task{k}, flying, closing, slow))
		if p := pausedOf(k); p == nil || p.Host != "b" || flying[0].err != nil {
			t.Errorf("%v, %v", k.err, flying[0].err)
		}
	})
}

// The tasks of other hosts do not notice.
func TestAHostThatIsDownEndsNoTaskOfAnother(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{MaxHostFailures: 1})
		others := tasks(20, "b", each(lasts(time.Second)))
		run(c, t.Context(), append(tasks(20, "a", each(reports(job.Report{Down: errTest}))), others...))
		if fine, _, _, _ := endings(others); fine != len(others) {
			t.Errorf("%d of the others are fine", fine)
		}
	})
}

// A task can be evicted, lose its context and lose its batch in one instant.
func TestEvictionsAndContextsOfOneInstant(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		for range 20 {
			c := hire(t, engine.Config{MaxHostFailures: 1, Limits: sched.Config{Slots: 2}})
			own, cancelOwn := cancelAfter(time.Second)
			ctx, cancel := cancelAfter(time.Second)
			all := tasks(60, "a", each(reports(job.Report{Down: errTest, Next: job.Again, After: time.Second})))
			for i, k := range all {
				if i%2 == 0 {
					k.ctx = own
				}
			}
			run(c, ctx, all)
			cancel()
			cancelOwn()
			synctest.Wait()
			if fine, _, _, _ := endings(all); fine > 0 {
				t.Errorf("%d are fine", fine)
			}
		}
	})
}
