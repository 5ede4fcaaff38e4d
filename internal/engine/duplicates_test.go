package engine_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
)

// alike returns tasks; tasks with the same text are equal. The nth takes n seconds.
func alike(texts ...string) []*task {
	all := tasks(len(texts), "a", func(i int) work { return lasts(time.Duration(i+1) * time.Second) })
	for i, k := range all {
		k.distinct = texts[i]
	}
	return all
}

// ran counts the tasks of all that were run themselves.
func ran(all []*task, run func()) int {
	var n atomic.Int64
	for _, k := range all {
		do := k.work
		k.work = func(turn job.Turn, r *job.Report) error {
			n.Add(1)
			return do(turn, r)
		}
	}
	run()
	return int(n.Load())
}

func TestEqualTasksOfAListRunOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		for dedup, want := range map[bool]int{true: 5, false: 8} {
			all := alike("x", "y", "x", "", "", "z", "x", "y")
			if n := ran(all, func() {
				c.engine.RunList(t.Context(), len(all), list(all), dedup)
				c.check(all)
			}); n != want {
				t.Errorf("%d ran, want %d", n, want)
			}
		}
	})
}

// The equals of a task have its error, whichever it is.
func TestEqualTasksShareAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		ctx, cancel := cancelAfter(1500 * time.Millisecond)
		defer cancel()
		all := alike("x", "y", "x", "y", "y")
		c.engine.RunList(ctx, len(all), list(all), true)
		c.check(all)
		for i, k := range all {
			if (k.err == nil) != (k.distinct == "x") {
				t.Errorf("task %d: %v", i, k.err)
			}
		}
	})
}

// A stream compares inputs within the lookahead: until the first of its kind is yielded, even if it
// has ended before.
func TestEqualTasksOfAStreamRunOnceWithinTheLookahead(t *testing.T) {
	for _, test := range []struct {
		lookahead int
		inOrder   bool
		runs      int
		order     []int
	}{
		{100, false, 3, []int{0, 2, 6, 1, 4, 3, 5}},
		{100, true, 3, []int{0, 1, 2, 3, 4, 5, 6}},
		{1, false, 7, []int{0, 1, 2, 3, 4, 5, 6}},
		{3, true, 5, []int{0, 1, 2, 3, 4, 5, 6}},
	} {
		inBubble(t, func(t *testing.T) {
			c := hire(t, engine.Config{Limits: sched.Config{Slots: 9}})
			all := alike("x", "y", "x", "z", "y", "z", "x")
			var got []int
			n := ran(all, func() {
				got = slices.Collect(c.stream(t.Context(), all, engine.StreamConfig{Lookahead: test.lookahead, InOrder: test.inOrder, Dedup: true}))
			})
			if n != test.runs || !slices.Equal(got, test.order) {
				t.Errorf("lookahead %d, in order %v: %d ran, want %d; %v, want %v", test.lookahead, test.inOrder, n, test.runs, got, test.order)
			}
		})
	}
}

// While the loop is at work with a task, its equals that are read get its result.
func TestATaskThatHasEndedIsSharedUntilItIsYielded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, oneSlot)
		all := alike("x", "x", "x", "x")
		yielded := 0
		n := ran(all, func() {
			for range c.streamOf(t.Context(), every(10*time.Second, all), engine.StreamConfig{Dedup: true}) {
				if yielded++; yielded == 1 {
					time.Sleep(25 * time.Second) // 1 and 2 are read
				}
			}
		})
		if n != 2 || yielded != 4 {
			t.Errorf("%d ran, %d were yielded", n, yielded)
		}
	})
}

// Results that equals share count for each of them, and hold up nothing for ever.
func TestEqualTasksOfWeight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := hire(t, engine.Config{})
		for _, inOrder := range []bool{false, true} {
			texts := make([]string, 60)
			for i := range texts {
				texts[i] = string(rune('a' + i%7))
			}
			all := weighing(20*mebi, alike(texts...))
			if got := slices.Collect(c.stream(t.Context(), all, engine.StreamConfig{InOrder: inOrder, Dedup: true, Lookahead: 20})); len(got) != len(all) {
				t.Errorf("%d results", len(got))
			}
		}
	})
}
