package retry

import (
	"math/rand/v2"
	"time"
)

// Backoff returns the time to wait before retry n, where n counts from 0: a
// random duration between 0 and [Ceiling], both included.
//
// The jitter covers the whole range because that needs the fewest requests in
// all: retries that failed together do not come back together.
func Backoff(base, limit time.Duration, n int) time.Duration {
	// Unsigned, because one more than the longest duration is not a duration.
	return time.Duration(rand.Uint64N(uint64(Ceiling(base, limit, n)) + 1))
}

// Ceiling returns the lesser of limit and base·2ⁿ. It is 0 if base or limit is
// not positive, and a negative n counts as 0.
func Ceiling(base, limit time.Duration, n int) time.Duration {
	if base <= 0 || limit <= 0 {
		return 0
	}
	n = max(n, 0)
	// Halving the limit cannot overflow, as doubling the base could, and the
	// test means the same: base ≤ ⌊limit/2ⁿ⌋ just when base·2ⁿ ≤ limit.
	if base <= limit>>n {
		return base << n
	}
	return limit
}
