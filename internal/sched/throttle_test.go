package sched

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"text/tabwriter"
	"time"
	"unsafe"
)

// A kind is a kind of server, and how many URLs it has.
type kind struct {
	name string
	urls int
	open func(l latency, tells bool, seed uint64) server
}

func kinds() (kinds []kind) {
	add := func(name string, urls int, open func(l latency, tells bool, seed uint64) server) {
		kinds = append(kinds, kind{name, urls, open})
	}
	for _, k := range []struct{ rate, urls int }{{1, 200}, {10, 500}, {100, 2000}} {
		for _, burst := range []float64{1, 10, 100} {
			add(fmt.Sprintf("%d/s burst %v", k.rate, burst), k.urls, func(_ latency, tells bool, _ uint64) server {
				return newTokenServer(tells, burst, rateFrom{0, float64(k.rate)})
			})
		}
	}
	add("10/s, others want 5", 300, func(_ latency, tells bool, seed uint64) server {
		s := newTokenServer(tells, 10, rateFrom{0, 10})
		s.others, s.rand = 5, rand.New(rand.NewPCG(seed, 2))
		return s
	})
	add("10/s, 100/s from 20 s", 1200, func(_ latency, tells bool, _ uint64) server {
		return newTokenServer(tells, 10, rateFrom{0, 10}, rateFrom{20 * time.Second, 100})
	})
	add("100/s, 10/s from 10 s", 1300, func(_ latency, tells bool, _ uint64) server {
		return newTokenServer(tells, 100, rateFrom{0, 100}, rateFrom{10 * time.Second, 10})
	})
	add("60 a minute", 240, func(_ latency, tells bool, _ uint64) server {
		return &windowServer{limit: 60, window: time.Minute, tells: tells}
	})
	add("5 in flight", 2000, func(l latency, tells bool, _ uint64) server {
		_, back := l.mean()
		return &crowdServer{limit: 5, takes: back, tells: tells}
	})
	add("outage from 1 s to 6 s", 6000, func(_ latency, tells bool, _ uint64) server {
		return &outageServer{from: time.Second, to: 6 * time.Second, tells: tells}
	})
	return append(kinds, tellingKinds()...)
}

// An excuse is why a row takes more than 1.5 times its lower bound.
type excuse struct {
	kind    string
	latency latency
	tells   bool
	most    float64
	why     string
}

const (
	outOfStep = "requests arrive out of step: some are refused even at half the rate, and each refusal is a pause"
	pauses    = "each refusal costs up to 2 s (pause, answer, probe), and it takes a few to learn the rate"
	overshoot = "that the pace is too high is heard up to 0.5 s late"
	late      = "what the first 10 s miss takes ten times as long afterwards"
	underway  = "requests on their way count here, but not for the server: it is idle half the time"
	begin     = "the slow start costs the time of an answer, which is long here"
	slides    = "each request counts for a second, and the last of the ten is waited for"
	liar      = "it says to wait for a second after each answer, and is obeyed"
)

var excuses = []excuse{
	{"1/s burst 1", erratic, true, 1.7, outOfStep},
	{"1/s burst 1", erratic, false, 1.7, outOfStep},
	{"10/s burst 1", pensive, true, 2, pauses},
	{"10/s burst 1", erratic, true, 4.2, outOfStep},
	{"10/s burst 1", erratic, false, 3.6, outOfStep},
	{"100/s burst 1", steady, true, 1.6, pauses},
	{"100/s burst 1", pensive, true, 2.5, pauses},
	{"100/s burst 1", pensive, false, 2.3, overshoot},
	{"100/s burst 1", erratic, true, 23, outOfStep},
	{"100/s burst 1", erratic, false, 20, outOfStep},
	{"100/s burst 10", steady, true, 1.9, pauses},
	{"100/s burst 10", pensive, true, 2.1, pauses},
	{"100/s burst 10", erratic, true, 1.9, pauses},
	{"10/s, 100/s from 20 s", pensive, true, 1.9, pauses},
	{"10/s, 100/s from 20 s", erratic, true, 1.9, pauses},
	{"10/s, 100/s from 20 s", erratic, false, 1.52, pauses},
	{"100/s, 10/s from 10 s", pensive, true, 2, late},
	{"100/s, 10/s from 10 s", erratic, true, 1.8, late},
	{"5 in flight", erratic, true, 3.4, underway},
	{"5 in flight", erratic, false, 2.8, underway},
	{"outage from 1 s to 6 s", pensive, false, 1.51, begin},
	{"10 in each second, RateLimit", pensive, true, 1.55, slides},
	{"10 in each second, RateLimit", pensive, false, 1.55, slides},
	{"60 a minute, always 0 left", pensive, true, 1.7, liar},
	{"60 a minute, always 0 left", pensive, false, 1.7, liar},
	{"60 a minute, always 0 left", erratic, true, 1.7, liar},
	{"60 a minute, always 0 left", erratic, false, 1.7, liar},
}

func excused(kind string, latency latency, tells bool) excuse {
	for _, e := range excuses {
		if e.kind == kind && e.latency.name == latency.name && e.tells == tells {
			return e
		}
	}
	return excuse{most: 1.5}
}

// runs are the results of a kind of server with a number of slots.
type runs struct {
	refused []int
	ratios  []float64
	lost    int
}

func (k kind) run(t *testing.T, l latency, tells bool, slots, seeds int) (r runs) {
	there, back := l.mean()
	for seed := range uint64(seeds) {
		s := &site{server: k.open(l, tells, seed), latency: l, urls: k.urls}
		crawl{sites: []*site{s}, slots: slots, attempts: 5, seed: seed}.run(t)
		bound := s.server.bound(k.urls, time.Duration(k.urls)*(there+back)/time.Duration(slots))
		r.refused = append(r.refused, s.refused)
		r.ratios = append(r.ratios, s.took.Seconds()/bound.Seconds())
		r.lost += s.lost
	}
	slices.Sort(r.refused)
	slices.Sort(r.ratios)
	return r
}

func median[T cmp.Ordered](sorted []T) T { return sorted[len(sorted)/2] }

func last[T any](s []T) T { return s[len(s)-1] }

// TestThrottleTable prints, with -v, how lists fare at all kinds of servers, with 5, 50
// and 200 slots: the 429s, the time as a multiple of the lower bound (in each field the median and
// the worst of 20 runs), and the URLs that were refused five times.
func TestThrottleTable(t *testing.T) {
	seeds, slots := 2, []int{5, 50, 200}
	switch {
	case underRace || testing.Short():
		seeds, slots = 1, []int{50}
	case testing.Verbose():
		seeds = 20
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	head := "server\tanswers\tRetry-After\t"
	for _, what := range []string{"429s", "time"} {
		for _, n := range slots {
			head += fmt.Sprintf("%s %d\t", what, n)
		}
	}
	fmt.Fprintln(table, head+"lost\twhy more than 1.5")
	for _, k := range kinds() {
		for _, l := range []latency{steady, pensive, erratic} {
			for _, tells := range []bool{true, false} {
				e := excused(k.name, l, tells)
				said := map[bool]string{true: "yes", false: "no"}[tells]
				var refused, ratios string
				lost := 0
				for _, n := range slots {
					r := k.run(t, l, tells, n, seeds)
					refused += fmt.Sprintf("%d–%d\t", median(r.refused), last(r.refused))
					ratios += fmt.Sprintf("%.2f–%.2f\t", median(r.ratios), last(r.ratios))
					lost += r.lost
					if last(r.ratios) > e.most {
						t.Errorf("%s, %s, Retry-After %s, %d slots: %.2f times the lower bound", k.name, l.name, said, n, last(r.ratios))
					}
				}
				if lost > 0 {
					t.Errorf("%s, %s, Retry-After %s: %d URLs were lost", k.name, l.name, said, lost)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s%s%d\t%s\n", k.name, l.name, said, refused, ratios, lost, e.why)
			}
		}
	}
	table.Flush()
	t.Logf("\n%s", &out)
}

// visit is a crawl of one host.
func visit(t *testing.T, s *site, c crawl) *site {
	t.Helper()
	c.sites, c.attempts = []*site{s}, cmp.Or(c.attempts, 5)
	c.run(t)
	return s
}

func TestTenASecond(t *testing.T) {
	seeds := uint64(5)
	if underRace {
		seeds = 1
	}
	for _, test := range []struct {
		latency latency
		most    float64
	}{
		{latency{"2 ms", evenly(time.Millisecond), evenly(time.Millisecond)}, 1.1},
		{steady, 1.1},
		{latency{"0-0.1 s each way", upTo(100 * time.Millisecond), upTo(100 * time.Millisecond)}, 1.1},
		{latency{"0.2 s", evenly(100 * time.Millisecond), evenly(100 * time.Millisecond)}, 1.1},
		// A refusal that comes late makes the pause of a second so much longer, in which a
		// bucket of ten overflows.
		{pensive, 1.15},
		{erratic, 1.15},
	} {
		for _, tells := range []bool{true, false} {
			for _, slots := range []int{5, 6, 8, 10, 13, 20, 32, 50, 64, 100, 150, 200} {
				for seed := range seeds {
					s := visit(t, &site{
						server:  newTokenServer(tells, 10, rateFrom{0, 10}),
						latency: test.latency,
						urls:    500,
					}, crawl{slots: slots, seed: seed})
					most := test.most
					if !tells {
						most = 1.05
					}
					if ratio := s.took.Seconds() / 49; s.lost > 0 || s.refused > slots+40 || ratio > most {
						t.Errorf("%s, Retry-After %v, %d slots, seed %d: %d lost, %d 429s, %.3f times the lower bound",
							test.latency.name, tells, slots, seed, s.lost, s.refused, ratio)
					}
				}
			}
		}
	}
}

// A denier refuses everything.
type denier struct{ says time.Duration }

func (d denier) take(time.Duration) (bool, time.Duration)     { return false, d.says }
func (denier) leave()                                         {}
func (denier) bound(_ int, slots time.Duration) time.Duration { return slots }

func TestRefusingHostGetsOneProbeAPause(t *testing.T) {
	for _, test := range []struct {
		says, first, most time.Duration // between probes
	}{
		{10 * time.Second, 10 * time.Second, 10 * time.Second},
		{0, 200 * time.Millisecond, 10 * time.Second},
	} {
		s := visit(t, &site{server: denier{test.says}, latency: steady, urls: 200}, crawl{slots: 64})
		const wave = 10 // the initial window
		wait := test.first
		for i, at := range s.starts[wave:] {
			before := s.starts[wave-1+i]
			if at != before+50*time.Millisecond+wait {
				t.Fatalf("Retry-After %v: probe %d comes at %v, after one at %v", test.says, i, at, before)
			}
			wait = min(2*wait, test.most)
		}
	}
}

func TestOutageOfFiveSeconds(t *testing.T) {
	for seed := range uint64(20) {
		for _, l := range []latency{steady, pensive, erratic} {
			s := visit(t, &site{
				server:  &outageServer{to: 5 * time.Second, tells: true},
				latency: l,
				urls:    100,
			}, crawl{slots: 64, attempts: 3, seed: seed})
			if s.lost > 0 || s.requests > 200 {
				t.Errorf("%s, seed %d: %d lost, %d requests", l.name, seed, s.lost, s.requests)
			}
		}
	}
}

func TestAnotherHostIsNotHeldUp(t *testing.T) {
	took := func(throttled int) time.Duration {
		sites := []*site{
			{server: newTokenServer(true, 10, rateFrom{0, 10}), latency: steady, urls: throttled},
			{server: &outageServer{}, latency: steady, urls: 5000},
		}
		crawl{sites: sites, slots: 64, attempts: 5}.run(t)
		return sites[1].took
	}
	alone, beside := took(0), took(300)
	if beside > alone*105/100 {
		t.Errorf("beside a throttling host another takes %v, not %v", beside, alone)
	}
}

// TestRaisedQuotaIsFound has a quota rise tenfold after a while of any length.
func TestRaisedQuotaIsFound(t *testing.T) {
	seeds := uint64(20)
	if underRace {
		seeds = 2
	}
	for _, tells := range []bool{true, false} {
		for seed := range seeds {
			at := 60*time.Second + time.Duration(seed)*1370*time.Millisecond
			s := visit(t, &site{
				server:  newTokenServer(tells, 10, rateFrom{0, 10}, rateFrom{at, 100}),
				latency: steady,
				urls:    3000,
			}, crawl{slots: 100, attempts: 20, seed: seed})
			rise, _ := slices.BinarySearch(s.accepted, at)
			found := rise
			for s.accepted[found+20]-s.accepted[found] > 250*time.Millisecond {
				found++ // not yet 80 a second
			}
			if found-rise > 120 {
				t.Errorf("Retry-After %v, risen at %v: found after %d requests, %v", tells, at, found-rise, s.accepted[found]-at)
			}
		}
	}
}

// TestNoHostIsSlowForEver has an outage, and quotas that are very low for a
// minute. All are forgotten.
func TestNoHostIsSlowForEver(t *testing.T) {
	minute := func(tells bool, rate float64) server {
		return newTokenServer(tells, 5, rateFrom{0, 1000}, rateFrom{time.Second, rate}, rateFrom{time.Minute, 1000})
	}
	for name, open := range map[string]func(tells bool) server{
		"outage": func(tells bool) server {
			return &outageServer{from: time.Second, to: time.Minute, tells: tells}
		},
		"one a second": func(tells bool) server { return minute(tells, 1) },
		"six a minute": func(tells bool) server { return minute(tells, 0.1) },
		"two in all":   func(tells bool) server { return minute(tells, 1.0/30) },
		"one in all":   func(tells bool) server { return minute(tells, 1.0/60) },
	} {
		for _, tells := range []bool{true, false} {
			var healed time.Duration
			s := visit(t, &site{server: open(tells), latency: steady, urls: 10_000}, crawl{
				slots: 4, attempts: 100,
				watch: func(now time.Duration, h *Host) {
					if h.throttle.matters() {
						healed = 0
					} else if healed == 0 {
						healed = now
					}
				},
			})
			// Four slots do 80 a second.
			begin, _ := slices.BinarySearch(s.accepted, time.Minute)
			full := begin
			for full+80 < len(s.accepted) && s.accepted[full+80]-s.accepted[full] > 1100*time.Millisecond {
				full++
			}
			if s.accepted[full] > 3*time.Minute {
				t.Errorf("%s, Retry-After %v: full speed at %v", name, tells, s.accepted[full])
			}
			if healed == 0 {
				t.Errorf("%s, Retry-After %v: the throttle is never forgotten", name, tells)
			}
		}
	}
}

// startMany returns a scheduler with so many tasks of a host started.
func startMany(config Config, n int) (*Scheduler, []Task) {
	config.Slots = n
	s := New(start, config)
	l := s.NewLane(nil)
	for id := range 10 * n {
		l.Push(start, "host", id)
	}
	return s, startAll(s, start)
}

// after returns how long after now the scheduler gives the next task.
func after(t *testing.T, s *Scheduler, now time.Time) (time.Duration, Task) {
	t.Helper()
	at, ok := s.Next(now)
	if !ok {
		t.Fatal("nothing will start")
	}
	if _, ok := s.Pop(at.Add(-1)); ok {
		t.Fatal("a task starts before its time")
	}
	tasks := startAll(s, at)
	if len(tasks) != 1 {
		t.Fatalf("%d tasks start together", len(tasks))
	}
	return at.Sub(now), tasks[0]
}

func TestManyRefusalsAreOneIncident(t *testing.T) {
	const base, limit = 200 * time.Millisecond, time.Second
	s, tasks := startMany(Config{PauseBase: base, PauseMax: limit}, 100)
	now := start
	for i, task := range tasks {
		now = start.Add(time.Duration(i) * time.Millisecond)
		s.Done(now, task, Outcome{Verdict: Throttled})
	}
	if until := tasks[0].Host().PausedUntil(); until != start.Add(base) {
		t.Errorf("the pause ends after %v", until.Sub(start))
	}
	for _, refused := range []time.Duration{2 * base, 4 * base, limit, limit} {
		d, task := after(t, s, now)
		now = now.Add(d)
		s.Done(now, task, Outcome{Verdict: Throttled})
		if until := task.Host().PausedUntil(); until != now.Add(refused) {
			t.Errorf("after the probe the pause is %v, not %v", until.Sub(now), refused)
		}
	}
	d, task := after(t, s, now)
	now = now.Add(d)
	s.Done(now, task, Outcome{Verdict: Accepted})
	for _, task := range startAll(s, now) {
		s.Done(now.Add(1), task, Outcome{Verdict: Throttled})
	}
	if until := task.Host().PausedUntil(); until != now.Add(1+base) {
		t.Errorf("after a success the pause is %v, not %v", until.Sub(now), base)
	}
}

func TestLaterRefusalsExtendThePause(t *testing.T) {
	s, tasks := startMany(Config{}, 3)
	for i, pause := range []time.Duration{7, 3} {
		s.Done(start, tasks[i], Outcome{Verdict: Throttled, Pause: pause * time.Second})
	}
	d, probe := after(t, s, start) // although a request of the wave is still in flight
	if d != 7*time.Second {
		t.Errorf("the pause is %v", d)
	}
	now := start.Add(d)
	s.Done(now, tasks[2], Outcome{Verdict: Throttled, Pause: 5 * time.Second})
	s.Done(now, probe, Outcome{Verdict: Accepted})
	if d, _ := after(t, s, now); d != 5*time.Second {
		t.Errorf("a late refusal pauses the host for %v", d)
	}
}

func TestAcceptanceOfTheWaveDoesNotOpenTheWindow(t *testing.T) {
	s, tasks := startMany(Config{}, 50)
	s.Done(start, tasks[0], Outcome{Verdict: Throttled, Pause: time.Second})
	for _, task := range tasks[1:] {
		s.Done(start.Add(time.Millisecond), task, Outcome{Verdict: Accepted})
	}
	after(t, s, start) // a single one
}

func TestWithoutRetriesOnlyRetryAfterPauses(t *testing.T) {
	s, tasks := startMany(Config{}, 2)
	h := tasks[0].Host()
	s.Done(start, tasks[0], Outcome{Verdict: Throttled})
	if h.throttle.matters() || !h.Refusing().IsZero() {
		t.Error("a refusal without Retry-After says something")
	}
	s.Done(start, tasks[1], Outcome{Verdict: Throttled, Pause: time.Second})
	if d, _ := after(t, s, start); d != time.Second || h.Refusing() != start {
		t.Errorf("the pause is %v", d)
	}
}

func TestNeutralOutcomesTeachNothing(t *testing.T) {
	s, tasks := startMany(Config{}, 3)
	s.Done(start, tasks[0], Outcome{Verdict: Throttled, Pause: time.Second})
	s.Done(start, tasks[1], Outcome{})
	s.Done(start, tasks[2], Outcome{})
	h := tasks[0].Host()
	before := *h.throttle.lesson
	for range 5 {
		now := start.Add(time.Hour)
		if at, ok := s.Next(start); ok {
			now = at
		}
		for _, task := range startAll(s, now) {
			s.Done(now, task, Outcome{})
		}
	}
	if h.Refusing() != start || h.throttle.window.size != 1 || h.throttle.incident != before.incident {
		t.Error("errors count as answers")
	}
}

func TestHostilePauses(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, test := range []struct {
		config      Config
		pause, want time.Duration
	}{
		{Config{PauseMax: 10 * time.Second}, 0, time.Millisecond}, // never a hot loop
		{Config{PauseMax: 1}, 0, 1},
		{Config{PauseBase: time.Second, PauseMax: 1}, 0, 1},
		{Config{PauseBase: math.MaxInt64, PauseMax: math.MaxInt64}, 0, math.MaxInt64},
		{Config{}, 1, 1},
		{Config{}, 100 * year, 100 * year},
		{Config{}, math.MaxInt64, math.MaxInt64},
	} {
		s, tasks := startMany(test.config, 3)
		for _, task := range tasks {
			s.Done(start, task, Outcome{Verdict: Throttled, Pause: test.pause})
		}
		d, probe := after(t, s, start)
		if d != test.want {
			t.Errorf("%+v: the pause is %v, not %v", test, d, test.want)
		}
		if test.want < 100*year {
			now := start.Add(d)
			s.Done(now, probe, Outcome{Verdict: Throttled, Pause: test.pause})
			if again, _ := after(t, s, now); again < d {
				t.Errorf("%+v: the second pause is %v", test, again)
			}
		}
	}
	if d := doubled(1, math.MaxInt64, 1000); d <= 0 {
		t.Errorf("doubled too often, a pause is %v", d)
	}
}

// TestRefusalsWithoutTime has a server that refuses at once, and no back-off.
func TestRefusalsWithoutTime(t *testing.T) {
	s := visit(t, &site{
		server:  denier{},
		latency: latency{"none", evenly(0), evenly(0)},
		urls:    20,
	}, crawl{slots: 4, config: Config{PauseMax: time.Hour}})
	for i, at := range s.starts[4:] {
		if at <= s.starts[3+i] {
			t.Fatalf("request %d starts at %v, as the one before", i, at)
		}
	}
}

// A bully plays with the throttle of one host, as choose has it.
type bully struct {
	t      testing.TB
	choose func(n int) int
	s      *Scheduler
	lane   *Lane
	next   int
	flying []Task
	now    time.Time
	h      *Host
}

var bullyPauses = []time.Duration{0, 1, time.Millisecond, time.Second, time.Minute, 24 * time.Hour}

// play returns how many steps it takes after all the bullying until the throttle is forgotten.
func play(t testing.TB, choose func(n int) int) (steps int) {
	config := Config{Slots: 1 + choose(40), PauseBase: bullyPauses[choose(5)], PauseMax: bullyPauses[choose(5)]}
	config.Host.Concurrency = choose(2) * (1 + choose(5))
	b := &bully{t: t, choose: choose, s: New(start, config), now: start}
	b.lane = b.s.NewLane(nil)
	for range 300 {
		b.step(func() Outcome {
			return Outcome{Verdict: Verdict(b.choose(3)), Pause: bullyPauses[b.choose(len(bullyPauses))], Quota: b.quota()}
		})
	}
	for b.h != nil && b.h.throttle.matters() {
		b.step(func() Outcome { return Outcome{Verdict: Accepted} })
		if steps++; steps > 20_000 {
			t.Fatalf("the throttle does not heal: %+v", *b.h.throttle.lesson)
		}
	}
	return steps
}

// quota returns none, or any.
func (b *bully) quota() Quota {
	if b.choose(2) == 0 {
		return Quota{}
	}
	return Quota{b.choose(12), b.choose(12), bullyPauses[b.choose(len(bullyPauses))]}
}

func (b *bully) step(outcome func() Outcome) {
	for b.next < 50+b.choose(2) || b.lane.queues["host"] == nil || b.lane.queues["host"].queued < 50 {
		b.lane.Push(b.now, "host", b.next)
		b.next++
	}
	for task, ok := b.s.Pop(b.now); ok; task, ok = b.s.Pop(b.now) {
		b.h = task.Host()
		if until := b.h.PausedUntil(); b.now.Before(until) {
			b.t.Fatalf("a start %v before the end of the pause", until.Sub(b.now))
		}
		if b.choose(20) == 0 {
			b.h.Overrule(b.now, b.choose(2) == 0)
		}
		b.flying = append(b.flying, task)
		b.check()
	}
	b.now = b.now.Add([]time.Duration{0, 1, time.Millisecond, 50 * time.Millisecond, time.Second}[b.choose(5)])
	if at, ok := b.s.Next(b.now); ok && len(b.flying) == 0 {
		b.now = at
	} else if len(b.flying) == 0 {
		b.t.Fatalf("nothing is in flight, and nothing will start: %+v", b.h.allowance)
	}
	if len(b.flying) > 0 && b.choose(3) > 0 {
		i := b.choose(len(b.flying))
		task := b.flying[i]
		b.flying = slices.Delete(b.flying, i, i+1)
		b.s.Done(b.now, task, outcome())
		b.check()
	}
}

func (b *bully) check() {
	if a := b.h.allowance; a != nil && (a.least < 0 || a.counted < 0 || a.counted > b.h.inFlight || a.size == 0 || a.period == 0) {
		b.t.Fatalf("%+v", *a)
	}
	th := &b.h.throttle
	if th.lesson == nil {
		if th.pace != 0 {
			b.t.Fatalf("not all is forgotten: %+v", th)
		}
		return
	}
	w, p := &th.window, &th.pacing
	ok := w.size >= 0 && w.size <= max(1, b.h.most()) && w.good >= 1 && w.patience >= 1 && w.patience <= mostPatience &&
		(th.pace == 0 || th.pace >= minPace && th.pace < 1e15) && p.ceiling >= 0 && p.refused >= 0 &&
		p.patience >= 1 && p.patience <= mostPatience &&
		p.next.Sub(later(b.now, th.until)) <= 4*time.Minute
	if !ok {
		b.t.Fatalf("pace %v, %+v %+v", th.pace, *w, *p)
	}
}

func TestThrottleInvariants(t *testing.T) {
	n := uint64(200)
	if underRace {
		n = 20
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 3))
		play(t, r.IntN)
	}
}

func FuzzThrottle(f *testing.F) {
	f.Add(uint64(1), []byte{})
	f.Fuzz(func(t *testing.T, seed uint64, choices []byte) {
		r := rand.New(rand.NewPCG(seed, 4))
		play(t, func(n int) int {
			if len(choices) == 0 {
				return r.IntN(n)
			}
			choice := int(choices[0]) % n
			choices = choices[1:]
			return choice
		})
	})
}

func TestHostThatRefusesNothingCostsNothing(t *testing.T) {
	if size := unsafe.Sizeof(throttle{}); size > 96 {
		t.Errorf("a throttle has %d bytes", size)
	}
	s, tasks := startMany(Config{}, 1)
	h := tasks[0].Host()
	now := start
	allocs := testing.AllocsPerRun(100, func() {
		h.throttle.start(now, 1)
		h.throttle.finish(now, h, Task{Started: now}, Outcome{Verdict: Accepted})
	})
	if allocs > 0 || h.throttle.matters() {
		t.Errorf("%v allocations, %d hosts", allocs, len(s.hosts))
	}
}

func BenchmarkThrottleOfAHostThatRefusesNothing(b *testing.B) {
	_, tasks := startMany(Config{}, 1)
	h := tasks[0].Host()
	for b.Loop() {
		h.throttle.start(start, 1)
		h.throttle.finish(start, h, Task{Started: start}, Outcome{Verdict: Accepted})
	}
}
