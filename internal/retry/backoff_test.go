package retry_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/retry"
)

const forever = time.Duration(math.MaxInt64)

func TestCeilingDoublesUpToLimit(t *testing.T) {
	tests := []struct {
		name        string
		base, limit time.Duration
		n           int
		want        time.Duration
	}{
		{"first", 200 * time.Millisecond, 10 * time.Second, 0, 200 * time.Millisecond},
		{"second", 200 * time.Millisecond, 10 * time.Second, 1, 400 * time.Millisecond},
		{"sixth", 200 * time.Millisecond, 10 * time.Second, 5, 6400 * time.Millisecond},
		{"limit", 200 * time.Millisecond, 10 * time.Second, 6, 10 * time.Second},
		{"exactly the limit", time.Second, 8 * time.Second, 3, 8 * time.Second},
		{"one below the limit", 2, 9, 2, 8},
		{"one above the limit", 2, 7, 2, 7},
		{"negative count", time.Second, time.Minute, -3, time.Second},
		{"least count", time.Second, time.Minute, math.MinInt, time.Second},
		{"no base", 0, time.Minute, 5, 0},
		{"no limit", time.Second, 0, 5, 0},
		{"negative base", -time.Second, time.Minute, 63, 0},
		{"negative limit", time.Second, -time.Minute, 0, 0},
		{"base above limit", time.Minute, time.Second, 0, time.Second},
		{"shift into the sign", time.Millisecond, time.Hour, 45, time.Hour},
		{"shift by 62", 1, forever, 62, 1 << 62},
		{"shift by 63", 1, forever, 63, forever},
		{"shift by 64", 1, forever, 64, forever},
		{"greatest count", 1, forever, math.MaxInt, forever},
		{"longest", forever, forever, 0, forever},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := retry.Ceiling(tt.base, tt.limit, tt.n); got != tt.want {
				t.Errorf("Ceiling(%v, %v, %d) = %v, want %v", tt.base, tt.limit, tt.n, got, tt.want)
			}
			if got := retry.Backoff(tt.base, tt.limit, tt.n); got < 0 || got > tt.want {
				t.Errorf("Backoff(%v, %v, %d) = %v, want 0 to %v", tt.base, tt.limit, tt.n, got, tt.want)
			}
		})
	}
}

func TestBackoffReachesBothEnds(t *testing.T) {
	const draws = 500 // misses one of three values once in 10⁸⁷ runs
	seen := make(map[time.Duration]bool)
	for range draws {
		seen[retry.Backoff(1, 2, 1)] = true
	}
	for want := range time.Duration(3) {
		if !seen[want] {
			t.Errorf("%v never came in %d draws", want, draws)
		}
	}
}

func TestBackoffIsEven(t *testing.T) {
	const draws = 4000
	var quarters [4]int
	for range draws {
		quarters[min(retry.Backoff(time.Second, time.Minute, 2)/time.Second, 3)]++
	}
	for i, n := range quarters {
		if n < draws/4-250 || n > draws/4+250 { // nine standard deviations
			t.Errorf("quarter %d: %d of %d draws", i, n, draws)
		}
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(int64(200*time.Millisecond), int64(10*time.Second), 3)
	f.Add(int64(time.Millisecond), int64(forever), 45)
	f.Add(int64(0), int64(time.Second), 1)
	f.Add(int64(1), int64(1), 64)
	f.Add(int64(forever), int64(forever), 0)
	f.Add(int64(-1), int64(-1), -1)
	f.Fuzz(func(t *testing.T, base, limit int64, n int) {
		ceiling := retry.Ceiling(time.Duration(base), time.Duration(limit), n)
		if want := ceilingByBig(base, limit, n); ceiling != want {
			t.Fatalf("Ceiling = %d, want %d", ceiling, want)
		}
		const draws = 128 // all of them 0: at most once in 2¹²⁸ runs
		var longest time.Duration
		for range draws {
			d := retry.Backoff(time.Duration(base), time.Duration(limit), n)
			if d < 0 || d > ceiling {
				t.Fatalf("Backoff = %d, want 0 to %d", d, ceiling)
			}
			longest = max(longest, d)
		}
		if ceiling > 0 && longest == 0 {
			t.Fatalf("%d draws up to %d were all 0", draws, ceiling)
		}
	})
}

// ceilingByBig computes min(limit, base·2ⁿ) as it is written.
func ceilingByBig(base, limit int64, n int) time.Duration {
	if base <= 0 || limit <= 0 {
		return 0
	}
	// Beyond 64 doublings even the least base is above every limit.
	product := new(big.Int).Lsh(big.NewInt(base), uint(min(max(n, 0), 64)))
	if product.Cmp(big.NewInt(limit)) > 0 {
		return time.Duration(limit)
	}
	return time.Duration(product.Int64())
}
