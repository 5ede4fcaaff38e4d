package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

// Each task has one outcome, the limits hold, and every call returns, although tasks fail and contexts
// end at random.
func TestRandomTasksHaveOneOutcomeEach(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 30
	}
	for seed := range n {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { newChance(uint64(seed)).play(t) })
		})
	}
}

// A chance makes the decisions of a random test. They are always the same for one seed, but
// the order of goroutines is not.
type chance struct {
	*rand.Rand
	pauses *pauses
}

func newChance(seed uint64) chance {
	return chance{rand.New(rand.NewPCG(seed, 0)), &pauses{asked: map[string]time.Time{}, until: map[string]time.Time{}}}
}

// pauses has the pauses that hosts have asked for. Nobody can tell the order of one instant.
type pauses struct {
	mu           sync.Mutex
	asked, until map[string]time.Time
}

func (p *pauses) ask(host string, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(pause); until.After(p.until[host]) {
		p.asked[host], p.until[host] = time.Now(), until
	}
}

func (p *pauses) check(t testing.TB, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if early := time.Until(p.until[host]); early > 0 && time.Since(p.asked[host]) > 0 {
		t.Errorf("a task of %s started %v before the end of its pause", host, early)
	}
}

func (c chance) in(n int) bool { return c.IntN(n) == 0 }

// upTo returns a time that often is the same as another.
func (c chance) upTo(n int) time.Duration { return time.Duration(c.IntN(n+1)) * 500 * time.Millisecond }

func (c chance) host() string { return string("aabcd"[c.IntN(5)]) }

func (c chance) play(t *testing.T) {
	config := c.config()
	crew := hire(t, config)
	var batches sync.WaitGroup
	for range 1 + c.IntN(3) {
		run, delay := c.batch(t, crew), c.upTo(6)
		batches.Go(func() {
			time.Sleep(delay)
			run()
		})
	}
	batches.Wait()
	if most := crew.gauges.all.most.Load(); most > int64(config.Limits.Slots) {
		t.Errorf("%d ran at a time in %d slots", most, config.Limits.Slots)
	}
	if limit := config.Limits.Host.Concurrency; limit > 0 {
		for host, g := range crew.gauges.hosts {
			if g.most.Load() > int64(limit) {
				t.Errorf("%d of %s ran at a time, where %d may", g.most.Load(), host, limit)
			}
		}
	}
}

func (c chance) config() engine.Config {
	config := engine.Config{
		Limits:  sched.Config{Slots: 1 + c.IntN(4), PauseBase: time.Second, PauseMax: 10 * time.Second},
		Budgets: c.in(2), MaxPause: 20 * time.Second, Patience: 40 * time.Second,
	}
	if c.in(2) {
		config.Timeout = 500*time.Millisecond + c.upTo(4)
	}
	if c.in(2) {
		config.Limits.Host.Concurrency = 1 + c.IntN(2)
	}
	if c.in(3) {
		config.MaxHostFailures = 1 + c.IntN(3)
	}
	if c.in(4) {
		config.Limits.Rate, config.Limits.Burst = 3, 2
	}
	if limits := config.Limits.Host; c.in(3) {
		config.HostLimits = func(host string) (sched.Limits, error) {
			if host == "d" {
				return limits, errTest
			}
			return limits, nil
		}
	}
	if c.in(4) {
		wait, odds, own := c.upTo(1), 2+c.IntN(10), newChance(c.Uint64())
		config.Limiter = limiterFunc(func(ctx context.Context) error {
			if own.in(odds) {
				return errTest
			}
			return rest(ctx, wait)
		})
	}
	return config
}

// batch returns a call with random tasks.
func (c chance) batch(t *testing.T, crew *crew) func() {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	switch c.IntN(4) {
	case 0:
		ctx, cancel = context.WithTimeoutCause(ctx, c.upTo(40), errTest)
	case 1:
		after := c.upTo(40)
		ctx, cancel = context.WithCancel(ctx)
		time.AfterFunc(after, cancel)
	}
	all := make([]*task, c.IntN(40))
	panics := c.in(8)
	for i := range all {
		all[i] = c.task(t, panics && c.in(20))
	}
	run := c.call(crew, ctx, all)
	return func() {
		defer cancel()
		value, _ := fetchtest.Recovered(run)
		if err, ok := value.(error); value != nil && (!ok || !errors.Is(err, errTest)) {
			t.Errorf("%v came out", value)
		}
		if value != nil && !panics {
			t.Errorf("%v came out of others", value)
		}
	}
}

func (c chance) call(crew *crew, ctx context.Context, all []*task) func() {
	if c.in(2) {
		dedup := c.in(2)
		return func() {
			crew.engine.RunList(ctx, len(all), list(all), dedup)
			crew.check(all)
		}
	}
	config := engine.StreamConfig{Lookahead: 1 + c.IntN(20), InOrder: c.in(2), Dedup: c.in(2)}
	breaks, pause := -1, c.upTo(1)
	if c.in(4) {
		breaks = c.IntN(20)
	}
	return func() {
		yielded := 0
		for i := range crew.stream(ctx, all, config) {
			if config.InOrder && i != yielded {
				crew.t.Errorf("result %d was yielded as number %d", i, yielded)
			}
			if yielded == breaks {
				return
			}
			yielded++
			time.Sleep(pause)
		}
		if ctx.Err() == nil && yielded != len(all) {
			crew.t.Errorf("%d of %d tasks were yielded", yielded, len(all))
		}
	}
}

func (c chance) task(t testing.TB, panics bool) *task {
	k := &task{host: c.host(), size: c.IntN(20 << 20)}
	if c.in(3) {
		k.distinct = fmt.Sprint(k.host, c.IntN(5))
	}
	if c.in(4) && k.distinct == "" {
		ctx, cancel := context.WithTimeout(context.Background(), c.upTo(20))
		context.AfterFunc(ctx, cancel)
		k.ctx = ctx
	}
	if c.in(30) {
		k.hostErr = errTest
	}
	steps := make([]work, 1+c.IntN(4))
	for i := range steps {
		steps[i] = c.step(t, k, i < len(steps)-1, panics)
	}
	k.work = turns(steps...)
	return k
}

// step returns work that takes a random time and reports a random answer. more tells that
// there is a next turn.
func (c chance) step(t testing.TB, k *task, more, panics bool) work {
	takes, r := c.upTo(4), job.Report{Answer: job.Accepted}
	switch c.IntN(8) {
	case 0:
		r = job.Report{Down: errTest}
	case 1:
		r = job.Report{Answer: job.Throttled, Pause: c.upTo(60), Doubtful: c.in(2)}
	case 2:
		r = job.Report{Answer: job.Neutral}
	}
	hop := c.host()
	switch {
	case more && c.in(3):
		r.Next = job.Hop
	case more:
		r.Next = job.Again
		if r.Answer != job.Throttled {
			r.After = c.upTo(10)
		}
	}
	exits := c.in(40)
	return func(turn job.Turn, out *job.Report) error {
		host := k.host
		c.pauses.check(t, host)
		ctx := turn.Context
		if k.ctx != nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(k.ctx, cancel)()
		}
		if err := rest(ctx, takes); err != nil {
			return err
		}
		switch {
		case panics:
			panic(errTest)
		case exits:
			runtime.Goexit()
		case r.Next == job.Hop:
			k.host = hop
		case r.Next == job.Again && r.Answer != job.Throttled && !turn.Pay():
			return fault.Exhausted(errTest)
		case turn.GivenUp():
			return errTest
		}
		if r.Answer == job.Throttled && !r.Doubtful {
			c.pauses.ask(host, r.Pause)
		}
		*out = r
		return nil
	}
}
