package sched

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A simulation drives a scheduler as the engine does: at each instant all that can
// start does, then time goes on to the next end of a request or the next instant that
// the scheduler names, if that is earlier.
type simulation struct {
	t       testing.TB
	s       *Scheduler
	now     time.Time
	takes   func(Task) time.Duration
	started func(Task) // may be nil
	ended   func(Task) // may be nil

	running []running
}

type running struct {
	task Task
	ends time.Time
}

func (sim *simulation) run() {
	sim.t.Helper()
	for steps := 0; ; steps++ {
		before := len(sim.running)
		for {
			task, ok := sim.s.Pop(sim.now)
			if !ok {
				break
			}
			sim.running = append(sim.running, running{task, sim.now.Add(sim.takes(task))})
			if sim.started != nil {
				sim.started(task)
			}
		}
		if steps > 0 && before == len(sim.running) {
			// Nothing has started: either something has ended, or time was not right.
			if at, ok := sim.s.Next(sim.now); ok && !at.After(sim.now) {
				sim.t.Fatalf("time stands still at %v", sim.now.Sub(start))
			}
		}
		at, ok := sim.s.Next(sim.now)
		for _, r := range sim.running {
			if !ok || r.ends.Before(at) {
				at, ok = r.ends, true
			}
		}
		if !ok {
			return
		}
		sim.now = at
		for i := 0; i < len(sim.running); {
			r := sim.running[i]
			if r.ends.After(at) {
				i++
				continue
			}
			last := len(sim.running) - 1
			sim.running[i] = sim.running[last]
			sim.running = sim.running[:last]
			sim.s.Done(at, r.task, Outcome{})
			if sim.ended != nil {
				sim.ended(r.task)
			}
		}
	}
}

// elapsed is the virtual time that has passed.
func (sim *simulation) elapsed() time.Duration { return sim.now.Sub(start) }

func fixed(d time.Duration) func(Task) time.Duration {
	return func(Task) time.Duration { return d }
}

// pushAll pushes tasks from the ID first on, one for each key.
func pushAll(l *Lane, now time.Time, first int, keys ...string) {
	for i, key := range keys {
		l.Push(now, key, first+i)
	}
}

// startAll starts all tasks that can start now.
func startAll(s *Scheduler, now time.Time) (tasks []Task) {
	for {
		task, ok := s.Pop(now)
		if !ok {
			return tasks
		}
		tasks = append(tasks, task)
	}
}

func ids(tasks []Task) (ids []int) {
	for _, t := range tasks {
		ids = append(ids, t.ID)
	}
	return ids
}

func TestOldestFirst(t *testing.T) {
	s := New(start, Config{Slots: 10})
	l := s.NewLane(nil)
	pushAll(l, start, 0, "a", "b", "a", "c", "b", "a")
	if got := ids(startAll(s, start)); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("started %v", got)
	}
}

func TestReturnedTasksKeepTheirPlace(t *testing.T) {
	s := New(start, Config{Slots: 1})
	l := s.NewLane(nil)
	pushAll(l, start, 0, "a", "b", "a", "c")
	first, _ := s.Pop(start)
	s.Done(start, first, Outcome{})
	l.Return(start, "b", first.ID, 0) // a redirect to another host
	second, _ := s.Pop(start)
	s.Done(start, second, Outcome{})
	l.Return(start, "b", second.ID, 4) // to the back
	var got []int
	for range 4 {
		task, _ := s.Pop(start)
		got = append(got, task.ID)
		s.Done(start, task, Outcome{})
	}
	if !slices.Equal(got, []int{1, 2, 3, 0}) {
		t.Errorf("started %v after the redirect", got)
	}
}

func TestDelayedTaskStartsWhenDueAtItsPlace(t *testing.T) {
	s := New(start, Config{Slots: 1})
	l := s.NewLane(nil)
	pushAll(l, start, 0, "a", "a", "a")
	task, _ := s.Pop(start)
	due := start.Add(time.Second)
	l.Delay(start, "a", task.ID, task.ID, due)
	s.Done(start, task, Outcome{})
	if task, _ = s.Pop(start); task.ID != 1 {
		t.Errorf("started %d before the delay was over", task.ID)
	}
	if _, ok := s.Next(start); ok {
		t.Error("an instant was named although no slot is free")
	}
	s.Done(due, task, Outcome{})
	if task, _ = s.Pop(due); task.ID != 0 {
		t.Errorf("started %d after the delay", task.ID)
	}
}

func TestCancelledTasksDoNotStart(t *testing.T) {
	s := New(start, Config{Slots: 1})
	l := s.NewLane(nil)
	pushAll(l, start, 0, "a", "a", "a", "a", "b")
	task, _ := s.Pop(start)
	due := start.Add(time.Second)
	l.Delay(start, "a", task.ID, task.ID, due)
	s.Done(start, task, Outcome{})
	l.Cancel(start, "a", 0, l.Era(), true)
	l.Cancel(start, "a", 3, l.Era(), false)
	l.Cancel(start, "a", 1, l.Era(), false)
	l.Cancel(start, "b", 4, l.Era(), false)
	var got []int
	for {
		task, ok := s.Pop(due)
		if !ok {
			break
		}
		got = append(got, task.ID)
		s.Done(due, task, Outcome{})
	}
	if !slices.Equal(got, []int{2}) {
		t.Errorf("started %v", got)
	}
	if len(s.hosts) > 0 || len(l.queues) > 0 {
		t.Error("something is left behind")
	}
}

// The instant at which a delay ends is the one at which a caller and the scheduler
// could disagree on whether the task is still delayed.
func TestCancelAtTheInstantADelayEnds(t *testing.T) {
	s := New(start, Config{Slots: 1})
	l := s.NewLane(nil)
	l.Push(start, "a", 0)
	task, _ := s.Pop(start)
	due := start.Add(time.Second)
	l.Delay(start, "a", 0, 0, due)
	s.Done(start, task, Outcome{})
	l.Cancel(due, "a", 0, l.Era(), due.After(due))
	if _, ok := s.Pop(due); ok || len(s.hosts) > 0 {
		t.Error("the cancelled task started, or its host is kept")
	}
}

// The owner evicts under its lock, which must not last longer for a host with many tasks.
func TestEvictCopiesNothing(t *testing.T) {
	const n = 100_000
	s := New(start, Config{Slots: 1})
	l := s.NewLane(nil)
	for id := range n {
		l.Push(start, "a", id)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	evicted := l.Evict(start, "a")
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 4096 {
		t.Errorf("allocated %d bytes", bytes)
	}
	if got := slices.Collect(evicted.IDs()); evicted.Count != n || len(got) != n || len(s.hosts) > 0 {
		t.Errorf("evicted %d, of which %d are yielded, and %d hosts are left", evicted.Count, len(got), len(s.hosts))
	}
}

func TestRejectTakesTheTaskThatWouldStart(t *testing.T) {
	s := New(start, Config{Slots: 1, Permits: true})
	l := s.NewLane(nil)
	pushAll(l, start, 0, "a", "b")
	if _, ok := s.Pop(start); ok {
		t.Fatal("started without a permit")
	}
	if !s.Startable(start) {
		t.Fatal("not startable although only a permit is missing")
	}
	if task, ok := s.Reject(start); !ok || task.ID != 0 || s.InFlight() != 0 {
		t.Errorf("rejected %d, %v", task.ID, ok)
	}
	s.Permit()
	if task, ok := s.Pop(start); !ok || task.ID != 1 || s.Permits() != 0 {
		t.Errorf("started %d, %v with %d permits left", task.ID, ok, s.Permits())
	}
	if task, ok := s.Reject(start); ok {
		t.Errorf("rejected %d", task.ID)
	}
}

func TestHoldKeepsBackWhatComesAfterTheExempt(t *testing.T) {
	s := New(start, Config{Slots: 10, Host: Limits{Concurrency: 2}})
	held, other := s.NewLane("held"), s.NewLane("other")
	pushAll(held, start, 0, "a", "b", "c", "a")
	held.Hold(start, 1)
	pushAll(other, start, 0, "a", "c")
	tasks := startAll(s, start)
	if len(tasks) != 4 {
		t.Errorf("started %d tasks, not the two that are exempt and the two of the other lane", len(tasks))
	}
	held.Unhold(start)
	if got := ids(startAll(s, start)); !slices.Equal(got, []int{2}) {
		t.Errorf("started %v when the lane was held no more; host a is full", got)
	}
}

func TestDropLeavesTheSlotsToOthers(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Concurrency: 1}})
	dropped, other := s.NewLane("dropped"), s.NewLane("other")
	for id := range 100 {
		dropped.Push(start, fmt.Sprint(id%20), id)
	}
	flying := startAll(s, start)
	for id := range 20 {
		other.Push(start, fmt.Sprint(id), id)
	}
	parts := 1
	for ; dropped.Drop(start, 3); parts++ {
		for _, task := range flying {
			s.Done(start, task, Outcome{})
		}
		flying = startAll(s, start)
		if len(flying) != min(4, 20-4*(parts-1)) {
			t.Fatalf("%d started after part %d", len(flying), parts)
		}
		for _, task := range flying {
			if task.Lane() != other {
				t.Fatal("a dropped task started")
			}
		}
	}
	if parts != 7 {
		t.Errorf("20 hosts were dropped in %d parts of 3", parts)
	}
	for _, task := range flying {
		s.Done(start, task, Outcome{})
	}
	if len(s.hosts) > 0 {
		t.Errorf("%d hosts are left", len(s.hosts))
	}
}

func TestHostHasItsShareWhileOthersCanStart(t *testing.T) {
	for slots, share := range map[int]int{1: 1, 2: 1, 3: 1, 10: 5, 64: 32} {
		s := New(start, Config{Slots: slots})
		l := s.NewLane(nil)
		for id := range 100 {
			l.Push(start, "a", id)
		}
		for id := 100; id < 200; id++ {
			l.Push(start, fmt.Sprint("b", id), id)
		}
		count := 0
		for _, task := range startAll(s, start) {
			if task.Host().Key() == "a" {
				count++
			}
		}
		if count != share {
			t.Errorf("%d slots: the host listed first got %d, not %d", slots, count, share)
		}
	}
}

func TestLoneHostGetsAllSlots(t *testing.T) {
	s := New(start, Config{Slots: 64})
	l := s.NewLane(nil)
	for id := range 100 {
		l.Push(start, "a", id)
	}
	if n := len(startAll(s, start)); n != 64 {
		t.Errorf("started %d", n)
	}
}

// A host that has its share and waits for its rate must not be forgotten
// when its queue stays parked.
func TestHostOverItsShareOpensAgain(t *testing.T) {
	s := New(start, Config{Slots: 8, Host: Limits{Rate: 1, Burst: 1}})
	l := s.NewLane(nil)
	for id := range 8 {
		l.Push(start, "h", id)
	}
	sim := &simulation{t: t, s: s, now: start, takes: fixed(time.Hour)}
	var last time.Time
	sim.started = func(task Task) { last = task.Started }
	sim.run()
	if d := last.Sub(start); d < 7*time.Second || d > 7*time.Second+time.Microsecond {
		t.Errorf("the last started after %v", d)
	}
}

func TestExactLimits(t *testing.T) {
	const hosts = 5
	for name, config := range map[string]Config{
		"a rate for all":            {Slots: 20, Rate: 50, Burst: 3},
		"a rate for each host":      {Slots: 20, Host: Limits{Rate: 7, Burst: 2}},
		"both":                      {Slots: 20, Rate: 17, Burst: 5, Host: Limits{Rate: 5, Burst: 1}},
		"odd rates":                 {Slots: 3, Rate: 100.0 / 7, Burst: 1, Host: Limits{Rate: 10.0 / 3, Burst: 4, Concurrency: 1}},
		"in flight to one host":     {Slots: 20, Host: Limits{Concurrency: 2}},
		"over the share and a rate": {Slots: 4, Host: Limits{Rate: 9, Burst: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(start, config)
			l := s.NewLane(nil)
			const n = 600
			for id := range n {
				l.Push(start, fmt.Sprint(id%hosts), id)
			}
			all, each := []time.Time{}, map[string][]time.Time{}
			inFlight := map[string]int{}
			sim := &simulation{t: t, s: s, now: start}
			sim.takes = func(task Task) time.Duration { return time.Duration(task.ID%7) * 10 * time.Millisecond }
			sim.started = func(task Task) {
				key := task.Host().Key()
				all = append(all, task.Started)
				each[key] = append(each[key], task.Started)
				inFlight[key]++
				if limit := config.Host.Concurrency; limit > 0 && inFlight[key] > limit {
					t.Fatalf("%d in flight to one host", inFlight[key])
				}
				if s.InFlight() > config.Slots {
					t.Fatalf("%d in flight", s.InFlight())
				}
			}
			sim.ended = func(task Task) { inFlight[task.Host().Key()]-- }
			sim.run()
			if len(all) != n {
				t.Fatalf("%d of %d started", len(all), n)
			}
			least := 0.0 // seconds until the last start
			if config.Rate > 0 {
				checkRate(t, all, config.Rate, config.Burst)
				least = float64(n-config.Burst) / float64(config.Rate)
			}
			if config.Host.Rate > 0 {
				for _, starts := range each {
					checkRate(t, starts, config.Host.Rate, config.Host.Burst)
				}
				least = max(least, float64(n/hosts-config.Host.Burst)/float64(config.Host.Rate))
			}
			if took := all[n-1].Sub(start).Seconds(); least > 0 && took > least*1.05 {
				t.Errorf("took %.1f s where %.1f would do", took, least)
			}
		})
	}
}

func TestLanesTakeTurns(t *testing.T) {
	for name, config := range map[string]Config{
		"without limits":             {Slots: 10},
		"one host, one in flight":    {Slots: 10, Host: Limits{Concurrency: 1}},
		"one host, three in flight":  {Slots: 10, Host: Limits{Concurrency: 3}},
		"one host with a rate":       {Slots: 10, Host: Limits{Rate: 10, Burst: 2}},
		"more in flight than slots":  {Slots: 3, Host: Limits{Concurrency: 5}},
		"a rate for all":             {Slots: 10, Rate: 100, Burst: 1},
		"a single slot for all":      {Slots: 1},
		"two slots, half is a share": {Slots: 2},
	} {
		for _, lanes := range []int{2, 3, 1000} {
			t.Run(fmt.Sprint(name, ", ", lanes, " lanes"), func(t *testing.T) {
				s := New(start, config)
				counts := make([]int, lanes)
				for i := range lanes {
					l := s.NewLane(i)
					// The first has more, older, and brought earlier: none of that counts.
					tasks := 10
					if i == 0 {
						tasks = 500
					}
					for id := range tasks {
						l.Push(start, "h", id)
					}
				}
				total := 0
				sim := &simulation{t: t, s: s, now: start, takes: fixed(100 * time.Millisecond)}
				sim.started = func(task Task) {
					counts[task.Lane().Owner.(int)]++
					total++
					if total <= 9*lanes && total%(1+lanes/7) == 0 && slices.Max(counts)-slices.Min(counts) > 1 {
						t.Fatalf("after %d starts one lane has had %d, another %d", total, slices.Max(counts), slices.Min(counts))
					}
				}
				sim.run()
				if total != 500+10*(lanes-1) {
					t.Errorf("%d started", total)
				}
			})
		}
	}
}

func TestNewLaneIsServedAtOnce(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Concurrency: 2}})
	var lanes []*Lane
	for i := range 3 {
		l := s.NewLane(i)
		for id := range 5000 {
			l.Push(start, fmt.Sprint("h", id%50), id)
		}
		lanes = append(lanes, l)
	}
	tasks := startAll(s, start)
	next := func() Task {
		s.Done(start, tasks[0], Outcome{})
		task, ok := s.Pop(start)
		if !ok {
			t.Fatal("a slot stays idle")
		}
		tasks = append(tasks[1:], task)
		return task
	}
	for range 1000 {
		next()
	}
	late := s.NewLane("late")
	for id := range 100 {
		late.Push(start, "other", id)
	}
	if next().Lane() != late {
		t.Error("the new lane is not served first")
	}
	// Then it takes its turn: it has no credit for the time when it was not there.
	const rounds = 10
	served := 0
	for range rounds * (len(lanes) + 1) {
		if next().Lane() == late {
			served++
		}
	}
	if served < rounds-1 || served > rounds {
		t.Errorf("the new lane was served %d times in %d rounds", served, rounds)
	}
}

// The lane which could have the host next may have older tasks of other hosts. Other
// lanes must not wait until it has come to its tasks of that host.
func TestLaneIsNotStarvedByOneThatPrefersOtherHosts(t *testing.T) {
	s := New(start, Config{Slots: 2})
	a, b := s.NewLane("a"), s.NewLane("b")
	s.Introduce("h", Limits{Concurrency: 1})
	b.Push(start, "h", 0)
	for id := 1; id <= 1000; id++ {
		b.Push(start, "free", id)
	}
	b.Push(start, "h", 1001)
	first, _ := s.Pop(start)
	pushAll(a, start, 0, "h", "h")
	s.Done(start, first, Outcome{})
	served := map[any]int{}
	for range 6 {
		task, ok := s.Pop(start)
		if !ok {
			t.Fatal("nothing starts")
		}
		served[task.Lane().Owner]++
		s.Done(start, task, Outcome{})
	}
	if served["a"] != 2 {
		t.Errorf("a was served %d times, b %d times", served["a"], served["b"])
	}
}

// A lane is served when its host opens after a long time, but the turns
// that it missed are not made up for.
func TestLaneHasNoCreditForTheTimeItWasBlocked(t *testing.T) {
	s := New(start, Config{Slots: 2})
	blocked, other := s.NewLane("blocked"), s.NewLane("other")
	s.Introduce("slow", Limits{Concurrency: 1})
	for id := range 100 {
		blocked.Push(start, "slow", id)
	}
	for id := range 1000 {
		other.Push(start, fmt.Sprint(id), id)
	}
	slow, _ := s.Pop(start)
	if slow.Lane() != blocked {
		t.Fatal("the first lane is not served first")
	}
	for range 500 {
		task, _ := s.Pop(start)
		s.Done(start, task, Outcome{})
	}
	s.Done(start, slow, Outcome{})
	for id := 100; id < 200; id++ {
		blocked.Push(start, fmt.Sprint("more", id), id)
	}
	served := map[any]int{}
	for range 20 {
		task, _ := s.Pop(start)
		served[task.Lane().Owner]++
		s.Done(start, task, Outcome{})
	}
	if served["other"] < 9 {
		t.Errorf("of 20 starts the lane that was blocked got %d", served["blocked"])
	}
}
