package sched

import (
	"fmt"
	"testing"
	"time"
)

// newcomer returns a scheduler with 64 slots and so many tasks of an unknown host, of which the
// first have started.
func newcomer(tasks int, change func(c *Config)) (*Scheduler, *Lane, []Task) {
	config := Config{Slots: 64, InitialWindow: 10}
	if change != nil {
		change(&config)
	}
	s := New(start, config)
	l := s.NewLane(nil)
	for id := range tasks {
		l.Push(start, "new", id)
	}
	return s, l, startAll(s, start)
}

func TestWhoSlowStarts(t *testing.T) {
	for name, c := range map[string]struct {
		tasks  int
		change func(c *Config)
		want   int
	}{
		"much to do":           {500, nil, 10},
		"just enough":          {10 + 121, nil, 10},
		"not enough":           {10 + 120, nil, 64},
		"fewer than the slots": {300, func(c *Config) { c.Slots = 300 }, 300},
		"more than the slots":  {311, func(c *Config) { c.Slots = 300 }, 10},
		"no crowd":             {500, func(c *Config) { c.Slots = 40 }, 40},
		"just a crowd":         {500, func(c *Config) { c.Slots = 41 }, 10},
		"a limit, no crowd":    {500, func(c *Config) { c.Host.Concurrency = 40 }, 40},
		"a limit and a crowd":  {500, func(c *Config) { c.Host.Concurrency = 41 }, 10},
		"a rate":               {500, func(c *Config) { c.Host.Rate, c.Host.Burst = 1, 50 }, 50},
		"turned off":           {500, func(c *Config) { c.InitialWindow = 0 }, 64},
	} {
		if _, _, tasks := newcomer(c.tasks, c.change); len(tasks) != c.want {
			t.Errorf("%s: %d start, want %d", name, len(tasks), c.want)
		}
	}
}

func TestSlowStartEndsWithTheFirstRequest(t *testing.T) {
	for _, o := range []Outcome{{Verdict: Accepted}, {}, {Answered: true}} {
		s, _, tasks := newcomer(500, nil)
		now := at(500 * time.Millisecond)
		s.Done(now, tasks[3], o)
		if n := len(startAll(s, now)); n != 64-9 {
			t.Errorf("after %+v %d more start", o, n)
		}
		if len(s.slowStarts) > 0 {
			t.Error("the slow start goes on")
		}
	}
}

func TestSlowStartDoublesWithEachSecond(t *testing.T) {
	s, _, _ := newcomer(500, nil)
	for i, more := range []int{10, 20, 24} {
		now := at(time.Duration(i+1) * second)
		if next, ok := s.Next(now.Add(-1)); !ok || next != now {
			t.Fatalf("Next is %v, %v", next.Sub(start), ok)
		}
		if n := len(startAll(s, now.Add(-1))); n != 0 {
			t.Errorf("%d start before %v", n, now.Sub(start))
		}
		if n := len(startAll(s, now)); n != more {
			t.Errorf("%d start at %v, want %d", n, now.Sub(start), more)
		}
	}
}

// growing returns a scheduler with 30 tasks of an unknown host, and their lane, which grows.
func growing() (*Scheduler, *Lane) {
	s := New(start, Config{Slots: 64, InitialWindow: 10})
	l := s.NewLane(nil)
	l.Expect(start, true)
	for id := range 30 {
		l.Push(start, "new", id)
	}
	return s, l
}

// A host is slow to start for what is to come, too, and goes on when that is not enough.
func TestSlowStartWhileTheLaneGrows(t *testing.T) {
	s, l := growing()
	if n := len(startAll(s, start)); n != 10 {
		t.Errorf("%d start", n)
	}
	l.Expect(start, false)
	if n := len(startAll(s, start)); n != 20 {
		t.Errorf("then %d start", n)
	}
}

// A lane that grows again puts its host off again.
func TestSlowStartWhenTheLaneGrowsAgain(t *testing.T) {
	s, l := growing()
	startAll(s, start)
	l.Expect(start, false)
	l.Expect(start, true)
	if next, ok := s.Next(start); !ok || next != start.Add(lull) {
		t.Errorf("Next is %v, %v", next.Sub(start), ok)
	}
	if n := len(startAll(s, start)); n != 0 {
		t.Errorf("%d start although there may be more soon", n)
	}
	if n := len(startAll(s, start.Add(lull))); n != 20 {
		t.Errorf("%d start when nothing has come", n)
	}
}

func TestSlowStartForDelayedTasks(t *testing.T) {
	s := New(start, Config{Slots: 64, InitialWindow: 10})
	l := s.NewLane(nil)
	for id := range 30 {
		l.Push(start, "new", id)
	}
	for id := 30; id < 131; id++ {
		l.Delay(start, "new", id, id, at(second/2))
	}
	if n := len(startAll(s, start)); n != 10 {
		t.Errorf("%d start", n)
	}
}

func TestSlowStartEndsWhenTheTasksAreGone(t *testing.T) {
	s, l, _ := newcomer(10+121, nil)
	if !l.Cancel(start, "new", 100, l.Era(), false) {
		t.Fatal("not cancelled")
	}
	if n := len(startAll(s, start)); n != 54 {
		t.Errorf("%d start", n)
	}
}

// A host that was called often is known when it is called again, for a while.
func TestAHostOfManyRequestsStaysKnown(t *testing.T) {
	for requests, want := range map[int]int{120: 10, 121: 64} {
		s := New(start, Config{Slots: 64, InitialWindow: 10})
		l := s.NewLane(nil)
		for id := range requests {
			l.Push(start, "host", id)
		}
		for done := 0; done < requests; {
			for _, task := range startAll(s, start) {
				s.Done(start, task, Outcome{Verdict: Accepted})
				done++
			}
		}
		for id := range 500 {
			l.Push(start, "host", requests+id)
		}
		if n := len(startAll(s, start)); n != want {
			t.Errorf("after %d requests %d start, want %d", requests, n, want)
		}
	}
}

// The slots that a slow start leaves are for others, but not for more than a host's share.
func TestOthersUseTheSlotsOfASlowStart(t *testing.T) {
	s, l, _ := newcomer(500, nil)
	for id := 500; id < 620; id++ {
		l.Push(start, "small", id)
	}
	for id := 620; id < 625; id++ {
		l.Push(start, fmt.Sprint("tiny", id), id)
	}
	started := map[string]int{}
	for _, task := range startAll(s, start) {
		started[task.Host().Key()]++
	}
	if started["small"] != 32 || len(started) != 6 {
		t.Errorf("%v start", started)
	}
	startAll(s, at(second))
	if s.InFlight() != 64 {
		t.Errorf("%d are in flight after the slow start", s.InFlight())
	}
}

// What is known of a host is known although nothing of it was heard here.
func TestAHostThatIsKnownFromElsewhereStartsAtOnce(t *testing.T) {
	s := New(start, Config{Slots: 64, InitialWindow: 10})
	l := s.NewLane(nil)
	l.Push(start, "known", 0)
	s.Resume(start, "known", State{Quota: Quota{Left: 60, Size: 60}, Reset: at(time.Minute)})
	for id := 1; id < 500; id++ {
		l.Push(start, "known", id)
	}
	if n := len(startAll(s, start)); n != 60 {
		t.Errorf("of 60 that are left %d start", n)
	}
}

// Among quick hosts a slow one is not taken for dead before it could have been asked properly.
func TestAHostInItsSlowStartIsNotSilentAtOnce(t *testing.T) {
	s, l, _ := newcomer(500, nil)
	l.Push(start, "quick", 500)
	quick := startAll(s, start)
	s.Done(at(10*time.Millisecond), quick[0], Outcome{Verdict: Accepted})
	if n := len(startAll(s, at(second))); n != 10 || s.hosts["new"].silent {
		t.Errorf("%d start after a second, silent: %v", n, s.hosts["new"].silent)
	}
	startAll(s, at(4*second))
	if !s.hosts["new"].silent {
		t.Error("not silent after four seconds")
	}
}
