package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// An input is a list of URLs, grouped by host as sitemaps and crawls are. How many a host
// has follows Zipf's law; how long its requests take is lognormal.
type input struct {
	hosts []string        // of each URL
	takes []time.Duration // each URL
}

func newInput(seed uint64, urls, hosts int, noise float64) input {
	random := rand.New(rand.NewPCG(seed, 7))
	weights, sum := make([]float64, hosts), 0.0
	for i := range weights {
		weights[i] = 1 / float64(i+1)
		sum += weights[i]
	}
	counts := make([]int, hosts)
	for i, left := 0, urls; left > 0; i = (i + 1) % hosts {
		n := min(left, max(1, int(float64(urls)*weights[i]/sum)))
		counts[i] += n
		left -= n
	}
	var in input
	for _, h := range random.Perm(hosts) {
		mean := 0.1 * math.Exp(random.NormFloat64())
		for range counts[h] {
			seconds := mean * math.Exp(noise*random.NormFloat64())
			in.hosts = append(in.hosts, fmt.Sprint("h", h))
			in.takes = append(in.takes, time.Duration(seconds*1e9))
		}
	}
	return in
}

// lowerBound is the time in which no order could do better.
func (in input) lowerBound(slots, limit int) float64 {
	all, each := 0.0, map[string]float64{}
	longest := 0.0
	for i, key := range in.hosts {
		all += in.takes[i].Seconds()
		each[key] += in.takes[i].Seconds()
	}
	for _, work := range each {
		longest = max(longest, work/float64(limit))
	}
	return max(longest, all/float64(slots))
}

// scheduled is how long the input takes.
func (in input) scheduled(t *testing.T, slots, limit int) float64 {
	s := New(start, Config{Slots: slots, Host: Limits{Concurrency: limit}})
	l := s.NewLane(nil)
	for id, key := range in.hosts {
		l.Push(start, key, id)
	}
	sim := &simulation{t: t, s: s, now: start}
	sim.takes = func(task Task) time.Duration { return in.takes[task.ID] }
	sim.run()
	return sim.elapsed().Seconds()
}

// inOrder is how long the input takes when each worker takes the next URL, and then waits
// for its host: errgroup with a semaphore for each host.
func (in input) inOrder(slots, limit int) float64 {
	workers := make([]time.Duration, slots) // until when they are busy
	hosts := map[string][]time.Duration{}
	for i, key := range in.hosts {
		if hosts[key] == nil {
			hosts[key] = make([]time.Duration, limit)
		}
		worker, host := least(workers), least(hosts[key])
		ends := max(*worker, *host) + in.takes[i]
		*worker, *host = ends, ends
	}
	return slices.Max(workers).Seconds()
}

func least(s []time.Duration) *time.Duration {
	i := 0
	for j := range s {
		if s[j] < s[i] {
			i = j
		}
	}
	return &s[i]
}

// summary gives the median, the ninth tenth and the most.
func summary(ratios []float64) string {
	slices.Sort(ratios)
	n := len(ratios)
	return fmt.Sprintf("median %.3f, 90%% %.3f, most %.3f", ratios[n/2], ratios[n*9/10], ratios[n-1])
}

// underRace is set under the race detector, which makes a simulation ten times as slow, and has nothing
// to find in one goroutine.
var underRace bool

func TestMakespanIsNearTheLowerBound(t *testing.T) {
	const urls, hosts, slots, limit = 6000, 300, 10, 2
	inputs := uint64(200)
	if testing.Short() || underRace {
		inputs = 20
	}
	for _, test := range []struct {
		name        string
		noise, most float64
	}{
		{"fixed times", 0, 1.02},
		// Here luck decides: nothing can run beside a long request of a critical host at the very end.
		{"noisy times", 0.5, 1.06},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var ours, inOrder []float64
			for seed := range inputs {
				in := newInput(seed, urls, hosts, test.noise)
				bound := in.lowerBound(slots, limit)
				ratio := in.scheduled(t, slots, limit) / bound
				if ratio > test.most {
					t.Errorf("input %d took %.3f times the lower bound", seed, ratio)
				}
				ours = append(ours, ratio)
				inOrder = append(inOrder, in.inOrder(slots, limit)/bound)
			}
			t.Log("time over lower bound:", summary(ours))
			t.Log("next URL in order, waiting for its host:", summary(inOrder))
		})
	}
}

func TestSmallLaneIsServedAtOnceBesideLimitedHosts(t *testing.T) {
	s := New(start, Config{Slots: 10})
	big := s.NewLane("big")
	for h := range 6 {
		s.Introduce(fmt.Sprint("limited", h), Limits{Concurrency: 2})
	}
	for id := range 6 * 800 {
		big.Push(start, fmt.Sprint("limited", id/800), id)
	}
	var small *Lane
	var end time.Time
	sim := &simulation{t: t, s: s, now: start, takes: fixed(100 * time.Millisecond)}
	left, ended := 10, 0
	sim.ended = func(task Task) {
		if ended++; ended == 1000 {
			small = s.NewLane("small")
			for id := range left {
				small.Push(sim.now, "free", id)
			}
			end = sim.now.Add(400 * time.Millisecond)
		}
		if task.Lane() == small {
			if left--; left == 0 && sim.now.After(end) {
				t.Errorf("the small lane ended %v late", sim.now.Sub(end))
			}
		}
	}
	sim.run()
	if left > 0 {
		t.Errorf("%d tasks of the small lane did not end", left)
	}
	// The lower bound is that of one limited host: 800 requests, two at a time.
	if least := 6 * 800 * 100 * time.Millisecond / 10; sim.elapsed() > least*102/100 {
		t.Errorf("all took %v, not %v", sim.elapsed(), least)
	}
}

func TestBlackHoleListedFirstDoesNotHoldUpOthers(t *testing.T) {
	for _, others := range []int{1, 10, 1000} {
		t.Run(fmt.Sprint(others, " other hosts"), func(t *testing.T) {
			s := New(start, Config{Slots: 64})
			l := s.NewLane(nil)
			for id := range 200 {
				l.Push(start, "hole", id)
			}
			for id := 200; id < 1200; id++ {
				l.Push(start, fmt.Sprint("other", id%others), id)
			}
			var last time.Time
			sim := &simulation{t: t, s: s, now: start}
			sim.takes = func(task Task) time.Duration {
				if task.Host().Key() == "hole" {
					return 10 * time.Second
				}
				return 50 * time.Millisecond
			}
			sim.ended = func(task Task) {
				if task.Host().Key() != "hole" {
					last = sim.now
				}
			}
			sim.run()
			// Half the slots do 640 requests a second.
			if d := last.Sub(start); d > 1800*time.Millisecond {
				t.Errorf("the other URLs ended after %v", d)
			}
			// The hole has the slots to itself then: 32, 64 and 64 more, and the rest.
			if sim.elapsed() > 42*time.Second {
				t.Errorf("all took %v", sim.elapsed())
			}
		})
	}
}
