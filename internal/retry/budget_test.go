package retry_test

import (
	"testing"

	"github.com/batchhttp/fetch/internal/retry"
)

// left counts the retries in a copy of the budget.
func left(b retry.Budget) int {
	n := 0
	for b.Retry() {
		n++
	}
	return n
}

func TestBudgetCountsRetries(t *testing.T) {
	tests := []struct {
		name                     string
		firsts, successes, taken int
		want                     int
		unspent                  bool
	}{
		{"zero value", 0, 0, 0, 10, true},
		{"first attempts short of a retry", 4, 0, 0, 10, true},
		{"five first attempts are a retry", 5, 0, 0, 11, true},
		{"a success is a retry", 0, 1, 0, 11, true},
		{"a retry is taken", 0, 0, 1, 9, false},
		{"a success earns it back", 0, 1, 1, 10, true},
		{"first attempts nearly earn it back", 4, 0, 1, 9, false},
		{"first attempts earn it back", 5, 0, 1, 10, true},
		{"all taken", 0, 0, 10, 0, false},
		{"successes up to the cap", 0, 90, 0, 100, true},
		{"successes beyond the cap", 0, 1000, 0, 100, true},
		{"first attempts up to the cap", 450, 0, 0, 100, true},
		{"first attempts beyond the cap", 10000, 0, 0, 100, true},
		{"a full budget can be spent", 0, 1000, 100, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b retry.Budget
			for range tt.firsts {
				b.First()
			}
			for range tt.successes {
				b.Success()
			}
			for range tt.taken {
				if !b.Retry() {
					t.Fatal("budget ended early")
				}
			}
			if got := left(b); got != tt.want {
				t.Errorf("%d retries left, want %d", got, tt.want)
			}
			if got := b.Unspent(); got != tt.unspent {
				t.Errorf("Unspent = %v, want %v", got, tt.unspent)
			}
		})
	}
}

func TestEmptyBudgetStaysEmptyUntilEarned(t *testing.T) {
	var b retry.Budget
	for range 10 {
		b.Retry()
	}
	for range 1000 {
		if b.Retry() {
			t.Fatal("a retry came from an empty budget")
		}
	}
	for range 4 {
		b.First()
		if b.Retry() {
			t.Fatal("less than a whole retry was spent as one")
		}
	}
	b.First()
	if !b.Retry() || b.Retry() {
		t.Error("five first attempts did not earn just one retry")
	}
}

func TestBudgetBoundsAnOutage(t *testing.T) {
	// Enough for a sum of rounded fractions to go astray.
	const urls = 100_000
	var b retry.Budget
	sent := 0
	for range urls {
		b.First()
		sent++
		for b.Retry() {
			sent++
		}
	}
	if want := urls + urls/5 + 10; sent != want {
		t.Errorf("%d requests for %d URLs that all fail, want %d", sent, urls, want)
	}
}
