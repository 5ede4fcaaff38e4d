package retry_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/batchhttp/fetch/internal/retry"
)

func TestCauseStatusAndMethodDecide(t *testing.T) {
	tests := []struct {
		name   string
		cause  retry.Cause
		status int
		once   bool // allowed for a method that is not idempotent
		twice  bool // allowed for one that is
	}{
		{"success", retry.Response, 200, false, false},
		{"passing status", retry.Response, 503, false, true},
		{"too many requests", retry.Response, 429, false, true},
		{"lasting status", retry.Response, 404, false, false},
		{"no status", retry.Response, 0, false, false},
		{"nothing was sent", retry.NotSent, 0, true, true},
		{"nothing was sent, status ignored", retry.NotSent, 404, true, true},
		{"interrupted", retry.Interrupted, 0, false, true},
		{"interrupted while reading the body", retry.Interrupted, 200, false, true},
		{"final", retry.Final, 0, false, false},
		{"final, status ignored", retry.Final, 503, false, false},
		{"unknown cause", retry.Final + 1, 503, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := retry.Allowed(tt.cause, tt.status, retry.NoHint, false); got != tt.once {
				t.Errorf("not idempotent: got %v, want %v", got, tt.once)
			}
			if got := retry.Allowed(tt.cause, tt.status, retry.NoHint, true); got != tt.twice {
				t.Errorf("idempotent: got %v, want %v", got, tt.twice)
			}
		})
	}
}

var hints = []retry.Hint{retry.NoHint, retry.UsedUp, retry.Asked}

func TestOnlySomeStatusesPass(t *testing.T) {
	pass := map[retry.Hint][]int{
		retry.NoHint: {408, 425, 429, 500, 502, 503, 504, 521, 522, 524, 529},
		retry.UsedUp: {403, 408, 420, 425, 429, 500, 502, 503, 504, 521, 522, 524, 529},
		retry.Asked:  {403, 408, 413, 420, 425, 429, 500, 502, 503, 504, 521, 522, 524, 529},
	}
	for code := -1; code <= 1000; code++ {
		for _, hint := range hints {
			if got, want := retry.Status(code, hint), slices.Contains(pass[hint], code); got != want {
				t.Errorf("Status(%d, %d) = %v, want %v", code, hint, got, want)
			}
		}
	}
}

func TestSomeStatusesSpeakForTheHost(t *testing.T) {
	messages := map[retry.Hint]map[int]retry.Statement{
		retry.NoHint: {429: retry.Refusal, 503: retry.Silence, 529: retry.Silence},
		retry.UsedUp: {403: retry.Refusal, 420: retry.Refusal, 429: retry.Refusal, 503: retry.Silence, 529: retry.Silence},
		retry.Asked:  {403: retry.Refusal, 420: retry.Refusal, 429: retry.Refusal, 503: retry.Overload, 529: retry.Overload},
	}
	for code := -1; code <= 1000; code++ {
		for _, hint := range hints {
			if got, want := retry.Message(code, hint), messages[hint][code]; got != want {
				t.Errorf("Message(%d, %d) = %d, want %d", code, hint, got, want)
			}
		}
	}
}

func TestMethodOrKeyMakesIdempotent(t *testing.T) {
	tests := []struct {
		name   string
		method string
		header http.Header
		want   bool
	}{
		{"empty", "", nil, true},
		{"get", "GET", nil, true},
		{"head", "HEAD", nil, true},
		{"options", "OPTIONS", nil, true},
		{"trace", "TRACE", nil, true},
		{"put", "PUT", nil, true},
		{"delete", "DELETE", nil, true},
		{"post", "POST", nil, false},
		{"patch", "PATCH", http.Header{}, false},
		{"connect", "CONNECT", nil, false},
		{"unknown method", "BREW", nil, false},
		{"lower case is another method", "get", nil, false},
		{"post with key", "POST", http.Header{"Idempotency-Key": {"a"}}, true},
		{"post with x-key", "POST", http.Header{"X-Idempotency-Key": {"a"}}, true},
		{"post with key that is not sent", "POST", http.Header{"Idempotency-Key": nil}, true},
		{"post with another header", "POST", http.Header{"Idempotency": {"a"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := retry.Idempotent(tt.method, tt.header); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
