package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// checkOutlook compares the sums with those of a walk over all queues.
func checkOutlook(t *testing.T, s *Scheduler, lanes []*Lane, now time.Time) {
	t.Helper()
	o := &s.outlook
	queued, delayed := 0, 0
	for _, l := range lanes {
		for _, q := range l.queues {
			queued += q.queued
			delayed += q.delayed
		}
	}
	if s.Queued() != queued || s.Delayed() != delayed {
		t.Fatalf("%d queued and %d delayed, want %d and %d", s.Queued(), s.Delayed(), queued, delayed)
	}
	s.Left(now)
	work, unknown, paused := 0.0, 0.0, 0
	for _, h := range s.hosts {
		p := &h.prospects
		tasks := float64(p.queued+p.delayed) + float64(h.inFlight)/2
		if p.timed > 0 {
			work += tasks * p.mean
		} else {
			unknown += tasks
		}
		if tasks > 0 && h.closedUntil().After(now) {
			paused++
		}
		if i := p.busy - 1; i >= 0 && o.busy[i] != h {
			t.Fatalf("%s is not where it should be", h.key)
		}
	}
	if math.Abs(o.work-work) > 1e-6 || math.Abs(o.unknown-unknown) > 1e-6 || s.PausedHosts(now) != paused || len(o.changed) > 0 {
		t.Fatalf("work %v, unknown %v, %d paused, %d changed; want %v, %v, %d", o.work, o.unknown, s.PausedHosts(now), len(o.changed), work, unknown, paused)
	}
	for _, h := range o.busy {
		if s.hosts[h.key] != h {
			t.Fatalf("%s is kept although it was forgotten", h.key)
		}
	}
}

func TestTheOutlookAddsUp(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 7))
		s := New(start, Config{Slots: 1 + random.IntN(8), PauseBase: time.Second, PauseMax: time.Minute, Host: Limits{Concurrency: random.IntN(3)}})
		lanes := []*Lane{s.NewLane(nil), s.NewLane(nil)}
		now, id := start, 0
		var flying []Task
		for range 600 {
			now = now.Add(time.Duration(random.IntN(300)) * time.Millisecond)
			l := lanes[random.IntN(len(lanes))]
			key := fmt.Sprint("host", random.IntN(6))
			switch random.IntN(8) {
			case 0, 1, 2:
				l.Push(now, key, id)
				id++
			case 3:
				l.Delay(now, key, id, id, now.Add(time.Duration(random.IntN(3000))*time.Millisecond))
				id++
			case 4:
				l.Evict(now, key)
			case 5, 6:
				if task, ok := s.Pop(now); ok {
					flying = append(flying, task)
				}
			default:
				if len(flying) > 0 {
					s.Done(now, flying[0], Outcome{Verdict: Verdict(random.IntN(3)), Pause: time.Duration(random.IntN(2)) * time.Second})
					flying = flying[1:]
				}
			}
			if random.IntN(3) == 0 {
				checkOutlook(t, s, lanes, now)
			}
		}
		for _, l := range lanes {
			for l.Drop(now, 1) {
			}
		}
		for _, task := range flying {
			s.Done(now, task, Outcome{})
		}
		checkOutlook(t, s, lanes, now)
		if s.Left(now) > time.Microsecond || s.PausedHosts(now) > 0 || len(s.Prospects(now)) > 0 {
			t.Errorf("%v left when there is nothing to do", s.Left(now))
		}
	}
}

// What has changed is looked at when somebody asks, and forgotten with the host: without anybody
// who asks it takes no memory.
func TestHostsThatComeAndGoLeaveNothingInTheOutlook(t *testing.T) {
	s := New(start, Config{Slots: 4, Host: Limits{Concurrency: 1}})
	for i := range 1000 {
		serve(t, s, start, fmt.Sprint(i))
	}
	if o := &s.outlook; len(o.changed)+len(o.busy)+o.paused.len() > 0 {
		t.Errorf("%d changed, %d busy", len(o.changed), len(o.busy))
	}
}

// BenchmarkLeft measures Left of hosts that can each be the last, after so many of them have changed.
func BenchmarkLeft(b *testing.B) {
	for _, changes := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("hosts=10000/changed=%d", changes), func(b *testing.B) {
			s := New(start, Config{Slots: benchmarkSlots, Host: Limits{Concurrency: 2}})
			l := s.NewLane(nil)
			keys := shuffledKeys(10_000)
			for id := range 3 * len(keys) {
				l.Push(start, keys[id%len(keys)], id)
			}
			id := 3 * len(keys)
			s.Left(start)
			for b.Loop() {
				b.StopTimer()
				for range changes {
					l.Push(start, keys[id%len(keys)], id)
					id++
				}
				b.StartTimer()
				s.Left(start)
			}
		})
	}
}
