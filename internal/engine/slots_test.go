package engine_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

func TestAllSlotsAreUsedAndNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 3}})
		all := slices.Concat(tasks(4, "a", each(lasts(time.Second))), tasks(8, "b", each(lasts(time.Second))))
		fetchtest.CheckTook(t, "12 tasks of a second in 3 slots", c.list(t.Context(), all), 4*time.Second)
		if most := c.gauges.all.most.Load(); most != 3 {
			t.Errorf("%d ran at a time", most)
		}
	})
}

func TestTheLimitsOfAHostHoldBackNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{
			Limits: sched.Config{Slots: 9, Host: sched.Limits{Concurrency: 3}},
			HostLimits: func(host string) (sched.Limits, error) {
				return map[string]sched.Limits{"a": {Concurrency: 1}, "b": {Concurrency: 2}, "c": {Concurrency: 3}}[host], nil
			},
		})
		all := slices.Concat(tasks(4, "a", each(lasts(time.Second))), tasks(8, "b", each(lasts(time.Second))), tasks(9, "c", each(lasts(time.Second))))
		fetchtest.CheckTook(t, "4 rounds", c.list(t.Context(), all), 4*time.Second)
		for host, want := range map[string]int64{"a": 1, "b": 2, "c": 3} {
			if most := c.gauges.hosts[host].most.Load(); most != want {
				t.Errorf("%d of host %s ran at a time, want %d", most, host, want)
			}
		}
		for _, k := range all[12:] {
			if k.ended.Sub(all[0].first) > 3*time.Second {
				t.Errorf("a task of c ended after %v", k.ended.Sub(all[0].first))
			}
		}
	})
}

// A hop takes a slot of the host that it leads to, which another may have got first.
func TestAHopWaitsForASlotOfItsHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 9, Host: sched.Limits{Concurrency: 1}}})
		crossing := &task{host: "a"}
		crossing.work = turns(hopTo(crossing, "b"), lasts(time.Second))
		all := append(tasks(3, "b", each(lasts(2*time.Second))), crossing)
		c.list(t.Context(), all)
		if c.gauges.hosts["b"].most.Load() != 1 || c.gauges.hosts["b"].now.Load() != 0 {
			t.Error("the limit of b was not kept")
		}
		// It keeps its place, which is behind the others.
		if crossing.tally.Waited != 5*time.Second || crossing.tally.Took != 2*time.Second || crossing.tally.Attempts != 1 {
			t.Errorf("%+v", crossing.tally)
		}
	})
}

// Workers of the batches of one engine share its slots.
func TestBatchesShareTheSlots(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 2}})
		start := time.Now()
		var ends [2]time.Duration
		for i, n := range []int{40, 4} {
			go func() {
				c.list(t.Context(), tasks(n, "a", each(lasts(time.Second))))
				ends[i] = time.Since(start)
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most := c.gauges.all.most.Load(); most != 2 {
			t.Errorf("%d ran at a time", most)
		}
		if ends[0] != 22*time.Second || ends[1] > 6*time.Second {
			t.Errorf("the batches ended after %v", ends)
		}
	})
}

func TestATaskWithoutAHostTakesNoSlot(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{})
		all := tasks(3, "a", each(lasts(time.Second)))
		all[1].hostErr = errTest
		run(c, t.Context(), all)
		if all[1].err != errTest || all[1].turns != 0 || all[0].err != nil || all[2].err != nil {
			t.Errorf("%v, %v, %v", all[0].err, all[1].err, all[2].err)
		}
	})
}

func TestNothingToRunEndsAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) { run(hire(t, engine.Config{}), t.Context(), nil) })
}
