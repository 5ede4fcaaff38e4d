package sched

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// A bucket is a token bucket driven by explicit times. The nil bucket has no limit.
type bucket struct {
	limiter *rate.Limiter
}

func newBucket(limit rate.Limit, burst int) *bucket {
	if limit == 0 || limit == rate.Inf || math.IsInf(float64(limit), 1) {
		return nil
	}
	return &bucket{limiter: rate.NewLimiter(limit, max(burst, 1))}
}

// farAway stands for every wait that is too long to be a duration.
const farAway = 100 * 365 * 24 * time.Hour

// opens returns the first instant, now or later, at which there is a token.
func (b *bucket) opens(now time.Time) time.Time {
	if b == nil {
		return now
	}
	missing := 1 - b.limiter.TokensAt(now)
	if missing <= 0 {
		return now
	}
	seconds := missing / float64(b.limiter.Limit())
	if seconds > farAway.Seconds() {
		return now.Add(farAway)
	}
	at := now.Add(time.Duration(seconds * float64(time.Second)))
	if b.limiter.TokensAt(at) < 1 {
		// At the instant rounded down the token can lack a hair, and in virtual
		// time the clock would then never move on.
		at = at.Add(time.Nanosecond)
	}
	return at
}

// take takes a token; opens has said that there is one.
func (b *bucket) take(now time.Time) {
	if b != nil {
		b.limiter.AllowN(now, 1)
	}
}

// full reports whether nothing would be lost by forgetting the bucket.
func (b *bucket) full(now time.Time) bool {
	return b == nil || b.limiter.TokensAt(now) >= float64(b.limiter.Burst())
}

// spent returns when the bucket was empty, if nothing has been taken since; zero if it is full.
func (b *bucket) spent(now time.Time) time.Time {
	if b.full(now) {
		return time.Time{}
	}
	filled := b.limiter.TokensAt(now) / float64(b.limiter.Limit())
	return now.Add(-time.Duration(min(filled, farAway.Seconds()) * float64(time.Second)))
}

// empty makes the bucket one that was empty at the given time, or full if that is zero.
func (b *bucket) empty(at time.Time) {
	if b == nil {
		return
	}
	b.limiter = rate.NewLimiter(b.limiter.Limit(), b.limiter.Burst())
	if !at.IsZero() {
		b.limiter.AllowN(at, b.limiter.Burst())
	}
}

// limit returns the rate, or 0 for none.
func (b *bucket) limit() float64 {
	if b == nil {
		return 0
	}
	return float64(b.limiter.Limit())
}
