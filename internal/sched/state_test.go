package sched

import (
	"testing"
	"time"
)

// A host goes on from its state as it would have without: the pause, one probe, then the pace.
func TestAHostGoesOnFromItsState(t *testing.T) {
	start := time.Unix(1000, 0)
	s := New(start, Config{Slots: 8, Host: Limits{Rate: 10, Burst: 4}})
	state := State{Until: start.Add(5 * time.Second), Refusing: start, Pace: 2, Window: 3, Spent: start}
	s.Introduce("h", Limits{Rate: 10, Burst: 4})
	s.Resume(start, "h", state)
	if got := s.Host("h").State(start); got != state {
		t.Errorf("state %+v, want %+v", got, state)
	}
	lane := s.NewLane(nil)
	for i := range 6 {
		lane.Push(start, "h", i)
	}
	s.Release(start, "h")
	if _, ok := s.Pop(start.Add(5*time.Second - 1)); ok {
		t.Error("a start in the pause")
	}
	at := start.Add(5 * time.Second)
	probe, ok := s.Pop(at)
	if !ok {
		t.Fatal("no probe")
	}
	if _, ok := s.Pop(at.Add(time.Hour)); ok {
		t.Error("a start beside the probe")
	}
	at = at.Add(time.Hour)
	s.Done(at, probe, Outcome{Verdict: Accepted})
	if got := s.Host("h").State(at); got.Pace != 2 || !got.Refusing.IsZero() {
		t.Errorf("state %+v", got)
	}
	starts := 0
	for now := at; now.Before(at.Add(time.Second)); now = now.Add(10 * time.Millisecond) {
		if _, ok := s.Pop(now); ok {
			starts++
		}
	}
	if starts < 1 || starts > 3 {
		t.Errorf("%d starts in a second at a pace of 2", starts)
	}
}

// An empty bucket refills from the instant at which it was.
func TestABucketGoesOnFromWhenItWasEmpty(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBucket(2, 4)
	if at := b.spent(now); !at.IsZero() {
		t.Errorf("a full one was empty at %v", at)
	}
	b.empty(now.Add(-time.Second))
	if tokens := b.limiter.TokensAt(now); tokens != 2 {
		t.Errorf("%v tokens, want 2", tokens)
	}
	b.take(now)
	other := newBucket(2, 4)
	other.empty(b.spent(now))
	for _, later := range []time.Duration{0, 300 * time.Millisecond, time.Hour} {
		if a, b := b.limiter.TokensAt(now.Add(later)), other.limiter.TokensAt(now.Add(later)); a != b {
			t.Errorf("after %v: %v and %v tokens", later, a, b)
		}
	}
	var none *bucket
	none.empty(now)
	if at := none.spent(now); !at.IsZero() {
		t.Errorf("no bucket was empty at %v", at)
	}
}
