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
			if got := retry.Allowed(tt.cause, tt.status, false, false); got != tt.once {
				t.Errorf("not idempotent: got %v, want %v", got, tt.once)
			}
			if got := retry.Allowed(tt.cause, tt.status, false, true); got != tt.twice {
				t.Errorf("idempotent: got %v, want %v", got, tt.twice)
			}
		})
	}
}

func TestOnlySomeStatusesPass(t *testing.T) {
	pass := []int{408, 425, 429, 500, 502, 503, 504, 521, 522, 524, 529}
	ifItWaits := []int{403, 413, 420}
	for code := -1; code <= 1000; code++ {
		for _, waits := range []bool{false, true} {
			want := slices.Contains(pass, code) || waits && slices.Contains(ifItWaits, code)
			if got := retry.Status(code, waits); got != want {
				t.Errorf("Status(%d, %v) = %v, want %v", code, waits, got, want)
			}
		}
	}
}

func TestSomeStatusesSpeakForTheHost(t *testing.T) {
	type pair struct {
		code  int
		waits bool
	}
	messages := map[pair]retry.Statement{
		{429, false}: retry.Refusal, {429, true}: retry.Refusal, {403, true}: retry.Refusal, {420, true}: retry.Refusal,
		{503, false}: retry.Silence, {503, true}: retry.Overload, {529, false}: retry.Silence, {529, true}: retry.Overload,
	}
	for code := -1; code <= 1000; code++ {
		for _, waits := range []bool{false, true} {
			if got, want := retry.Message(code, waits), messages[pair{code, waits}]; got != want {
				t.Errorf("Message(%d, %v) = %v, want %v", code, waits, got, want)
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
