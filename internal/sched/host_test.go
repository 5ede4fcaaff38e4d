package sched

import (
	"fmt"
	"testing"
	"time"
)

// serve runs one task of the host.
func serve(t *testing.T, s *Scheduler, now time.Time, key string) *Host {
	t.Helper()
	l := s.NewLane(nil)
	l.Push(now, key, 0)
	task, ok := s.Pop(now)
	if !ok {
		t.Fatal("nothing starts")
	}
	s.Done(now, task, Outcome{})
	return task.Host()
}

type memory struct{ until time.Time }

func (m memory) Matters(now time.Time) bool { return now.Before(m.until) }

func TestHostIsForgottenWhenNothingOfItIsLeft(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Concurrency: 2}})
	l := s.NewLane(nil)
	for id := range 100 {
		l.Push(start, fmt.Sprint(id%30), id)
	}
	sim := &simulation{t: t, s: s, now: start, takes: fixed(time.Second)}
	sim.run()
	if len(s.hosts)+len(l.queues)+s.idle.Len() > 0 {
		t.Errorf("%d hosts, %d queues are left", len(s.hosts), len(l.queues))
	}
}

func TestHostIsKeptWhileItsBucketIsNotFull(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Rate: 1.0 / 3600, Burst: 1}})
	first := serve(t, s, start, "a")
	// An hour is more than idle hosts are kept for otherwise.
	for minutes := range 59 {
		now := start.Add(time.Duration(minutes) * time.Minute)
		s.NewLane(nil).Push(now, fmt.Sprint("other", minutes), 0)
		task, _ := s.Pop(now)
		s.Done(now, task, Outcome{})
	}
	l := s.NewLane(nil)
	l.Push(start.Add(59*time.Minute), "a", 0)
	if _, ok := s.Pop(start.Add(59 * time.Minute)); ok {
		t.Fatal("the rate was forgotten")
	}
	at, ok := s.Next(start.Add(59 * time.Minute))
	if !ok || at.Sub(start).Round(time.Microsecond) != time.Hour {
		t.Fatalf("opens after %v, %v", at.Sub(start), ok)
	}
	task, ok := s.Pop(at)
	if !ok || task.Host() != first {
		t.Fatal("it is another host now, or none")
	}
}

func TestHostIsForgottenTenMinutesAfterItsBucketIsFull(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Rate: 1, Burst: 5}})
	for i := range 50 {
		serve(t, s, start, fmt.Sprint(i))
	}
	now := start.Add(maxIdle + time.Second)
	serve(t, s, now, "later")
	if len(s.hosts) != 1 {
		t.Errorf("%d hosts are kept", len(s.hosts))
	}
}

func TestHostIsKeptWhileItsMemoryMatters(t *testing.T) {
	for _, test := range []struct {
		matters, after time.Duration
		kept           bool
	}{
		{0, 0, false},
		{time.Minute, 0, true},
		{time.Hour, 9 * time.Minute, true},
		{time.Hour, 11 * time.Minute, false}, // it costs too much to remember for ever
	} {
		s := New(start, Config{Slots: 4})
		l := s.NewLane(nil)
		l.Push(start, "a", 0)
		task, _ := s.Pop(start)
		h := task.Host()
		h.Memory = memory{start.Add(test.matters)}
		s.Done(start, task, Outcome{})
		now := start.Add(test.after)
		if test.after > 0 {
			serve(t, s, now, "b")
		}
		if kept := serve(t, s, now, "a") == h; kept != test.kept {
			t.Errorf("what matters for %v is kept after %v: %v", test.matters, test.after, kept)
		}
	}
}

func TestAtMostSoManyIdleHostsAreKept(t *testing.T) {
	s := New(start, Config{Slots: 1, Host: Limits{Rate: 1, Burst: 1}})
	l := s.NewLane(nil)
	const n = maxIdleHosts + 1000
	for id := range n {
		l.Push(start, fmt.Sprint(id), id)
	}
	var order []string
	sim := &simulation{t: t, s: s, now: start, takes: fixed(0)}
	sim.ended = func(task Task) { order = append(order, task.Host().Key()) }
	sim.run()
	if len(s.hosts) != maxIdleHosts || s.idle.Len() != maxIdleHosts {
		t.Errorf("%d hosts are kept, %d of them idle", len(s.hosts), s.idle.Len())
	}
	for i, key := range order {
		if s.Keep(key) != (i >= n-maxIdleHosts) {
			t.Fatalf("the %dth of %d hosts to become idle is kept, or not, against the order", i, n)
		}
	}
}

func TestKeptHostIsNotForgotten(t *testing.T) {
	s := New(start, Config{Slots: 4})
	if s.Keep("a") {
		t.Fatal("an unknown host is known")
	}
	s.Introduce("a", Limits{Concurrency: 1})
	s.Introduce("a", Limits{Concurrency: 3}) // which comes too late
	s.Release(start, "a")
	h := serve(t, s, start, "a")
	if h.limit != 1 {
		t.Errorf("the limit is %d", h.limit)
	}
	if !s.Keep("a") {
		t.Error("the host is forgotten while it is kept")
	}
	s.Release(start, "a")
	s.Release(start, "a")
	if len(s.hosts) > 0 {
		t.Error("the host is not forgotten when it is released")
	}
}
