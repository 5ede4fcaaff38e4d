package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// asked returns all hosts that permits are asked for now.
func asked(s *Scheduler, now time.Time) (keys []string) {
	for key, ok := s.Ask(now); ok; key, ok = s.Ask(now) {
		keys = append(keys, key)
	}
	return keys
}

func TestEachStartTakesAPermitOfItsHost(t *testing.T) {
	s := New(start, Config{Slots: 8, HostPermits: true})
	l := s.NewLane(nil)
	for id, key := range []string{"a", "a", "b", "c", "b"} {
		l.Push(start, key, id)
	}
	if s.Startable(start) {
		t.Fatal("a task can start without a permit")
	}
	if keys := asked(s, start); !slices.Equal(keys, []string{"a", "b", "c"}) {
		t.Fatalf("permits are asked for %q", keys)
	}
	s.Answer(start, "b", true)
	if task, ok := s.Pop(start); !ok || task.ID != 2 {
		t.Fatalf("%+v, %v", task, ok)
	}
	if _, ok := s.Pop(start); ok {
		t.Fatal("a second task starts with one permit")
	}
	s.Answer(start, "c", false)
	if keys := asked(s, start); !slices.Equal(slices.Sorted(slices.Values(keys)), []string{"b", "c"}) {
		t.Errorf("permits are asked for %q", keys)
	}
}

func TestPermitsAreOnlyAskedForWhatCouldStart(t *testing.T) {
	s := New(start, Config{Slots: 2, HostPermits: true, Host: Limits{Concurrency: 1}})
	l := s.NewLane(nil)
	for id, key := range []string{"a", "a", "b", "b", "c"} {
		l.Push(start, key, id)
	}
	s.Answer(start, mustAsk(t, s), true)
	first, _ := s.Pop(start)
	for key, ok := s.Ask(start); ok; key, ok = s.Ask(start) {
		if key == "a" {
			t.Fatal("a is asked for, which is at its limit")
		}
		s.Answer(start, key, true)
		if _, ok := s.Pop(start); !ok {
			break
		}
	}
	if keys := asked(s, start); keys != nil {
		t.Errorf("permits are asked for %q, although no slot is free", keys)
	}
	s.Done(start, first, Outcome{Verdict: Accepted})
	if key := mustAsk(t, s); key != "a" {
		t.Errorf("then one for %s", key)
	}
}

func mustAsk(t *testing.T, s *Scheduler) string {
	t.Helper()
	key, ok := s.Ask(start)
	if !ok {
		t.Fatal("no permit is asked for")
	}
	return key
}

func TestAHostGetsPermitsBeyondItsShareWhenAlone(t *testing.T) {
	s := New(start, Config{Slots: 4, HostPermits: true})
	l := s.NewLane(nil)
	for id := range 10 {
		l.Push(start, "a", id)
	}
	for range 4 {
		s.Answer(start, mustAsk(t, s), true)
		if _, ok := s.Pop(start); !ok {
			t.Fatal("no task starts with a permit")
		}
	}
	if key, ok := s.Ask(start); ok {
		t.Errorf("a permit is asked for %s without a slot", key)
	}
}

func TestAnErrorOfAPermitTakesOutTheOldestOfItsHost(t *testing.T) {
	s := New(start, Config{Slots: 4, HostPermits: true})
	l := s.NewLane(nil)
	for id, key := range []string{"a", "b", "b"} {
		l.Push(start, key, id)
	}
	asked(s, start)
	if task, ok := s.RejectOf(start, "b"); !ok || task.ID != 1 {
		t.Errorf("%+v, %v", task, ok)
	}
	s.Answer(start, "b", false)
	l.Evict(start, "a")
	if task, ok := s.RejectOf(start, "a"); ok {
		t.Errorf("%+v was evicted", task)
	}
	s.Answer(start, "a", false)
	if s.Host("a") != nil {
		t.Error("a is kept")
	}
}

// All tasks start, each with a permit of its own, in whatever order things happen.
func TestPermitsInRandomOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		limits := gameLimits[r.IntN(len(gameLimits))]
		s := New(start, Config{Slots: 1 + r.IntN(6), HostPermits: true, Host: limits, PauseBase: time.Second, PauseMax: time.Second})
		lanes := []*Lane{s.NewLane(nil), s.NewLane(nil)}
		left, permits := 100, map[string]int{}
		for id := range left {
			lanes[r.IntN(2)].Push(start, fmt.Sprint(r.IntN(5)), id)
		}
		now := start
		var waiting []string
		var flying []Task
		for steps := 0; left > 0 || len(flying) > 0; steps++ {
			if steps > 100_000 {
				t.Fatalf("seed %d: %d are left, %d in flight, %q asked", seed, left, len(flying), waiting)
			}
			if key, ok := s.Ask(now); ok {
				if slices.Contains(waiting, key) {
					t.Fatalf("seed %d: %s is asked for twice", seed, key)
				}
				waiting = append(waiting, key)
			}
			if len(waiting) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(waiting))
				key := waiting[i]
				waiting = slices.Delete(waiting, i, i+1)
				granted := r.IntN(5) > 0
				if !granted {
					if _, ok := s.RejectOf(now, key); ok {
						left--
					}
				} else {
					permits[key]++
				}
				s.Answer(now, key, granted)
			}
			if task, ok := s.Pop(now); ok {
				left--
				key := task.Host().Key()
				if permits[key]--; permits[key] < 0 {
					t.Fatalf("seed %d: a start at %s without a permit", seed, key)
				}
				flying = append(flying, task)
			}
			if len(flying) > 0 && r.IntN(3) == 0 {
				s.Done(now, flying[0], Outcome{Verdict: Verdict(r.IntN(3))})
				flying = flying[1:]
			}
			if at, ok := s.Next(now); ok && r.IntN(2) == 0 {
				now = at
			}
		}
	}
}
