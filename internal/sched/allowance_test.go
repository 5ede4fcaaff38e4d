package sched

import (
	"testing"
	"time"
)

// A teller is a host that tells quotas, and the tasks in flight to it.
type teller struct {
	t      *testing.T
	s      *Scheduler
	lane   *Lane
	now    time.Time
	flying []Task
}

func newTeller(t *testing.T, slots, tasks int) *teller {
	h := &teller{t: t, s: New(start, Config{Slots: slots, PauseBase: time.Second, PauseMax: time.Second}), now: start}
	h.lane = h.s.NewLane(nil)
	for id := range tasks {
		h.lane.Push(start, "host", id)
	}
	return h
}

// starts checks how many more start now.
func (h *teller) starts(want int) {
	h.t.Helper()
	tasks := startAll(h.s, h.now)
	if len(tasks) != want {
		h.t.Fatalf("%v after the start %d start, want %d", h.now.Sub(start), len(tasks), want)
	}
	h.flying = append(h.flying, tasks...)
}

// answer answers the first request in flight.
func (h *teller) answer(o Outcome) {
	task := h.flying[0]
	h.flying = h.flying[1:]
	h.s.Done(h.now, task, o)
}

// tells answers the first request in flight with a quota.
func (h *teller) tells(left, size int, reset time.Duration) {
	h.answer(Outcome{Verdict: Accepted, Quota: Quota{left, size, reset}})
}

// refuses answers the first n requests in flight with a refusal, as a quota of four is used up.
func (h *teller) refuses(n int, reset time.Duration) {
	for range n {
		h.answer(Outcome{Verdict: Throttled, Pause: reset, Quota: Quota{0, 4, reset}})
	}
}

// usesUp starts ten requests, after which nothing is left of the quota, and goes to its reset.
func (h *teller) usesUp(size int, reset time.Duration) {
	h.t.Helper()
	h.starts(10)
	for range 10 {
		h.tells(0, size, reset)
	}
	h.opensAfter(reset)
}

// half starts five requests, half a quota of ten a second, and answers them after a while.
func (h *teller) half(left int, took time.Duration) {
	h.t.Helper()
	h.starts(5)
	h.now = h.now.Add(took)
	for range 5 {
		h.tells(left, 10, time.Second)
	}
}

// opensAfter checks when the next request starts if only time passes, and goes there.
func (h *teller) opensAfter(want time.Duration) {
	h.t.Helper()
	at, ok := h.s.Next(h.now)
	if !ok || at.Sub(h.now) != want {
		h.t.Fatalf("the host opens after %v, %v; want %v", at.Sub(h.now), ok, want)
	}
	h.now = at
}

func TestAQuotaIsUsedAtOnceAndThenWaitedFor(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.s.Done(start, h.s.mustPop(t), Outcome{Verdict: Accepted, Quota: Quota{12, 13, time.Minute}})
	h.starts(10)
	for left := 11; left >= 2; left-- {
		h.tells(left, 13, time.Minute)
	}
	h.starts(2)
	h.tells(1, 13, time.Minute)
	h.tells(0, 13, time.Minute)
	h.starts(0)
	h.opensAfter(time.Minute)
	h.starts(10) // of 13, no probe
	h.tells(12, 13, time.Minute)
	h.starts(1)
}

func TestRequestsInFlightCountAgainstAQuota(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	h.tells(11, 20, time.Minute) // nine are on their way
	h.starts(1)
	h.now = h.now.Add(time.Millisecond)
	h.tells(3, 20, time.Minute)
	h.starts(0)
}

// The guess after a reset is a limit on the requests in flight until an answer tells.
func TestTheFirstGuessIsAWholeQuota(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.usesUp(4, time.Second)
	h.starts(4)
	if _, ok := h.s.Next(h.now); ok {
		t.Fatal("time alone opens the host")
	}
	h.tells(8, 4, time.Second)
	h.starts(5)
}

func TestAHostThatDoesNotTellAnyMoreIsFree(t *testing.T) {
	for name, o := range map[string]Outcome{"an answer": {Verdict: Accepted}, "no answer to any": {}} {
		h := newTeller(t, 10, 100)
		h.usesUp(2, time.Second)
		h.starts(2)
		h.answer(o)
		if o.Verdict == Neutral {
			h.starts(0)
			h.answer(o)
		}
		if n := len(startAll(h.s, h.now)); n < 9 {
			t.Errorf("%s: %d start", name, n)
		}
	}
}

// An answer to a request from before the reset says nothing about the new quota.
func TestAnswersFromBeforeTheResetAreIgnored(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	for range 9 {
		h.tells(0, 5, time.Second)
	}
	h.opensAfter(time.Second)
	h.starts(5)
	h.tells(0, 5, time.Second) // the tenth of before
	h.tells(4, 5, time.Second)
	h.starts(0) // four are in flight
	h.tells(4, 5, time.Second)
	h.starts(1)
}

// Those that started after the answer that told the reset are not part of what it told.
func TestWhatIsInFlightAtTheResetCountsForTheNewQuota(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	for range 10 {
		h.tells(9, 10, time.Second)
	}
	h.starts(9)
	h.now = h.now.Add(time.Second)
	h.starts(1) // of ten
	for left := 8; left >= 0; left-- {
		h.tells(left, 10, 9*time.Second)
		h.starts(0)
	}
	h.tells(0, 10, 10*time.Second)
	h.opensAfter(10 * time.Second)
}

// A request that hangs has been counted by the server long since.
func TestRequestsThatHangDoNotCountForEver(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	h.now = h.now.Add(time.Second)
	h.tells(9, 10, time.Minute)
	h.starts(0)
	h.opensAfter(4 * time.Second) // four times as long as the first took
	h.starts(1)
}

func TestARefusalThatAQuotaExplainsTeachesNothingElse(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	h.refuses(10, 2*time.Second)
	host := h.s.Host("host")
	if host.throttle.matters() {
		t.Error("the throttle has learnt something")
	}
	h.opensAfter(2 * time.Second)
	h.starts(4)
}

// Others use the quota too. Then the first guess is one.
func TestAGuessThatWasTooMuchIsNotRepeated(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.usesUp(4, time.Minute)
	h.starts(4)
	h.refuses(4, time.Minute)
	h.opensAfter(time.Minute)
	h.starts(1)
	h.tells(2, 4, time.Minute)
	h.starts(2)
	h.refuses(2, time.Minute)
	if host := h.s.Host("host"); host.throttle.matters() {
		t.Error("two refusals are too many")
	}
	h.opensAfter(time.Minute)
	h.starts(1)
	h.tells(9, 4, time.Minute)
	h.starts(9)
	h.refuses(3, time.Minute)
	if host := h.s.Host("host"); !host.throttle.matters() {
		t.Error("three refusals are no incident")
	}
}

func TestAQuotaThatIsOverruledHoldsNothingBack(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	h.tells(0, 10, time.Hour)
	h.starts(0)
	h.s.Host("host").Overrule(h.now, true)
	h.starts(1)
	if left, reset := h.s.Host("host").Quota(h.now); left != 0 || reset != start.Add(time.Hour) {
		t.Errorf("%d left until %v", left, reset)
	}
}

func TestAQuotaOutlivesTheQueue(t *testing.T) {
	h := newTeller(t, 10, 1)
	h.starts(1)
	h.tells(0, 3, time.Second)
	h.now = h.now.Add(time.Minute)
	for id := range 20 {
		h.lane.Push(h.now, "host", 1+id)
	}
	h.starts(3)
}

// Where the quota decides when the lane is done, its host is critical as one with a rate is.
func TestAHostWithAQuotaIsCritical(t *testing.T) {
	h := newTeller(t, 2, 0)
	for id := range 100 {
		h.lane.Push(start, "other", id)
	}
	for id := range 100 {
		h.lane.Push(start, "host", 100+id)
	}
	task := h.s.mustPop(t)
	h.now = h.now.Add(10 * time.Millisecond)
	h.s.Done(h.now, task, Outcome{Verdict: Accepted})
	h.s.Host("host").hearQuota(h.now, Task{Started: h.now, number: 1}, Outcome{Verdict: Accepted, Quota: Quota{5, 10, time.Minute}})
	h.lane.queues["host"].settle(h.now)
	if task := h.s.mustPop(t); task.Host().Key() != "host" {
		t.Errorf("%s is served first", task.Host().Key())
	}
}

func (s *Scheduler) mustPop(t *testing.T) Task {
	t.Helper()
	task, ok := s.Pop(start)
	if !ok {
		t.Fatal("nothing starts")
	}
	return task
}

// A brief time to a reset is counted from the start of the request, unless that was too early.
func TestABriefResetIsCountedFromTheStart(t *testing.T) {
	h := newTeller(t, 10, 100)
	h.starts(10)
	h.now = h.now.Add(100 * time.Millisecond)
	for range 10 {
		h.tells(0, 4, time.Second)
	}
	h.opensAfter(910 * time.Millisecond)
	h.starts(4)
	h.now = h.now.Add(100 * time.Millisecond)
	h.tells(0, 4, time.Second)
	for range 3 {
		h.answer(Outcome{Verdict: Throttled, Pause: 500 * time.Millisecond, Quota: Quota{0, 4, time.Second}})
	}
	h.opensAfter(910 * time.Millisecond)
	h.starts(4) // the guess was right
	h.now = h.now.Add(100 * time.Millisecond)
	for range 4 {
		h.tells(0, 4, time.Second)
	}
	h.opensAfter(time.Second)
}

// A reset that is told in whole seconds is as of the last start, which can be much later than the
// first. With the times of all starts it is known better.
func TestABriefQuotaIsWholeByTheTimesOfItsStarts(t *testing.T) {
	const answer = 100 * time.Millisecond
	h := newTeller(t, 5, 100)
	h.half(5, answer)
	h.half(0, answer)
	h.opensAfter(910 * time.Millisecond) // as told: when it was whole is not known
	h.half(5, answer)
	h.half(0, answer)
	h.opensAfter(810 * time.Millisecond) // a second after the first five
	h.half(5, 700*time.Millisecond)
	h.half(0, answer)
	h.opensAfter(410 * time.Millisecond) // half a second after the other five: it was full before
	h.half(5, answer)
	h.half(0, answer)
	h.starts(0)
}

// Of a window of a second that others use too, few starts are ours.
func TestABriefWindowThatOthersUseEndsWhenItIsTold(t *testing.T) {
	h := newTeller(t, 5, 100)
	for range 2 {
		h.half(0, 100*time.Millisecond)
		h.opensAfter(910 * time.Millisecond)
	}
}

// Once that was too early, resets are as they are told.
func TestAQuotaThatOthersUseIsWholeWhenItIsTold(t *testing.T) {
	const answer = 100 * time.Millisecond
	h := newTeller(t, 5, 100)
	h.half(5, answer)
	h.half(0, answer)
	h.opensAfter(910 * time.Millisecond)
	h.half(5, answer)
	h.half(0, answer)
	h.opensAfter(810 * time.Millisecond)
	h.starts(5)
	for range 5 {
		h.answer(Outcome{Verdict: Throttled, Pause: time.Second, Quota: Quota{0, 10, time.Second}})
	}
	h.opensAfter(time.Second)
	h.half(5, answer)
	h.half(0, answer)
	h.opensAfter(910 * time.Millisecond)
}

// A quota that is known from elsewhere may have no size.
func TestLeftOfAQuotaWithoutSize(t *testing.T) {
	s := New(start, Config{Slots: 4})
	l := s.NewLane(nil)
	l.Push(start, "host", 0)
	s.Resume(start, "host", State{Reset: at(10 * second)})
	for id := 1; id < 5; id++ {
		l.Push(start, "host", id)
	}
	if left := s.Left(start); left < 10*second {
		t.Errorf("Left is %v", left)
	}
}

// Those that hang since before the last quota was told are part of it.
func TestRequestsThatHangLeaveTheNextQuotaWhole(t *testing.T) {
	h := newTeller(t, 20, 200)
	h.starts(20)
	for range 3 {
		for range 10 {
			h.tells(0, 20, time.Second)
		}
		h.opensAfter(time.Second)
		// Ten hang on, so that there are slots for ten of twenty.
		hanging := h.flying
		h.flying = nil
		h.starts(10)
		h.flying = append(h.flying, hanging...)
	}
}
