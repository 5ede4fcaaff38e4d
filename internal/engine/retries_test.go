package engine_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// startsOf returns when the turns of tasks began, in order. It is to be called before they run.
func startsOf(all []*task) *[]time.Duration {
	begin, starts := time.Now(), new([]time.Duration)
	var mu sync.Mutex
	for _, k := range all {
		do := k.work
		k.work = func(t job.Turn, r *job.Report) error {
			mu.Lock()
			*starts = append(*starts, time.Since(begin))
			mu.Unlock()
			return do(t, r)
		}
	}
	return starts
}

func seconds(n ...int) []time.Duration {
	all := make([]time.Duration, len(n))
	for i := range n {
		all[i] = time.Duration(n[i]) * time.Second
	}
	return all
}

// Nobody waits for a task in its back-off, and when that is over it keeps its place.
func TestATaskInItsBackOffHoldsNoSlot(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, oneSlot)
		again := reports(job.Report{Next: job.Again, After: 2500 * time.Millisecond})
		all := append(tasks(1, "a", each(turns(again, again, lasts(time.Second)))), tasks(9, "a", each(lasts(time.Second)))...)
		start := time.Now()
		run(c, t.Context(), all)
		fetchtest.CheckTook(t, "12 turns", time.Since(start), 12*time.Second)
		// Due after 3.5 s and 7.5 s, it has the next turn each time.
		if k := all[0]; k.ended.Sub(start) != 9*time.Second ||
			k.tally.Attempts != 3 || k.tally.Waited != 6*time.Second || k.tally.Took != 3*time.Second {
			t.Errorf("after %v: %+v", k.ended.Sub(start), k.tally)
		}
	})
}

// An alarm for each of them, whichever is set first.
func TestBackOffsEndOnTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 99}, Timeout: time.Hour})
		all, start := tasks(60, "a", func(i int) work {
			return turns(reports(job.Report{Next: job.Again, After: time.Duration(i*37%60+1) * time.Second}), lasts(0))
		}), time.Now()
		c.list(t.Context(), all)
		for i, k := range all {
			fetchtest.CheckTook(t, "a task", k.ended.Sub(start), time.Duration(i*37%60+2)*time.Second)
		}
	})
}

// A pause holds for all tasks of the host. The refused goes behind the others, one of which probes
// the host.
func TestAPauseHoldsForAllTasksOfTheHost(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, oneSlot)
		all := tasks(3, "a", each(lasts(time.Second)))
		all[0].work = turns(reports(job.Report{Answer: job.Throttled, Pause: 10 * time.Second, Next: job.Again}), lasts(time.Second))
		others := tasks(3, "b", each(lasts(time.Second)))
		starts, othersStarts, begin := startsOf(all), startsOf(others), time.Now()
		run(c, t.Context(), slices.Concat(all, others))
		if (*starts)[0] != 0 || (*starts)[1] != 11*time.Second || !slices.Equal(*othersStarts, seconds(1, 2, 3)) {
			t.Errorf("%v, and of the others %v", *starts, *othersStarts)
		}
		if all[0].turns != 2 || !all[0].ended.After(all[2].ended) {
			t.Errorf("the refused task ends after %v", all[0].ended.Sub(begin))
		}
	})
}

// A host that does not say for how long is asked again after pauses that double.
func TestPausesThatNobodyHasNamedDouble(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 1, PauseBase: time.Second, PauseMax: 5 * time.Second}})
		refused := reports(job.Report{Answer: job.Throttled, Next: job.Again})
		all := tasks(1, "a", each(turns(refused, refused, refused, refused, lasts(time.Second))))
		starts := startsOf(all)
		c.list(t.Context(), all)
		if want := seconds(0, 2, 5, 10, 16); !slices.Equal(*starts, want) {
			t.Errorf("%v, want %v", *starts, want)
		}
	})
}

// A pause lasts longer than the batch that met it.
func TestAPauseHoldsInLaterBatches(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		c.list(t.Context(), tasks(1, "a", each(reports(job.Report{Answer: job.Throttled, Pause: 10 * time.Second}))))
		fetchtest.CheckTook(t, "the next batch", c.list(t.Context(), tasks(1, "a", each(lasts(time.Second)))), 11*time.Second)
	})
}

// A rate is kept across the batches of an engine.
func TestARateIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 9, Host: sched.Limits{Rate: 1, Burst: 2}}})
		var all []*task
		for range 3 {
			all = append(all, tasks(2, "a", each(lasts(0)))...)
		}
		starts := startsOf(all)
		for few := range slices.Chunk(all, 2) {
			c.list(t.Context(), few)
		}
		if got := *starts; got[1] != 0 || got[2].Round(time.Microsecond) != time.Second || got[5].Round(time.Microsecond) != 4*time.Second {
			t.Errorf("%v", got)
		}
	})
}
