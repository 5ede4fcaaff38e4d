package sched

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A row is a kind of server, and why it cannot be served near its lower bound, if so.
type row struct {
	name   string
	urls   int
	server func(tells bool, l latency, seed uint64) server
	reason string
}

const (
	overtaking   = "requests overtake each other by more than its burst covers, so that only a slower pace is taken"
	wholeSeconds = "Retry-After comes in whole seconds, in which it would have taken a hundred"
	halfway      = "half of what is in flight is on its way, and what is there cannot be known"
	relearnt     = "the list is short: finding the new quota takes about a hundred requests"
)

func rows() (all []row) {
	for _, rate := range []float64{1, 10, 100} {
		for _, burst := range []int{1, 10, 100} {
			reason := ""
			switch {
			case burst == 1:
				reason = overtaking
			case rate == 100 && burst == 10:
				reason = wholeSeconds
			}
			all = append(all, row{fmt.Sprintf("%v/s burst %d", rate, burst), map[float64]int{1: 200, 10: 500, 100: 2000}[rate],
				func(tells bool, _ latency, _ uint64) server { return tokens(rate, burst, tells) }, reason})
		}
	}
	return append(all,
		row{"60 a minute", 240, func(tells bool, _ latency, _ uint64) server {
			return &windowServer{limit: 60, window: time.Minute, tells: tells}
		}, ""},
		row{"5 in flight", 2000, func(tells bool, l latency, _ uint64) server {
			return &crowdServer{limit: 5, tells: tells, takes: l.meanBack}
		}, halfway},
		row{"10/s, others 5/s", 300, func(tells bool, _ latency, seed uint64) server {
			s := tokens(10, 10, tells)
			s.others, s.rand = 5, rand.New(rand.NewPCG(seed, 77))
			return s
		}, ""},
		row{"10/s, then 100/s", 1200, func(tells bool, _ latency, _ uint64) server {
			s := tokens(10, 10, tells)
			s.rates = []rateFrom{{0, 10}, {20 * time.Second, 100}}
			return s
		}, relearnt},
		row{"100/s, then 10/s", 1200, func(tells bool, _ latency, _ uint64) server {
			s := tokens(100, 100, tells)
			s.rates = []rateFrom{{0, 100}, {10 * time.Second, 10}}
			return s
		}, relearnt},
		row{"outage of 5 s", 6000, func(tells bool, _ latency, _ uint64) server {
			return &outage{from: time.Second, to: 6 * time.Second, tells: tells}
		}, ""},
	)
}

// leastTime is the lower bound of a run: that of the server, or of the slots.
func leastTime(s server, urls, slots int, l latency) float64 {
	own := time.Duration(urls) * l.mean / time.Duration(slots)
	if _, ok := s.(*outage); ok {
		return (s.bound(urls) + own).Seconds()
	}
	return max(s.bound(urls), own).Seconds()
}

// TestThrottleTable prints, with -v, how every kind of server fares: 429s, and the time over
// the lower bound, median and most of the seeds. Nothing may be lost.
func TestThrottleTable(t *testing.T) {
	seeds := uint64(7)
	if underRace {
		seeds = 1
	}
	t.Logf("%-17s %-22s %-11s %9s  %6s %6s   %6s  %s", "server", "latency", "Retry-After", "in flight", "429s", "median", "most", "why above 1.5")
	for _, r := range rows() {
		for _, l := range []latency{even, answers, ways} {
			for _, tells := range []bool{true, false} {
				for _, slots := range []int{5, 50, 200} {
					r.run(t, l, tells, slots, seeds)
				}
			}
		}
	}
}

func (r row) run(t *testing.T, l latency, tells bool, slots int, seeds uint64) {
	var refused []int
	var ratios []float64
	for seed := range seeds {
		s := r.server(tells, l, seed)
		done := crawl{server: s, latency: l, slots: slots, urls: r.urls, attempts: 5, seed: seed}.run(t)
		if done.lost > 0 {
			t.Errorf("%s, %s, %v, %d: %d URLs are lost", r.name, l.name, tells, slots, done.lost)
		}
		refused = append(refused, done.refused)
		ratios = append(ratios, done.took.Seconds()/leastTime(s, r.urls, slots, l))
	}
	middle, most, why := median(ratios), slices.Max(ratios), ""
	if middle > 1.5 {
		why = r.reason
		if why == "" {
			t.Errorf("%s, %s, %v, %d: %.2f times the lower bound", r.name, l.name, tells, slots, middle)
		}
	}
	t.Logf("%-17s %-22s %-11v %9d  %6d %6.2f – %6.2f  %s", r.name, l.name, tells, slots, median(refused), middle, most, why)
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func TestTenASecondAreTakenAtAnyConcurrency(t *testing.T) {
	step := 13
	if underRace {
		step = 65
	}
	for _, tells := range []bool{true, false} {
		for _, l := range []latency{{"2 ms", steady(time.Millisecond), steady(time.Millisecond), 2 * time.Millisecond, time.Millisecond}, even} {
			for slots := 5; slots <= 200; slots += step {
				for seed := range uint64(3) {
					done := crawl{server: tokens(10, 10, tells), latency: l, slots: slots, urls: 500, attempts: 5, seed: seed}.run(t)
					if done.lost > 0 || done.refused > slots+40 || done.took > 53_900*time.Millisecond {
						t.Errorf("%d slots, %s, Retry-After %v: %d lost, %d 429s, %v", slots, l.name, tells, done.lost, done.refused, done.took)
					}
				}
			}
		}
	}
}

func TestAHostThatAlwaysRefusesIsOnlyProbed(t *testing.T) {
	s := New(start, Config{Slots: 8, PauseBase: 200 * time.Millisecond, PauseMax: 10 * time.Second})
	l := s.NewLane(nil)
	for id := range 100 {
		l.Push(start, "host", id)
	}
	now, requests := start, 0
	for now.Before(start.Add(100 * time.Second)) {
		var tasks []Task
		for task, ok := s.Pop(now); ok; task, ok = s.Pop(now) {
			tasks = append(tasks, task)
		}
		requests += len(tasks)
		for _, task := range tasks {
			s.Done(now, task, Outcome{Throttled, 10 * time.Second})
			l.Back(now, "host", task.ID)
		}
		next, ok := s.Next(now)
		if !ok || !next.After(now) {
			t.Fatal("time stands still at", now)
		}
		now = next
	}
	if requests > 8+10 {
		t.Errorf("%d requests in 100 s", requests)
	}
}

func TestRefusalsOfAWaveAreOneIncident(t *testing.T) {
	s := New(start, Config{Slots: 50, PauseBase: 200 * time.Millisecond, PauseMax: 10 * time.Second})
	l := s.NewLane(nil)
	for id := range 100 {
		l.Push(start, "host", id)
	}
	var wave []Task
	for task, ok := s.Pop(start); ok; task, ok = s.Pop(start) {
		wave = append(wave, task)
	}
	for _, task := range wave {
		s.Done(start.Add(time.Millisecond), task, Outcome{Verdict: Throttled})
	}
	h := s.Host("host")
	if until := h.PausedUntil().Sub(start); len(wave) != 50 || until > 210*time.Millisecond || h.throttle.refusals != 1 {
		t.Errorf("paused for %v after %d incidents", until, h.throttle.refusals)
	}
}

// Whatever answers come, and however long the pauses are: the state stays sane, and
// nothing starts in a pause.
func TestThrottleUnderRandomAnswers(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		config := Config{Slots: 1 + r.IntN(20), PauseBase: time.Duration(r.Int64N(int64(time.Second))), PauseMax: 10 * time.Second}
		s := New(start, config)
		l := s.NewLane(nil)
		for id := range 300 {
			l.Push(start, "host", id)
		}
		now, running := start, []Task(nil)
		for range 1000 {
			if task, ok := s.Pop(now); ok {
				if now.Before(task.Host().PausedUntil()) {
					t.Fatalf("seed %d: a start before the pause ends", seed)
				}
				running = append(running, task)
			} else if len(running) > 0 {
				i := r.IntN(len(running))
				pause := []time.Duration{0, time.Millisecond, time.Minute, 24 * time.Hour}[r.IntN(4)]
				s.Done(now, running[i], Outcome{Verdict(r.IntN(3)), pause})
				running = slices.Delete(running, i, i+1)
			} else if next, ok := s.Next(now); ok {
				now = next
			}
			now = now.Add(time.Duration(r.Int64N(int64(10 * time.Millisecond))))
			if h := s.Host("host"); h != nil {
				checkThrottle(t, seed, &h.throttle)
			}
		}
	}
}

func checkThrottle(t *testing.T, seed uint64, th *throttle) {
	t.Helper()
	if th.pace < 0 || math.IsNaN(th.pace) || math.IsInf(th.pace, 0) {
		t.Fatalf("seed %d: a pace of %v", seed, th.pace)
	}
	if th.lesson != nil && th.window.size < 0 {
		t.Fatalf("seed %d: a window of %d", seed, th.window.size)
	}
}

func TestAHealthyHostForgetsWhatItWasTaught(t *testing.T) {
	server := &outage{from: time.Second, to: 3 * time.Second, tells: true}
	s := crawl{server: server, latency: even, slots: 20, urls: 60_000, attempts: 5}
	var last *Host
	s.trace = func(_ time.Duration, _ string, h *Host) { last = h }
	s.run(t)
	if last.throttle.matters() || last.throttle.pace > 0 {
		t.Errorf("it still keeps to %v a second", last.throttle.pace)
	}
}
