package engine_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// A crew is an engine that runs tasks.
type crew struct {
	t      testing.TB
	engine *engine.Engine
	gauges *gauges
}

// hire returns a crew. Without other settings it has 2 slots and waits for pauses up to a minute.
func hire(t testing.TB, c engine.Config) *crew {
	g := &gauges{hosts: map[string]*gauge{"a": {}, "b": {}, "c": {}, "d": {}}}
	if c.Limits.Slots == 0 {
		c.Limits.Slots = 2
	}
	if c.MaxPause == 0 {
		c.MaxPause, c.Patience = time.Minute, 2*time.Minute
	}
	c.Limits.Permits = c.Limiter != nil
	c.Told = true
	c.NewRunner = func() job.Runner { return runner{g} }
	return &crew{t, engine.New(c), g}
}

// oneSlot would leave no slot for later tasks if one were lost.
var oneSlot = engine.Config{Limits: sched.Config{Slots: 1}}

// inBubble runs a test in virtual time, and fails it when a goroutine of the engine is left.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		synctest.Wait()
		if left := fetchtest.BubbleGoroutines(); left != "" {
			t.Errorf("goroutines are left:\n\n%s", left)
		}
	})
}

// A list is an engine.List of tasks.
type list []*task

func (l list) Input(i int) (string, context.Context, error) { return l[i].host, l[i].ctx, l[i].hostErr }
func (l list) Distinct(i int) string                        { return l[i].distinct }
func (l list) Job(i int) job.Job                            { return l[i] }

func (l list) Done(i int, j job.Job, tally job.Tally) { l[i].take(tally) }

// Refuse ends the task, as a list of requests does.
func (l list) Refuse(i int, err error, tally job.Tally) {
	l[i].End(err)
	l[i].told++
	l[i].take(tally)
}

func (l list) Rest(err error, tally job.Tally) {
	for i := range l {
		if l[i].result == 0 {
			l.Refuse(i, err, tally)
		}
	}
}

func (l list) Copy(i, first int) (failed, ok bool) {
	if l[first].result == 0 {
		return false, false
	}
	l[i].share(l[first])
	l[i].take(l[first].tally)
	return l[i].err != nil, true
}

// share gives a task the outcome of another.
func (k *task) share(ran *task) {
	k.err, k.ends, k.turns, k.told, k.shared = ran.err, ran.ends, ran.turns, 1, true
}

func (k *task) take(tally job.Tally) {
	k.result++
	k.tally = tally
}

// list runs tasks as a list, and checks that each has its outcome. It returns the time it took.
func (c *crew) list(ctx context.Context, all []*task) time.Duration {
	c.t.Helper()
	start := time.Now()
	c.engine.RunList(ctx, len(all), list(all), false)
	took := time.Since(start)
	c.check(all)
	return took
}

// check checks that each task has its outcome, and that none runs.
func (c *crew) check(all []*task) {
	c.t.Helper()
	for i, k := range all {
		k.check(c.t, i)
	}
}

// stream yields the number of each task that has its outcome, and checks that it comes once.
func (c *crew) stream(ctx context.Context, all []*task, s engine.StreamConfig) iter.Seq[int] {
	return c.streamOf(ctx, inputs(all), s)
}

func (c *crew) streamOf(ctx context.Context, in iter.Seq[job.Job], s engine.StreamConfig) iter.Seq[int] {
	if s.Lookahead == 0 {
		s.Lookahead = 1000
	}
	return func(yield func(int) bool) {
		c.engine.RunStream(ctx, in, s, func(f engine.Finished) bool {
			k := f.Job.(*task)
			if ran := f.Ran.(*task); ran != k {
				k.share(ran)
			}
			k.take(f.Tally)
			k.check(c.t, f.Index)
			return yield(f.Index)
		})
	}
}

func inputs(all []*task) iter.Seq[job.Job] {
	return func(yield func(job.Job) bool) {
		for _, k := range all {
			if !yield(k) {
				return
			}
		}
	}
}

// runTasks runs tasks to their end, and checks that each has its outcome.
type runTasks func(c *crew, ctx context.Context, all []*task)

var ways = map[string]runTasks{
	"list": func(c *crew, ctx context.Context, all []*task) { c.list(ctx, all) },
	"stream": func(c *crew, ctx context.Context, all []*task) {
		for range c.stream(ctx, all, engine.StreamConfig{}) {
		}
	},
	"stream in order": func(c *crew, ctx context.Context, all []*task) {
		for range c.stream(ctx, all, engine.StreamConfig{InOrder: true}) {
		}
	},
}

// eachWay runs a test in virtual time for each way.
func eachWay(t *testing.T, test func(t *testing.T, run runTasks)) {
	for name, run := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { test(t, run) })
		})
	}
}
