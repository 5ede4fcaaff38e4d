package sched

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const second = time.Second

func at(d time.Duration) time.Time { return start.Add(d) }

// Half of the first requests of a broad list go to its end, until one of the others is answered.
func TestABroadListIsBegunAtBothEnds(t *testing.T) {
	s := New(start, Config{Slots: 8})
	l := s.NewLane(nil)
	for id := range 80 {
		l.Push(start, fmt.Sprint(id), id)
	}
	tasks := startAll(s, start)
	if got := ids(tasks); !slices.Equal(got, []int{0, 1, 2, 3, 79, 78, 77, 76}) {
		t.Fatalf("first %v start", got)
	}
	s.Done(at(second), tasks[4], Outcome{Verdict: Accepted})
	if got := ids(startAll(s, at(second))); !slices.Equal(got, []int{75}) {
		t.Errorf("the first four are not answered, but then %v start", got)
	}
	s.Done(at(second), tasks[1], Outcome{Verdict: Accepted})
	if got := ids(startAll(s, at(second))); !slices.Equal(got, []int{4}) {
		t.Errorf("one of the first four is answered, and then %v start", got)
	}
}

// newsroom is a scheduler with four slots, of which the hosts "dead1" and "dead2" hold two for a
// long time. The host "alive" has answered, and has more to do.
func newsroom(t *testing.T) (s *Scheduler, l *Lane, dead []Task, now time.Time) {
	s = New(start, Config{Slots: 4})
	l = s.NewLane(nil)
	l.exploring = false
	for id, key := range []string{"dead1", "dead2", "alive", "dead1", "dead2", "new1", "new2", "alive", "alive", "alive", "alive"} {
		l.Push(start, key, id)
	}
	tasks := startAll(s, start)
	if got := ids(tasks); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Fatalf("first %v start", got)
	}
	s.Done(at(second), tasks[2], Outcome{Verdict: Accepted})
	s.Done(at(second), tasks[3], Outcome{})
	return s, l, tasks[:2], at(20 * second)
}

func TestTheDeadAndTheNewShareHalfTheSlots(t *testing.T) {
	s, l, dead, now := newsroom(t)
	tasks := startAll(s, now)
	if got := ids(tasks); !slices.Equal(got, []int{7, 8}) {
		t.Fatalf("%v start beside the dead; doubt %v", got, l.doubts())
	}
	// When one of them answers, it is the oldest's turn again.
	s.Done(now, dead[0], Outcome{Answered: true})
	if got := ids(startAll(s, now)); !slices.Equal(got, []int{5}) {
		t.Errorf("after an answer %v start", got)
	}
}

func TestTheDeadAndTheNewGetAllSlotsThatNobodyElseUses(t *testing.T) {
	s, l, _, now := newsroom(t)
	l.Evict(now, "alive")
	if got := ids(startAll(s, now)); !slices.Equal(got, []int{6, 5}) {
		t.Errorf("%v start, the new ones should", got)
	}
	s2, l2, _, now := newsroom(t)
	for _, key := range []string{"alive", "new1", "new2"} {
		l2.Evict(now, key)
	}
	if got := ids(startAll(s2, now)); !slices.Equal(got, []int{4}) {
		t.Errorf("%v start, the silent one should", got)
	}
}

// A host that did not answer for long comes after those that are new.
func TestAMuteHostComesAfterNewOnes(t *testing.T) {
	s, _, dead, now := newsroom(t)
	for _, task := range dead {
		s.Done(now, task, Outcome{})
	}
	if got := ids(startAll(s, now)); !slices.Equal(got, []int{5, 6, 7, 8}) {
		t.Errorf("%v start", got)
	}
}

// Another batch is not in doubt because of the dead of this one, and is served.
func TestDoubtIsOfTheLane(t *testing.T) {
	s, l, _, now := newsroom(t)
	l.Evict(now, "alive")
	other := s.NewLane(nil)
	other.Push(now, "new3", 1)
	other.Push(now, "new4", 2)
	tasks := startAll(s, now)
	for _, task := range tasks {
		if task.Lane() != other {
			t.Errorf("%d of the lane in doubt starts", task.ID)
		}
	}
	if len(tasks) != 2 {
		t.Errorf("%d start", len(tasks))
	}
}

// A slow host that answers is known to be slow.
func TestASlowHostThatAnswersIsNotSilent(t *testing.T) {
	s := New(start, Config{Slots: 4})
	l := s.NewLane(nil)
	for id := range 40 {
		l.Push(start, []string{"slow", "quick"}[id%2], id)
	}
	now := start
	for i, task := range startAll(s, now) {
		if task.Host().Key() == "slow" && i < 2 {
			s.Done(at(10*second), task, Outcome{Verdict: Accepted})
		}
	}
	slow := s.Host("slow")
	startAll(s, at(10*second))
	s.advance(at(49 * second))
	if slow.silent {
		t.Error("it is silent after less than four times its own time")
	}
	s.advance(at(200 * second))
	if !slow.silent {
		t.Error("it is never silent")
	}
}

// pair is a scheduler of which "alive" has half the slots, and has answered, and "dead" one.
func pair(t *testing.T) (*Scheduler, *Lane) {
	t.Helper()
	s := New(start, Config{Slots: 4})
	l := s.NewLane(nil)
	for id, key := range []string{"dead", "alive", "alive", "alive"} {
		l.Push(start, key, id)
	}
	tasks := startAll(s, start)
	s.Done(at(second), tasks[1], Outcome{Verdict: Accepted})
	return s, l
}

func TestASilentHostComesAfterOneThatHasItsShare(t *testing.T) {
	s, l := pair(t)
	now := at(10*second + second/2)
	l.Push(now, "dead", 4)
	l.Push(now, "alive", 5)
	got := ids(startAll(s, now))
	if s.hosts["alive"].silent || !s.hosts["dead"].silent {
		t.Fatal("only one is to be silent")
	}
	if !slices.Equal(got, []int{5}) {
		t.Errorf("%v start", got)
	}
}

func TestOfSilentHostsOneThatHasAnsweredComesFirst(t *testing.T) {
	s, l := pair(t)
	now := at(20 * second)
	l.Push(now, "dead", 4)
	l.Push(now, "alive", 5)
	if got := ids(startAll(s, now)); !slices.Equal(got, []int{5}) {
		t.Errorf("%v start", got)
	}
}
