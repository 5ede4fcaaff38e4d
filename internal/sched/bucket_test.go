package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// checkRate checks every window of the starts, which must be in order: in none of length T
// are more than burst + limit*T.
func checkRate(t *testing.T, starts []time.Time, limit rate.Limit, burst int) {
	t.Helper()
	for i, first := range starts {
		for j := i; j < len(starts); j++ {
			window := starts[j].Sub(first).Seconds()
			if n := j - i + 1; float64(n) > float64(burst)+float64(limit)*window+1e-6 {
				t.Fatalf("%d starts in %v, from the %dth on; the limit is %v/s, burst %d", n, starts[j].Sub(first), i, limit, burst)
			}
		}
	}
}

func TestBucketOpensWhenItSays(t *testing.T) {
	for _, limit := range []rate.Limit{1e-6, 0.1, 1.0 / 3, 1, 3, 7, 10, 99.9, 1000, 1e6, 1e9, 3e9} {
		for _, burst := range []int{1, 2, 7} {
			t.Run(fmt.Sprint(float64(limit), " per second, burst ", burst), func(t *testing.T) {
				b := newBucket(limit, burst)
				now := start
				var starts []time.Time
				for i := range 300 {
					if at := b.opens(now); at.After(now) {
						// Not before, but for the rounding.
						if early := at.Add(-3 * time.Nanosecond); early.After(now) && !b.opens(early).After(early) {
							t.Fatalf("token %d was there 3ns before %v", i, at)
						}
						now = at
						if again := b.opens(now); again.After(now) {
							t.Fatalf("token %d is not there when it was to be, but %v later", i, again.Sub(now))
						}
					}
					b.take(now)
					starts = append(starts, now)
				}
				checkRate(t, starts, limit, burst)
				least := float64(len(starts)-burst) / float64(limit)
				if took := now.Sub(start).Seconds(); took > least*(1+1e-6)+1e-6 {
					t.Errorf("took %v seconds, not %v", took, least)
				}
			})
		}
	}
}

func TestBucketIsExactAtOddTimes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	for _, limit := range []rate.Limit{0.7, 13, 333} {
		b := newBucket(limit, 4)
		now := start
		var starts []time.Time
		for len(starts) < 500 {
			if !b.opens(now).After(now) {
				b.take(now)
				starts = append(starts, now)
			}
			now = now.Add(time.Duration(random.ExpFloat64() / float64(limit) * 5e8))
		}
		checkRate(t, starts, limit, 4)
	}
}

func TestBucketOfTooLittleOpensFarAway(t *testing.T) {
	for _, limit := range []rate.Limit{1e-300, 1e-12} {
		b := newBucket(limit, 1)
		b.take(start)
		if at := b.opens(start); at.Sub(start) != farAway {
			t.Errorf("%v per second opens after %v", limit, at.Sub(start))
		}
	}
}

func TestBucketIsFullAgain(t *testing.T) {
	b := newBucket(2, 3)
	if !b.full(start) {
		t.Error("a new bucket is not full")
	}
	b.take(start)
	b.take(start)
	if b.full(start.Add(999 * time.Millisecond)) {
		t.Error("full although two tokens take a second")
	}
	if !b.full(start.Add(time.Second + time.Nanosecond)) {
		t.Error("not full after a second")
	}
}

func TestNoBucketForNoRate(t *testing.T) {
	for _, limit := range []rate.Limit{0, rate.Inf} {
		b := newBucket(limit, 0)
		b.take(start)
		if b != nil || b.opens(start) != start || !b.full(start) || b.limit() != 0 {
			t.Errorf("a rate of %v limits", limit)
		}
	}
}
