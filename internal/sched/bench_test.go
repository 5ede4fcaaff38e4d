package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// sizes returns some, the largest only where there is time.
func sizes(largest int, others ...int) []int {
	if testing.Short() {
		return others
	}
	return append(others, largest)
}

// BenchmarkRequest is the scheduler's work for one request: Done of an earlier one,
// Push of another, and Pop. Each host has two requests queued, in an order that no
// cache helps with. It does not measure making and forgetting hosts, which
// BenchmarkComeAndGo does. That both hardly grow with the number of hosts shows that nothing
// is done for each host.
func BenchmarkRequest(b *testing.B) {
	for _, test := range []struct {
		name   string
		limits Limits
	}{
		{"no limits", Limits{}},
		{"two in flight", Limits{Concurrency: 2}},
		{"a rate", Limits{Rate: 1000, Burst: 10}},
	} {
		for _, hosts := range sizes(1_000_000, 1, 20_000) {
			b.Run(fmt.Sprintf("%s/hosts=%d", test.name, hosts), func(b *testing.B) {
				benchmarkRequest(b, test.limits, hosts)
			})
		}
	}
}

const benchmarkSlots = 64

func benchmarkRequest(b *testing.B, limits Limits, hosts int) {
	s := New(start, Config{Slots: benchmarkSlots, Host: limits})
	l := s.NewLane(nil)
	keys := shuffledKeys(hosts)
	now, id := start, 0
	push := func() {
		l.Push(now, keys[id%hosts], id)
		id++
	}
	for range max(2*hosts, 2*benchmarkSlots) {
		push()
	}
	flying := startAll(s, now)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Millisecond)
		oldest := &flying[i%len(flying)]
		s.Done(now, *oldest, Outcome{Verdict: Accepted})
		push()
		task, ok := s.Pop(now)
		if !ok {
			b.Fatal("nothing starts")
		}
		*oldest = task
	}
}

func shuffledKeys(n int) []string {
	keys := make([]string, n)
	for i, j := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
		keys[i] = fmt.Sprintf("host%d.example.com", j)
	}
	return keys
}

// BenchmarkComeAndGo is BenchmarkRequest with hosts of one request each.
func BenchmarkComeAndGo(b *testing.B) {
	for _, queued := range sizes(1_000_000, 100, 20_000) {
		b.Run(fmt.Sprintf("hosts=%d", queued), func(b *testing.B) {
			s := New(start, Config{Slots: benchmarkSlots})
			l := s.NewLane(nil)
			keys := shuffledKeys(queued + 1000)
			now, id := start, 0
			push := func() {
				l.Push(now, keys[id%len(keys)], id)
				id++
			}
			for range queued {
				push()
			}
			flying := startAll(s, now)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				now = now.Add(time.Millisecond)
				oldest := &flying[i%len(flying)]
				s.Done(now, *oldest, Outcome{Verdict: Accepted})
				push()
				*oldest, _ = s.Pop(now)
			}
		})
	}
}

// BenchmarkManyLanes is a request of one of many lanes that all wait for the same host,
// which takes one at a time.
func BenchmarkManyLanes(b *testing.B) {
	for _, lanes := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			s := New(start, Config{Slots: benchmarkSlots, Host: Limits{Concurrency: 1}})
			all := make([]*Lane, lanes)
			for i := range all {
				all[i] = s.NewLane(nil)
				all[i].Push(start, "host", 0)
				all[i].Push(start, "host", 1)
			}
			now, id := start, 2
			b.ResetTimer()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				task, ok := s.Pop(now)
				if !ok {
					b.Fatal("nothing starts")
				}
				task.Lane().Push(now, "host", id)
				id++
				s.Done(now, task, Outcome{})
			}
		})
	}
}
