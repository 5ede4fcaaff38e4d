package engine_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// counted returns an input that counts the tasks that are read of it.
func counted(all []*task, read *int) iter.Seq[job.Job] {
	return func(yield func(job.Job) bool) {
		for _, k := range all {
			*read++
			if !yield(k) {
				return
			}
		}
	}
}

// every returns an input that takes so long behind each task.
func every(d time.Duration, all []*task) iter.Seq[job.Job] {
	return func(yield func(job.Job) bool) {
		for _, k := range all {
			if !yield(k) {
				return
			}
			time.Sleep(d)
		}
	}
}

// descending returns n tasks, of which the first takes n seconds and the last one.
func descending(n int) []*task {
	return tasks(n, "a", func(i int) work { return lasts(time.Duration(n-i) * time.Second) })
}

func TestAStreamYieldsTasksAsTheyEnd(t *testing.T) {
	for inOrder, want := range map[bool][]int{false: {3, 2, 1, 0}, true: {0, 1, 2, 3}} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{Limits: sched.Config{Slots: 9}})
			got := slices.Collect(c.stream(t.Context(), descending(4), engine.StreamConfig{InOrder: inOrder}))
			if !slices.Equal(got, want) {
				t.Errorf("in order %v: %v, want %v", inOrder, got, want)
			}
		})
	}
}

// A result comes when it is there, not when the next ends.
func TestAResultIsYieldedAtOnce(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{Limits: sched.Config{Slots: 9}})
			all, start := tasks(5, "a", func(i int) work { return lasts(time.Duration(i+1) * time.Second) }), time.Now()
			for i := range c.stream(t.Context(), all, engine.StreamConfig{InOrder: inOrder}) {
				fetchtest.CheckTook(t, "a result", time.Since(start), time.Duration(i+1)*time.Second)
			}
		})
	}
}

// Inputs that are queued, in flight, or not yielded yet count against the lookahead.
func TestTheLookaheadIsReachedAndNeverExceeded(t *testing.T) {
	for _, lookahead := range []int{1, 2, 7, 8, 9, 100} {
		for _, inOrder := range []bool{false, true} {
			inBubble(t, func(t *testing.T) {
				c := hire(t, engine.Config{Limits: sched.Config{Slots: 3}})
				all := tasks(60, "a", each(lasts(time.Second)))
				read, yielded, most := 0, 0, 0
				for range c.streamOf(t.Context(), counted(all, &read), engine.StreamConfig{Lookahead: lookahead, InOrder: inOrder}) {
					time.Sleep(3 * time.Second) // a slow consumer
					synctest.Wait()
					most = max(most, read-yielded)
					yielded++
				}
				if want := min(lookahead, len(all)); most != want || yielded != len(all) {
					t.Errorf("lookahead %d: %d were read ahead, and %d yielded", lookahead, most, yielded)
				}
			})
		}
	}
}

// A loop may run others on the same engine, which need the slot that its own have given back.
func TestALoopMayUseTheEngineItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		for range c.stream(t.Context(), tasks(5, "a", each(lasts(time.Second))), engine.StreamConfig{Lookahead: 1}) {
			c.list(t.Context(), tasks(2, "a", each(lasts(time.Second))))
		}
	})
}

// Leaving the loop returns when all has ended, and no further input is read.
func TestLeavingALoopEndsWhatIsInFlight(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{Limits: sched.Config{Slots: 3}})
			all, read, start := tasks(60, "a", each(lasts(time.Second))), 0, time.Now()
			all[4].work = func(job.Turn, *job.Report) error { time.Sleep(time.Minute); return nil }
			for i := range c.streamOf(t.Context(), counted(all, &read), engine.StreamConfig{Lookahead: 10, InOrder: inOrder}) {
				if i == 3 {
					break
				}
			}
			fetchtest.CheckTook(t, "a task that does not heed its context", time.Since(start), 61*time.Second)
			for i, k := range all[:read] {
				if k.ends != 1 {
					t.Errorf("task %d was ended %d times", i, k.ends)
				}
			}
			if read > 14 {
				t.Errorf("%d were read", read)
			}
		})
	}
}

// Each input that was read has its result, and no other is read.
func TestAStreamWhoseContextEnds(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{Limits: sched.Config{Slots: 3}})
			all, read, yielded := tasks(60, "a", each(lasts(time.Second))), 0, 0
			ctx, cancel := cancelAfter(2500 * time.Millisecond)
			defer cancel()
			for i := range c.streamOf(ctx, counted(all, &read), engine.StreamConfig{Lookahead: 10, InOrder: inOrder}) {
				if (all[i].err == nil) != (i < 6) || all[i].err != nil && !errors.Is(all[i].err, errTest) {
					t.Errorf("task %d: %v", i, all[i].err)
				}
				yielded++
			}
			if read != yielded || read > 16 {
				t.Errorf("%d were read, %d yielded", read, yielded)
			}
		})
	}
}

// An input that has no next yet holds up no result.
func TestAnInputMayBeSlow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{})
		all, start := tasks(3, "a", each(lasts(time.Second))), time.Now()
		for i := range c.streamOf(t.Context(), every(time.Minute, all), engine.StreamConfig{}) {
			fetchtest.CheckTook(t, "a result", time.Since(start), time.Duration(i)*time.Minute+time.Second)
		}
		fetchtest.CheckTook(t, "the end of the input", time.Since(start), 3*time.Minute)
	})
}

const mebi = 1 << 20

// weighing gives each task an outcome of so many bytes.
func weighing(bytes int, all []*task) []*task {
	for _, k := range all {
		k.size = bytes
	}
	return all
}

// startedBy counts the tasks that have begun by now.
func startedBy(all []*task) (n int) {
	synctest.Wait()
	for _, k := range all {
		if k.turns > 0 {
			n++
		}
	}
	return n
}

// Nothing starts while more than 64 MiB are unread, until half of that is left: of 16 MiB each 5
// are too many, one more is in flight then, and the loop has read 4 when it takes up the fifth.
func TestUnreadResultsHoldUpFurtherStarts(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{})
			all := weighing(16*mebi, tasks(40, "a", each(lasts(time.Second))))
			var started []int
			for range c.stream(t.Context(), all, engine.StreamConfig{InOrder: inOrder}) {
				time.Sleep(time.Minute) // nobody waits for the next
				started = append(started, startedBy(all))
			}
			if want := []int{6, 6, 6, 6}; !slices.Equal(started[:4], want) {
				t.Errorf("in order %v: %v have started, want %v", inOrder, started[:8], want)
			}
			if started[4] <= 6 || len(started) != len(all) {
				t.Errorf("in order %v: %v", inOrder, started)
			}
		})
	}
}

// The task that the loop waits for starts all the same.
func TestTheTaskThatIsWaitedForStartsDespiteUnreadResults(t *testing.T) {
	again := reports(job.Report{Next: job.Again, After: time.Minute})
	throttled := reports(job.Report{Answer: job.Throttled, Pause: time.Minute, Next: job.Again})
	for name, first := range map[string]work{
		"in flight":       lasts(time.Hour),
		"in its back-off": turns(again, again, lasts(time.Second)),
		"refused":         turns(throttled, throttled, throttled, lasts(time.Second)),
		"hopping":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := hire(t, engine.Config{Limits: sched.Config{Slots: 3}})
				all := weighing(16*mebi, append(tasks(1, "a", each(first)), tasks(40, "b", each(lasts(time.Second)))...))
				if first == nil {
					all[0].work = turns(hopTo(all[0], "b"), hopTo(all[0], "c"), lasts(time.Second))
				}
				next := 0
				for i := range c.stream(t.Context(), all, engine.StreamConfig{InOrder: true}) {
					if i == 0 && name != "hopping" {
						if n := startedBy(all); n > 8 {
							t.Errorf("%d had started when the first was yielded", n)
						}
					}
					if i != next {
						t.Errorf("%d instead of %d", i, next)
					}
					next++
				}
			})
		})
	}
}

// Several refused tasks that are queued behind all others start when the loop waits for them.
func TestRefusedTasksAreWaitedForInTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 6}})
		all := weighing(20*mebi, tasks(30, "a", func(i int) work {
			if i%5 == 0 {
				refused := reports(job.Report{Answer: job.Throttled, Pause: time.Second, Next: job.Again})
				return turns(refused, refused, lasts(time.Second))
			}
			return lasts(time.Second)
		}))
		got := slices.Collect(c.stream(t.Context(), all, engine.StreamConfig{InOrder: true, Lookahead: 12}))
		if !slices.IsSorted(got) || len(got) != len(all) {
			t.Error(got)
		}
	})
}

// A result of more than the limit alone is no reason to stand still.
func TestAResultMayBeLargerThanAllThatMayBeUnread(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{})
			all := weighing(100*mebi, tasks(10, "a", each(lasts(time.Second))))
			if n := len(slices.Collect(c.stream(context.Background(), all, engine.StreamConfig{InOrder: inOrder}))); n != len(all) {
				t.Errorf("%d results", n)
			}
		})
	}
}
