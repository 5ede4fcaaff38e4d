package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// A model finds the next start by looking at everything each time. It knows neither heaps
// nor parked queues, and its buckets are its own. For throttles it asks the scheduler: the
// test is about when that is asked, and about the starts that follow.
type model struct {
	s                        *Scheduler
	slots, inFlight, permits int
	needPermits              bool

	now          time.Time
	bucket       *modelBucket
	hosts        map[string]*modelHost
	lanes        []*modelLane
	virtual      int
	allSlowUntil time.Time
}

type modelHost struct {
	limits    Limits
	bucket    *modelBucket
	inFlight  int
	throttle  throttle // by look, as are the three below
	silent    bool
	standing  standing
	slowUntil time.Time // the end of its slow start
	paced     bool      // ever
}

type modelLane struct {
	lane    *Lane
	served  int
	waiting []*modelTask
	evicted []*modelTask
	nextID  int
	last    int // the greatest place
	held    bool
	exempt  int
	dropped bool

	doubts, explores bool // by look
}

type modelTask struct {
	id, place int
	host      string
	due       time.Time
	era       int // of the lane when it was queued
}

type modelBucket struct {
	rate, burst, tokens float64
	last, opens         time.Time
}

func newModelBucket(limit rate.Limit, burst int) *modelBucket {
	if limit == 0 {
		return nil
	}
	return &modelBucket{rate: float64(limit), burst: float64(burst), tokens: float64(burst)}
}

func (b *modelBucket) take(now time.Time) {
	if b == nil {
		return
	}
	b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate) - 1
	b.last, b.opens = now, now
	if b.tokens < 1 {
		b.opens = now.Add(time.Duration((1 - b.tokens) / b.rate * 1e9))
	}
}

// opensAt returns the instant since which, or from which on, there is a token.
func (b *modelBucket) opensAt() time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.opens
}

// slack is for the different roundings of model and scheduler: a host that opens
// within it may start, but need not.
const slack = 5 * time.Nanosecond

func (m *model) bounded(host string) bool {
	h := m.hosts[host]
	return h.limits.Concurrency > 0 && h.limits.Concurrency < m.slots || h.limits.Rate > 0 || h.paced
}

func (m *model) comesLast(host string) bool { return m.atShare(host) || m.hosts[host].silent }

func (m *model) atShare(host string) bool {
	h := m.hosts[host]
	return h.limits.Concurrency == 0 && h.inFlight >= max(1, m.slots/2)
}

// opens returns when the task could start if nothing else started before,
// not counting the permits; false means never.
func (m *model) opens(l *modelLane, t *modelTask) (time.Time, bool) {
	h := m.hosts[t.host]
	if l.dropped || l.held && t.place > l.exempt || m.inFlight >= m.slots ||
		h.limits.Concurrency > 0 && h.inFlight >= h.limits.Concurrency || !h.throttle.room(h.inFlight) {
		return time.Time{}, false
	}
	at := m.bucket.opensAt()
	for _, other := range []time.Time{h.bucket.opensAt(), h.throttle.opens(), h.slowUntil, t.due} {
		at = later(at, other)
	}
	if m.comesLast(t.host) {
		at = later(at, m.allSlowUntil)
	}
	return at, true
}

// look takes note of the throttles, which a start changes.
func (m *model) look() {
	m.s.Startable(m.now) // lets time pass, and parks what is in its slow start
	for _, l := range m.lanes {
		l.doubts, l.explores = l.lane.doubts(), l.lane.exploring
	}
	m.allSlowUntil = time.Time{}
	for key, h := range m.hosts {
		h.throttle, h.silent, h.standing, h.slowUntil = throttle{}, false, unheard, time.Time{}
		if known := m.s.hosts[key]; known != nil {
			h.throttle, h.silent, h.standing, h.slowUntil = known.throttle, known.silent, known.standing, known.slowStartOpens()
			if known.slowStart && known.opening.queued() && known.awaitsEnough() {
				m.allSlowUntil = later(m.allSlowUntil, known.since.Add(doubling))
			}
			if known.throttle.lesson != nil {
				lesson := *known.throttle.lesson
				h.throttle.lesson = &lesson
			}
		}
		h.paced = h.paced || h.throttle.pace > 0
	}
}

func (m *model) may(l *modelLane, t *modelTask) bool {
	at, ok := m.opens(l, t)
	return ok && !at.After(m.now.Add(slack))
}

func (m *model) must(l *modelLane, t *modelTask) bool {
	at, ok := m.opens(l, t)
	return ok && !at.Add(slack).After(m.now)
}

// mustStart returns a task that can start without a doubt, if there is one.
func (m *model) mustStart() *modelTask {
	for _, l := range m.lanes {
		for _, t := range l.waiting {
			if m.must(l, t) {
				return t
			}
		}
	}
	return nil
}

// earliest returns the first instant at which time alone lets something start.
func (m *model) earliest() (first time.Time, ok bool) {
	for _, l := range m.lanes {
		for _, t := range l.waiting {
			if at, can := m.opens(l, t); can && (!ok || at.Before(first)) {
				first, ok = at, true
			}
		}
	}
	return first, ok
}

// checkOrder reports why the task of lane l was not the one to start now.
func (m *model) checkOrder(l *modelLane, started *modelTask) error {
	over := m.comesLast(started.host)
	silent, standing := m.hosts[started.host].silent, m.hosts[started.host].standing
	for _, t := range l.waiting {
		if t.host == started.host && t.place < started.place && !t.due.After(m.now) {
			return fmt.Errorf("place %d of the same queue is older", t.place)
		}
	}
	for _, other := range m.lanes {
		for _, t := range other.waiting {
			if !m.must(other, t) || m.comesLast(t.host) && !over {
				continue
			}
			switch {
			case over && !m.comesLast(t.host):
				return fmt.Errorf("the host has its share or is silent, and %s can start", t.host)
			case silent && !m.hosts[t.host].silent:
				return fmt.Errorf("the host is silent, and %s can start", t.host)
			case !silent && m.hosts[t.host].silent:
				continue
			case l.doubts && standing != answering && m.hosts[t.host].standing == answering:
				return fmt.Errorf("the lane is in doubt, and %s can start", t.host)
			case l.doubts || l.explores || other.doubts || standing != m.hosts[t.host].standing:
				continue
			case other.served < l.served:
				return fmt.Errorf("lane %v has been served %d times, lane %v only %d", l.lane.Owner, l.served, other.lane.Owner, other.served)
			case !over && other == l && t.place < started.place && !m.bounded(started.host):
				return fmt.Errorf("place %d of %s is older, and %s cannot be critical", t.place, t.host, started.host)
			}
		}
	}
	return nil
}

// A game plays operations on a scheduler and on the model.
type game struct {
	t       testing.TB
	choose  func(n int) int // less than n
	s       *Scheduler
	m       model
	flying  []flight
	dropped []*modelLane // of which tasks may be in flight
	gone    []time.Time  // when cancelled tasks would have been due
	log     []event      // all that happened

	throttles bool // whether hosts do
}

type flight struct {
	task  Task
	lane  *modelLane
	model *modelTask
}

type event struct {
	at     time.Duration
	format string
	args   []any
}

func newGame(t testing.TB, choose func(n int) int) *game {
	rates := []Limits{{}, {}, {Rate: 20, Burst: 1}, {Rate: 7, Burst: 3}}
	g := &game{t: t, choose: choose}
	r := rates[choose(len(rates))]
	config := Config{
		Slots:   []int{1, 2, 3, 4, 5, 10, 64}[choose(7)],
		Rate:    r.Rate,
		Burst:   r.Burst,
		Permits: choose(4) == 0,
		Host:    gameLimits[choose(len(gameLimits))],

		InitialWindow: max(0, choose(4)-1),
	}
	if choose(2) == 0 {
		config.PauseBase, config.PauseMax = 20*time.Millisecond, time.Second
	}
	g.s = New(start, config)
	g.m = model{
		s: g.s, slots: config.Slots, needPermits: config.Permits,
		now: start, bucket: newModelBucket(r.Rate, r.Burst),
		hosts: map[string]*modelHost{},
	}
	// Some hosts have the limits of all, some their own.
	for i := range 1 + choose(8) {
		limits := config.Host
		if own := choose(len(gameLimits)); choose(2) == 0 {
			limits = gameLimits[own]
		}
		g.m.hosts[fmt.Sprint("h", i)] = &modelHost{limits: limits, bucket: newModelBucket(limits.Rate, limits.Burst)}
	}
	g.throttles = choose(3) == 0
	g.note("%+v, hosts %d", config, len(g.m.hosts))
	return g
}

var gameLimits = []Limits{
	{}, {}, {}, {Concurrency: 1}, {Concurrency: 2}, {Concurrency: 5},
	{Rate: 10, Burst: 1}, {Rate: 3, Burst: 2}, {Concurrency: 1, Rate: 5, Burst: 2}, {Concurrency: 2, Rate: 50, Burst: 1},
}

func (g *game) note(format string, args ...any) {
	g.log = append(g.log, event{g.m.now.Sub(start), format, args})
}

func (g *game) fail(format string, args ...any) {
	g.t.Helper()
	if n := len(g.log); n > 60 {
		g.log = append(g.log[:1], g.log[n-59:]...)
	}
	for _, e := range g.log {
		g.t.Log(e.at, fmt.Sprintf(e.format, e.args...))
	}
	g.t.Fatalf(format, args...)
}

func (g *game) host() string { return fmt.Sprint("h", g.choose(len(g.m.hosts))) }

func (g *game) lane() *modelLane {
	if len(g.m.lanes) == 0 || len(g.m.lanes) < 5 && g.choose(10) == 0 {
		l := &modelLane{lane: g.s.NewLane(len(g.m.lanes))}
		g.m.lanes = append(g.m.lanes, l)
	}
	return g.m.lanes[g.choose(len(g.m.lanes))]
}

// introduced pushes as the engine does.
func (g *game) introduced(key string, push func()) {
	h := g.m.hosts[key]
	if h.limits == g.s.config.Host && g.choose(2) == 0 {
		push()
		return
	}
	if !g.s.Keep(key) {
		g.s.Introduce(key, h.limits)
	}
	if g.choose(4) > 0 {
		push()
	}
	g.s.Release(g.m.now, key)
}

func (g *game) step() {
	switch g.choose(16) {
	case 0, 1, 2, 3:
		l, key := g.lane(), g.host()
		for range 1 + g.choose(4) {
			g.push(l, key)
			if g.choose(2) == 0 {
				key = g.host()
			}
		}
	case 4, 5, 6, 7:
		for range 1 + g.choose(4) {
			g.pop()
		}
	case 8, 9, 10:
		g.done()
	case 11, 12:
		g.wait()
	case 13:
		if g.choose(2) == 0 {
			g.expect()
		} else {
			g.hold()
		}
	case 14:
		if g.m.needPermits {
			g.permit()
		} else if g.choose(4) == 0 {
			g.reject()
		}
	case 15:
		switch g.choose(8) {
		case 0, 1:
			g.drop()
		case 2:
			g.evict()
		case 3, 4:
			g.promote()
		default:
			g.cancel()
		}
	}
	if g.choose(3) > 0 { // not always, since it lets time pass for the scheduler
		g.checkNext()
	}
	g.check()
}

func (g *game) push(l *modelLane, key string) {
	if l.dropped {
		return
	}
	g.introduced(key, func() {
		g.note("push lane %v %s %d", l.lane.Owner, key, l.nextID)
		l.lane.Push(g.m.now, key, l.nextID)
		l.waiting = append(l.waiting, &modelTask{id: l.nextID, place: l.nextID, host: key, era: l.lane.Era()})
		l.last = max(l.last, l.nextID)
		l.nextID++
	})
}

// took checks a task that the scheduler has given, and takes it out of the model.
func (g *game) took(task Task) flight {
	g.t.Helper()
	var l *modelLane
	for _, other := range g.m.lanes {
		if other.lane == task.Lane() {
			l = other
		}
	}
	if l == nil {
		g.fail("task %d of a lane that is gone", task.ID)
	}
	i := slices.IndexFunc(l.waiting, func(t *modelTask) bool { return t.id == task.ID })
	if i < 0 {
		g.fail("task %d does not wait", task.ID)
	}
	t := l.waiting[i]
	if t.host != task.Host().Key() {
		g.fail("task %d is of %s, not %s", t.id, t.host, task.Host().Key())
	}
	if !g.m.may(l, t) {
		g.fail("task %d of lane %v and %s must not start", t.id, l.lane.Owner, t.host)
	}
	if err := g.m.checkOrder(l, t); err != nil {
		g.fail("task %d of lane %v and %s: %v", t.id, l.lane.Owner, t.host, err)
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return flight{task, l, t}
}

func (g *game) pop() bool {
	g.t.Helper()
	m := &g.m
	m.look()
	if startable := g.s.Startable(m.now); startable != (m.mustStart() != nil) {
		g.checkStartable(startable)
	}
	task, ok := g.s.Pop(m.now)
	if !ok {
		g.note("pop: none")
		if t := m.mustStart(); t != nil && !(m.needPermits && m.permits == 0) {
			g.fail("nothing starts, but task %d of %s can", t.id, t.host)
		}
		return false
	}
	g.note("pop: lane %v %s %d", task.Lane().Owner, task.Host().Key(), task.ID)
	if m.needPermits && m.permits == 0 {
		g.fail("started without a permit")
	}
	f := g.took(task)
	h := m.hosts[f.model.host]
	m.virtual = max(m.virtual, f.lane.served)
	f.lane.served = m.virtual + 1
	m.inFlight++
	m.permits--
	h.inFlight++
	h.bucket.take(m.now)
	m.bucket.take(m.now)
	g.flying = append(g.flying, f)
	return true
}

func (g *game) checkStartable(startable bool) {
	g.t.Helper()
	at, ok := g.m.earliest()
	if !ok || !startable && !at.Add(slack).After(g.m.now) || startable && at.After(g.m.now.Add(slack)) {
		g.fail("Startable is %v, but the first to start can at %v, %v", startable, at.Sub(start), ok)
	}
}

func (g *game) reject() {
	g.m.look()
	task, ok := g.s.Reject(g.m.now)
	if !ok {
		if t := g.m.mustStart(); t != nil {
			g.fail("nothing to reject, but task %d of %s can start", t.id, t.host)
		}
		return
	}
	g.note("reject: lane %v %s %d", task.Lane().Owner, task.Host().Key(), task.ID)
	g.took(task)
}

func (g *game) done() {
	if len(g.flying) == 0 {
		return
	}
	i := g.choose(len(g.flying))
	f := g.flying[i]
	g.flying = slices.Delete(g.flying, i, i+1)
	requeue := func() {}
	if outcome := g.choose(8); !f.lane.dropped && outcome > 3 {
		t := f.model
		t.due = time.Time{}
		back, delayed := outcome == 4, outcome >= 6
		if outcome == 5 { // a redirect
			t.host = g.host()
		}
		if delayed {
			t.due = g.m.now.Add(time.Duration(g.choose(300)) * time.Millisecond)
		}
		requeue = func() {
			g.introduced(t.host, func() {
				lane := f.lane.lane
				switch {
				case back:
					lane.Back(g.m.now, t.host, t.id)
					f.lane.last++
					t.place = f.lane.last
				case delayed:
					lane.Delay(g.m.now, t.host, t.id, t.place, t.due)
				default:
					lane.Return(g.m.now, t.host, t.id, t.place)
				}
				g.note("again lane %v %s %d at place %d, due %v", lane.Owner, t.host, t.id, t.place, t.due.Sub(start))
				t.era = lane.Era()
				f.lane.waiting = append(f.lane.waiting, t)
			})
		}
	}
	before := g.choose(2) == 0
	if before {
		requeue()
	}
	outcome := Outcome{Verdict: Accepted}
	if g.throttles && g.choose(3) == 0 {
		outcome.Verdict = Throttled
		outcome.Pause = []time.Duration{0, 50 * time.Millisecond, time.Second}[g.choose(3)]
	}
	g.note("done lane %v %s %d %+v", f.lane.lane.Owner, f.task.Host().Key(), f.task.ID, outcome)
	g.s.Done(g.m.now, f.task, outcome)
	g.m.inFlight--
	g.m.hosts[f.task.Host().Key()].inFlight--
	if !before {
		requeue()
	}
}

func (g *game) wait() {
	d := []time.Duration{time.Microsecond, time.Millisecond, 7 * time.Millisecond, 100 * time.Millisecond, time.Second}[g.choose(5)]
	if at, ok := g.s.Next(g.m.now); ok && g.choose(2) == 0 {
		d = max(0, at.Sub(g.m.now))
	}
	g.m.now = g.m.now.Add(d)
}

func (g *game) hold() {
	l := g.lane()
	if l.dropped {
		return
	}
	l.held = g.choose(2) == 0
	if !l.held {
		g.note("unhold lane %v", l.lane.Owner)
		l.lane.Unhold(g.m.now)
		return
	}
	l.exempt = g.choose(l.nextID+2) - 1
	g.note("hold lane %v but up to %d", l.lane.Owner, l.exempt)
	l.lane.Hold(g.m.now, l.exempt)
}

func (g *game) expect() {
	l, more := g.lane(), g.choose(2) == 0
	g.note("lane %v is growing: %v", l.lane.Owner, more)
	l.lane.Expect(g.m.now, more)
}

func (g *game) permit() {
	g.note("permit")
	g.s.Permit()
	g.m.permits++
}

func (g *game) cancel() {
	l := g.lane()
	if n := len(l.evicted); n > 0 && !l.dropped && g.choose(2) == 0 {
		t := l.evicted[g.choose(n)]
		if l.lane.Cancel(g.m.now, t.host, t.id, t.era, t.due.After(g.m.now)) {
			g.fail("task %d of %s was cancelled although it is evicted", t.id, t.host)
		}
	}
	if l.dropped || len(l.waiting) == 0 {
		return
	}
	i := g.choose(len(l.waiting))
	t := l.waiting[i]
	g.note("cancel lane %v %s %d, due %v", l.lane.Owner, t.host, t.id, t.due.Sub(start))
	if !l.lane.Cancel(g.m.now, t.host, t.id, t.era, t.due.After(g.m.now)) {
		g.fail("task %d of %s was not cancelled", t.id, t.host)
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	g.gone = append(g.gone, t.due)
}

func (g *game) evict() {
	l, key := g.lane(), g.host()
	if l.dropped {
		return
	}
	g.note("evict lane %v %s", l.lane.Owner, key)
	evicted := l.lane.Evict(g.m.now, key)
	got := slices.Sorted(evicted.IDs())
	var want []int
	l.waiting = slices.DeleteFunc(l.waiting, func(t *modelTask) bool {
		if t.host != key {
			return false
		}
		want = append(want, t.id)
		l.evicted = append(l.evicted, t)
		return true
	})
	slices.Sort(want)
	if !slices.Equal(got, want) || evicted.Count != len(want) {
		g.fail("evicted %d: %v, not %v", evicted.Count, got, want)
	}
}

func (g *game) promote() {
	l := g.lane()
	for _, t := range l.waiting {
		if t.place != t.id && t.due.IsZero() && !l.dropped {
			g.note("promote lane %v %s %d", l.lane.Owner, t.host, t.id)
			l.lane.Promote(g.m.now, t.host, t.id)
			t.place = t.id
			return
		}
	}
}

// drop starts or goes on to drop a lane; between its parts the game goes on.
func (g *game) drop() {
	l := g.lane()
	g.note("drop lane %v", l.lane.Owner)
	l.dropped = true
	if l.lane.Drop(g.m.now, 1+g.choose(3)) {
		return
	}
	g.m.lanes = slices.DeleteFunc(g.m.lanes, func(other *modelLane) bool { return other == l })
	g.dropped = append(g.dropped, l)
}

// checkNext checks the instant up to which a caller may sleep.
func (g *game) checkNext() {
	g.t.Helper()
	m := &g.m
	m.look()
	startable := g.s.Startable(m.now)
	if startable != (m.mustStart() != nil) {
		g.checkStartable(startable)
	}
	at, ok := g.s.Next(m.now)
	if startable {
		return
	}
	if first, can := m.earliest(); can && (!ok || at.After(first.Add(slack))) {
		g.fail("Next is %v, %v, but something can start at %v", at.Sub(start), ok, first.Sub(start))
	}
	if !ok {
		return
	}
	if !at.After(m.now) {
		g.fail("Next is %v: time stands still", at.Sub(start))
	}
	// Whether a lane is held, or a task cancelled, is not looked at before the instant has come.
	near := func(t time.Time) bool { return t.Sub(at).Abs() <= slack }
	if near(m.bucket.opensAt()) || slices.ContainsFunc(g.gone, near) {
		return
	}
	for _, l := range m.lanes {
		for _, t := range l.waiting {
			if near(t.due) || near(m.hosts[t.host].bucket.opensAt()) || near(m.hosts[t.host].throttle.opens()) || near(m.hosts[t.host].slowUntil) {
				return
			}
		}
	}
	g.fail("Next is %v, but no limit changes then", at.Sub(start))
}

// finish lets everything end, going from one instant to the next.
func (g *game) finish() {
	for _, l := range slices.Clone(g.m.lanes) {
		if l.dropped {
			for l.lane.Drop(g.m.now, 2) {
				g.check()
			}
			g.m.lanes = slices.DeleteFunc(g.m.lanes, func(other *modelLane) bool { return other == l })
			g.dropped = append(g.dropped, l)
			continue
		}
		l.held = false
		l.lane.Unhold(g.m.now)
	}
	for idle := 0; ; idle++ {
		if idle > 100 {
			g.fail("nothing has started at the last %d instants", idle)
		}
		for g.m.needPermits && g.m.permits < g.m.slots {
			g.permit()
		}
		for g.pop() {
			idle = 0
		}
		g.checkNext()
		for _, f := range g.flying {
			g.s.Done(g.m.now, f.task, Outcome{Verdict: Accepted})
			g.m.hosts[f.task.Host().Key()].inFlight--
		}
		g.m.inFlight -= len(g.flying)
		if len(g.flying) == 0 {
			at, ok := g.s.Next(g.m.now)
			if !ok {
				break
			}
			g.m.now = at
		}
		g.flying = nil
		g.check()
	}
	for _, l := range g.m.lanes {
		if n := len(l.waiting); n > 0 {
			g.fail("lane %v has %d tasks left", l.lane.Owner, n)
		}
	}
	// One more task makes the scheduler look at the hosts that were kept.
	g.m.now = g.m.now.Add(maxIdle + time.Minute)
	l := g.s.NewLane("last")
	l.Push(g.m.now, "last", 0)
	if g.m.needPermits {
		g.s.Permit()
	}
	task, _ := g.s.Pop(g.m.now)
	g.s.Done(g.m.now, task, Outcome{})
	g.m.now = g.m.now.Add(maxIdle + time.Minute)
	g.s.rest(g.s.wake("last"), g.m.now)
	if s := g.s; len(s.hosts)+s.idle.Len()+s.lanes.len()+s.open.len()+s.opening.len()+s.delayed.len()+len(s.full)+len(s.slowStarts)+s.inFlight > 0 {
		g.fail("left behind: %+v", s)
	}
}

func (g *game) check() {
	g.t.Helper()
	var lanes []*Lane
	for _, l := range g.m.lanes {
		lanes = append(lanes, l.lane)
	}
	for _, l := range g.dropped {
		lanes = append(lanes, l.lane)
	}
	var flying []Task
	for _, f := range g.flying {
		flying = append(flying, f.task)
	}
	if err := consistent(g.s, g.m.now, lanes, flying); err != nil {
		g.fail("inconsistent: %v", err)
	}
}

// consistent checks that the scheduler's parts agree with each other.
func consistent(s *Scheduler, now time.Time, lanes []*Lane, flying []Task) error {
	var errs []any
	expect := func(ok bool, what ...any) {
		if !ok && errs == nil {
			errs = what
		}
	}
	inFlight := map[*queue]int{}
	queues := map[*queue]bool{}
	for _, t := range flying {
		inFlight[t.queue]++
		queues[t.queue] = true // even if its lane has been dropped
	}
	heapOK(&s.lanes, expect)
	heapOK(&s.opening, expect)
	heapOK(&s.open, expect)
	heapOK(&s.delayed, expect)
	heapOK(&s.expected, expect)
	turns, dues := 0, 0
	for _, l := range lanes {
		readyQueues := 0
		for i := range l.ready {
			heapOK(&l.ready[i], expect)
			readyQueues += l.ready[i].len()
		}
		heapOK(&l.known, expect)
		heapOK(&l.unknown, expect)
		heapOK(&l.shelf, expect)
		for key, q := range l.queues {
			expect(q.host.key == key && s.hosts[key] == q.host, "the map of lane", l.Owner, "is wrong for", key)
			expect(q.left() > 0 || q.later.len() > 0, "empty queue of lane", l.Owner, key)
			heapOK(&q.later, expect)
			expect(q.due.queued() == (q.later.len() > 0), "queue of lane", l.Owner, key, "is due without a delayed task, or not with one")
			if q.due.queued() {
				first, _ := q.later.min()
				expect(s.delayed.entries[q.due.index-1].key == first, "due of lane", l.Owner, key)
				dues++
			}
			queues[q] = true
		}
		expect(l.turn.queued() == (readyQueues > 0 && !l.closed), "lane", l.Owner, "has a turn:", l.turn.queued(), "ready queues:", readyQueues)
		if l.turn.queued() {
			turns++
			expect(s.lanes.entries[l.turn.index-1].key == l.turnKey(), "turn of lane", l.Owner)
		}
		expect(l.held || l.closed || l.shelf.len() == 0, "lane", l.Owner, "is not held, but something is on its shelf")
		if l.shelf.len() > 0 {
			first, _ := l.shelf.min()
			expect(first > l.exempt || l.closed, "place", first, "on the shelf of lane", l.Owner, "is exempt")
		}
	}
	expect(s.lanes.len() == turns && s.delayed.len() == dues, "lanes that are not known")

	type sums struct{ inFlight, queues, parked, ready int }
	hosts := map[*Host]*sums{}
	for _, h := range s.hosts {
		hosts[h] = &sums{}
	}
	work, unknown := map[*Lane]float64{}, map[*Lane]int{}
	total := 0
	for q := range queues {
		l, h := q.lane, q.host
		sum := hosts[h]
		if sum == nil {
			return fmt.Errorf("the host %s of a queue is forgotten", h.key)
		}
		expect(q.inFlight == inFlight[q], "queue", h.key, "has", q.inFlight, "in flight, not", inFlight[q])
		expect(q.queued == q.kept(), "queued of", h.key, "is", q.queued, "not", q.kept())
		heapOK(&q.returned, expect)
		sum.queues++
		sum.inFlight += q.inFlight
		total += q.inFlight
		work[l] += q.work
		unknown[l] += q.unknown
		places := 0
		if q.ready.queued() {
			sum.ready++
			places++
			expect(q.standing == h.standing, "queue of", h.key, "is ready as", q.standing)
			expect(l.ready[q.standing].entries[q.ready.index-1].key == q.oldest(), "ready key of", h.key)
		}
		if q.parked.queued() {
			sum.parked++
			places++
		}
		if q.shelved.queued() {
			places++
			expect(l.shelf.entries[q.shelved.index-1].key == q.oldest(), "shelf key of", h.key)
		}
		expect(places == min(q.queued, 1), "queue of", h.key, "with", q.queued, "is in", places, "places")
		if q.critical.queued() {
			in := &l.unknown
			if q.measured {
				in = &l.known
			}
			expect(in.entries[q.critical.index-1].item == &q.critical, "critical of", h.key)
			expect(q.ready.queued(), "critical but not ready", h.key)
		}
		expect(q.estimated(), "estimate of", h.key)
	}
	expect(total == s.inFlight, "in flight", s.inFlight, "are", total)
	for _, l := range lanes {
		expect(math.Abs(work[l]-l.work) < 1e-6, "work of lane", l.Owner, "is", l.work, "not", work[l])
		expect(unknown[l] == l.unknownTasks, "tasks of unknown hosts")
	}
	for _, l := range lanes {
		silent := 0
		for q := range queues {
			if q.lane == l && q.host.silent {
				silent += q.inFlight
			}
		}
		expect(silent == l.silent, "silent hosts hold", silent, "slots of lane", l.Owner, "not", l.silent)
	}
	full, hushed, slowStarts := 0, 0, 0
	for h, sum := range hosts {
		if h.silent {
			hushed++
		}
		if h.slowStart {
			slowStarts++
			expect(h.timed == 0 && h.inFlight >= s.config.InitialWindow, "host", h.key, "is in its slow start")
		}
		expect(h.silent == slices.Contains(s.hushed, h), "host", h.key, "is silent:", h.silent)
		expect(h.slowStart == slices.Contains(s.slowStarts, h), "host", h.key, "is in its slow start:", h.slowStart)
		expect((h.inFlight > 0 && !h.silent) == h.expected.queued(), "of host", h.key, "an answer is expected:", h.expected.queued())
		heapOK(&h.parked, expect)
		expect(!h.open.queued() || !h.opening.queued(), "host", h.key, "is both open and opening")
		for _, e := range h.parked.entries {
			expect(queues[e.item.value] && e.item.value.host == h, "another's queue is parked at", h.key)
		}
		expect(h.inFlight == sum.inFlight && h.queues == sum.queues && h.parked.len() == sum.parked,
			"host", h.key, "has", h.inFlight, h.queues, h.parked.len(), "but should have", *sum)
		linked := 0
		for l := range h.Lanes() {
			linked++
			expect(slices.Contains(lanes, l), "another's lane is among those of", h.key)
		}
		expect(linked == h.queues, "host", h.key, "has", h.queues, "queues, but", linked, "in its list")
		expect((h.idle != nil) == (h.queues == 0), "host", h.key, "is idle with queues, or not without")
		if h.limit == 0 && h.inFlight >= s.share {
			full++
			expect(slices.Contains(s.full, h), "host", h.key, "is full")
		}
		waits := sum.parked > 0 && sum.ready == 0 && h.room()
		at := h.opens(now)
		expect(!h.opening.queued() || sum.parked > 0 && h.room(), "host", h.key, "is opening for nothing")
		if waits && at.After(now) {
			expect(h.opening.queued(), "host", h.key, "is not opening")
		}
		if h.opening.queued() {
			key := s.opening.entries[h.opening.index-1].key
			expect(time.Duration(key-s.nanos(at)).Abs() <= slack || key < s.nanos(now), "host", h.key, "opens at", key, "not at", s.nanos(at))
		}
		expect(!waits || at.After(now) || h.atShare() || h.silent || h.open.queued() || h.opening.queued(), "host", h.key, "can start, but nobody is told")
	}
	expect(full == len(s.full) && hushed == len(s.hushed) && slowStarts == len(s.slowStarts), "full, hushed or in their slow start")
	expect(s.idle.Len() <= len(s.hosts), "idle")
	if errs != nil {
		return fmt.Errorf("%s", fmt.Sprintln(errs...))
	}
	return nil
}

// kept counts the tasks that are queued, and have not been cancelled.
func (q *queue) kept() int {
	n := 0
	for _, id := range q.fresh[q.head:] {
		if _, gone := q.gone[id]; !gone {
			n++
		}
	}
	for _, e := range q.returned.entries {
		if _, gone := q.gone[e.item.value]; !gone {
			n++
		}
	}
	return n
}

func (q *queue) estimated() bool {
	return q.unknown == 0 || q.unknown == q.left()
}

func heapOK[K int | int64 | uint64 | float64, V any](h *heap[K, V], expect func(bool, ...any)) {
	for i, e := range h.entries {
		expect(e.item.index == i+1, "an index in a heap is wrong")
		expect(i == 0 || h.entries[(i-1)/arity].key <= e.key, "a heap is out of order")
	}
}

func TestSchedulerAgreesWithTheModel(t *testing.T) {
	seeds := uint64(200)
	if underRace || testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		g := newGame(t, random.IntN)
		g.note("seed %d", seed)
		for range 150 {
			g.step()
		}
		g.finish()
	}
}

func FuzzScheduler(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		choose := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			c := int(data[0]) % n
			data = data[1:]
			return c
		}
		g := newGame(t, choose)
		for i := 0; len(data) > 0 && i < 500; i++ {
			g.step()
		}
		data = nil
		g.finish()
	})
}
