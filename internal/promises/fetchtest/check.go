package fetchtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

// CheckCancelled checks the error of a URL that the end of the batch's context cut off.
func CheckCancelled(t testing.TB, ctx context.Context, r fetch.Result) {
	t.Helper()
	if !errors.Is(r.Err, ctx.Err()) || !errors.Is(r.Err, context.Cause(ctx)) || errors.Is(r.Err, fetch.ErrTimeout) {
		t.Errorf("%s: error %v, want %v and %v", r.URL, r.Err, ctx.Err(), context.Cause(ctx))
	}
	fetchErr, _ := errors.AsType[*fetch.Error](r.Err)
	if want := errors.Is(ctx.Err(), context.DeadlineExceeded); fetchErr != nil && fetchErr.Timeout() != want {
		t.Errorf("%s: Timeout() is %v for %v", r.URL, !want, r.Err)
	}
}

// CheckResults checks the results of a batch as every batch must have them: one Result for each URL, at
// its index, and sound.
func CheckResults(t testing.TB, urls []string, results []fetch.Result) {
	t.Helper()
	if results == nil {
		t.Fatal("the results are a nil slice")
	}
	if len(results) != len(urls) {
		t.Fatalf("got %d results for %d URLs", len(results), len(urls))
	}
	for i, r := range results {
		CheckResult(t, i, urls[i], r)
	}
}

// CheckResult checks that a Result is consistent in itself, with index for its Index and
// rawURL for its URL.
func CheckResult(t testing.TB, index int, rawURL string, r fetch.Result) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("result %d (%q): %s", index, rawURL, fmt.Sprintf(format, args...))
	}
	if r.Index != index {
		fail("Index is %d", r.Index)
	}
	if r.URL != rawURL {
		fail("URL is %q", r.URL)
	}
	if r.Attempts < 0 || r.Redirects < 0 || r.Waited < 0 || r.Took < 0 {
		fail("negative: Attempts %d, Redirects %d, Waited %v, Took %v", r.Attempts, r.Redirects, r.Waited, r.Took)
	}
	if r.Attempts == 0 && (r.StatusCode != 0 || r.Took != 0) {
		fail("no attempt, but StatusCode %d, Took %v", r.StatusCode, r.Took)
	}
	if r.Started.IsZero() != (r.Attempts == 0) || r.Attempts > 0 && (r.Queued.IsZero() || r.Started.Before(r.Queued)) {
		fail("queued %v, started %v, with %d attempts", r.Queued, r.Started, r.Attempts)
	}
	checkHistory(r, fail)
	checkLog(rawURL, r, fail)
	if r.Attempts <= 1 && r.History != nil {
		fail("History %v after %d attempts", r.History, r.Attempts)
	}
	if r.Attempts > 1 && len(r.History) != r.Attempts {
		fail("History has %d entries after %d attempts", len(r.History), r.Attempts)
	}
	// A status line of "000" is a response head as well; it is told by Proto.
	if got := r.FinalURL != ""; got != (r.StatusCode != 0) && (r.StatusCode != 0 || r.Proto == "") {
		fail("FinalURL %q with StatusCode %d", r.FinalURL, r.StatusCode)
	}
	if u, err := url.Parse(r.FinalURL); err != nil || u.User != nil {
		fail("FinalURL %q: does not parse (%v), or has user information", r.FinalURL, err)
	}
	if r.Err == nil {
		if r.StatusCode < 100 || r.StatusCode == 101 || r.Attempts < 1 {
			fail("no error, but StatusCode %d, Attempts %d", r.StatusCode, r.Attempts)
		}
		return
	}
	if r.OK() {
		fail("OK with error %v", r.Err)
	}
	if _, ok := errors.AsType[*fetch.StatusError](r.Err); !ok && r.Body != nil {
		fail("error %v with a Body of %d bytes", r.Err, len(r.Body))
	}
	CheckError(t, rawURL, r.Err)
	if e, ok := r.Err.(*fetch.Error); ok && e.Attempts != r.Attempts {
		fail("Error.Attempts is %d, Result.Attempts %d", e.Attempts, r.Attempts)
	}
}

// checkHistory checks that the attempts come one after the other.
func checkHistory(r fetch.Result, fail func(string, ...any)) {
	end := r.Started
	for i, a := range r.History {
		if i == 0 && !a.Started.Equal(r.Started) || a.Started.Before(end) {
			fail("attempt %d started at %v, the first at %v", i+1, a.Started, r.Started)
		}
		end = a.Started.Add(a.Took)
	}
}

// checkLog checks that a Result can be logged.
func checkLog(rawURL string, r fetch.Result, fail func(string, ...any)) {
	secrets := secretsOf(rawURL)
	if secrets == nil {
		return
	}
	for _, a := range r.LogValue().Group() {
		for _, secret := range secrets {
			if a.Value.Kind() == slog.KindString && strings.Contains(a.Value.String(), secret) {
				fail("its log shows %q: %s", secret, a)
			}
		}
	}
}

// CheckError checks that an error of a URL has the right type, that its text can be
// logged, and that the sentinels do not contradict each other.
func CheckError(t testing.TB, rawURL string, err error) {
	t.Helper()
	if _, ok := err.(*fetch.Error); !ok {
		t.Errorf("%q: error is a %T, not an *Error: %v", rawURL, err, err)
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, "fetch: ") || strings.Count(text, "fetch: ") > 1 {
		t.Errorf("%q: error text must have one prefix: %q", rawURL, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }); i >= 0 {
		t.Errorf("%q: error text has a control character at %d: %q", rawURL, i, text)
	}
	for _, secret := range secretsOf(rawURL) {
		if strings.Contains(text, secret) {
			t.Errorf("%q: error text shows %q: %q", rawURL, secret, text)
		}
	}
	if errors.Is(err, fetch.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q: ErrTimeout without context.DeadlineExceeded: %v", rawURL, err)
	}
}

// secretsOf returns the parts of a URL that must not show in an error: user information
// and query, and words in them that are long enough not to be there by chance.
func secretsOf(rawURL string) []string {
	_, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		rest = rawURL
	}
	rest, _, _ = strings.Cut(rest, "#")
	var secrets, words []string
	rest, query, _ := strings.Cut(rest, "?")
	if query != "" {
		secrets = append(secrets, "?"+query)
		words = append(words, strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == '=' })...)
	}
	authority, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		secrets = append(secrets, authority[:i+1])
		words = append(words, strings.Split(authority[:i], ":")...)
	}
	for _, word := range words {
		if len(word) >= 6 {
			secrets = append(secrets, word)
		}
	}
	return secrets
}

// CheckTook fails the test unless got is want. It is for virtual time, which is exact.
func CheckTook(t testing.TB, what string, got, want time.Duration) {
	t.Helper()
	if got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// As reports whether err is or wraps an error of the type.
func As[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// Sentinels are all kinds of errors; an error is of one kind at the most.
var Sentinels = []error{
	fetch.ErrInvalidURL, fetch.ErrTimeout, fetch.ErrBodyTooLarge, fetch.ErrTruncated, fetch.ErrProtocol,
	fetch.ErrRedirect, fetch.ErrBlocked, fetch.ErrHostDown, fetch.ErrHostPaused,
}

// MustAllBeFine checks the results and that none has an error.
func MustAllBeFine(t testing.TB, urls []string, results []fetch.Result) {
	t.Helper()
	CheckResults(t, urls, results)
	if err := fetch.JoinErrors(results); err != nil {
		t.Error(err)
	}
}

// MustFetch checks that f fetches the URLs without an error.
func MustFetch(t testing.TB, f *fetch.Fetcher, urls ...string) {
	t.Helper()
	MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
}

// Collect ranges over a Stream to its end and checks that each URL has one Result.
func Collect(t testing.TB, urls []string, stream iter.Seq[fetch.Result]) []fetch.Result {
	t.Helper()
	seen := make([]bool, len(urls))
	var results []fetch.Result
	for r := range stream {
		if r.Index < 0 || r.Index >= len(urls) || seen[r.Index] {
			t.Fatalf("a result with Index %d that is not wanted", r.Index)
		}
		seen[r.Index] = true
		CheckResult(t, r.Index, urls[r.Index], r)
		results = append(results, r)
	}
	if len(results) != len(urls) {
		t.Fatalf("%d results for %d URLs", len(results), len(urls))
	}
	return results
}

// Indices returns the Index of each result.
func Indices(results []fetch.Result) []int {
	var is []int
	for _, r := range results {
		is = append(is, r.Index)
	}
	return is
}
