package retry_test

import (
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/retry"
)

var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC) // a Sunday

func TestAfterReadsOneValue(t *testing.T) {
	tests := []struct {
		name  string
		value string
		want  time.Duration // 0: none
	}{
		{"one", "1", time.Second},
		{"two minutes", "120", 2 * time.Minute},
		{"leading zeros", "007", 7 * time.Second},
		{"very many leading zeros", strings.Repeat("0", 1000) + "7", 7 * time.Second},
		{"surrounding spaces", " \t 5 \t", 5 * time.Second},
		{"one second below the longest", "3153599999", retry.Longest - time.Second},
		{"the longest", "3153600000", retry.Longest},
		{"one second above the longest", "3153600001", retry.Longest},
		{"wraps to a century when multiplied", "1000000000000", retry.Longest},
		{"wraps to a negative when multiplied", "9223372036854775807", retry.Longest},
		{"wraps when parsed", "9223372036854775808", retry.Longest},
		{"wraps to one when parsed", "18446744073709551617", retry.Longest},
		{"very many digits", strings.Repeat("9", 10000), retry.Longest},

		{"zero", "0", 0},
		{"zeros", "0000", 0},
		{"negative", "-3", 0},
		{"negative zero", "-0", 0},
		{"signed", "+5", 0},
		{"fractional", "1.5", 0},
		{"fraction of zero", "5.0", 0},
		{"comma", "1,5", 0},
		{"exponent", "1e12", 0},
		{"hexadecimal", "0x10", 0},
		{"underscore", "1_000", 0},
		{"not a number", "NaN", 0},
		{"infinite", "Inf", 0},
		{"unit", "5s", 0},
		{"word", "soon", 0},
		{"inner space", "1 2", 0},
		{"line break", "5\n", 0},
		{"NUL", "5\x00", 0},
		{"digits of another script", "٣", 0},
		{"full-width digits", "５", 0},
		{"empty", "", 0},
		{"spaces only", " \t ", 0},
		{"list in one value", "5, 10", 0},

		{"RFC 1123 date", "Sun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second},
		{"RFC 850 date", "Sunday, 01-Mar-26 12:00:30 GMT", 30 * time.Second},
		{"asctime date", "Sun Mar  1 12:00:30 2026", 30 * time.Second},
		{"date with spaces", " Sun, 01 Mar 2026 12:00:30 GMT ", 30 * time.Second},
		{"RFC 1123 present", "Sun, 01 Mar 2026 12:00:00 GMT", 0},
		{"RFC 1123 past", "Sun, 01 Mar 2026 11:59:59 GMT", 0},
		{"RFC 850 past", "Sunday, 06-Nov-94 08:49:37 GMT", 0},
		{"asctime past", "Sun Nov  6 08:49:37 1994", 0},
		{"RFC 1123 distant past", "Mon, 01 Jan 0001 00:00:00 GMT", 0},
		{"asctime distant past", "Sat Jan  1 00:00:00 0000", 0},
		{"RFC 1123 far", "Fri, 31 Dec 9999 23:59:59 GMT", retry.Longest},
		{"RFC 850 far", "Monday, 01-Mar-66 12:00:00 GMT", 14610 * 24 * time.Hour},
		{"asctime far", "Fri Dec 31 23:59:59 9999", retry.Longest},
		{"ISO 8601 date", "2026-03-01T12:00:30Z", 0},
		{"impossible day", "Tue, 31 Feb 2026 12:00:30 GMT", 0},
		{"date in another zone", "Sun, 01 Mar 2026 12:00:30 CET", 0},
		{"date with more after it", "Sun, 01 Mar 2026 12:00:30 GMT; 5", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, http.Header{"Retry-After": {tt.value}}, tt.want)
		})
	}
}

func TestAfterCountsDatesFromDate(t *testing.T) {
	const (
		noon     = "Sun, 01 Mar 2026 12:00:00 GMT"
		fiveLate = "Sun, 01 Mar 2026 12:05:00 GMT"
	)
	tests := []struct {
		name  string
		value string
		date  string
		want  time.Duration
	}{
		{"clocks agree", fiveLate, noon, 5 * time.Minute},
		{"server an hour ahead", "Sun, 01 Mar 2026 13:05:00 GMT", "Sun, 01 Mar 2026 13:00:00 GMT", 5 * time.Minute},
		{"server a year behind", "Sat, 01 Mar 2025 12:05:00 GMT", "Sat, 01 Mar 2025 12:00:00 GMT", 5 * time.Minute},
		{"forms differ", "Sunday, 01-Mar-26 12:05:00 GMT", "Sun Mar  1 12:04:00 2026", time.Minute},
		{"date with spaces", fiveLate, " Sun, 01 Mar 2026 12:04:00 GMT\t", time.Minute},
		{"not after the date", fiveLate, fiveLate, 0},
		{"before the date", noon, fiveLate, 0},
		{"date in the distant past", fiveLate, "Mon, 01 Jan 0001 00:00:00 GMT", retry.Longest},
		{"date in the far future", fiveLate, "Fri, 31 Dec 9999 23:59:59 GMT", 0},
		{"date is junk", fiveLate, "yesterday", 5 * time.Minute},
		{"date is a number", fiveLate, "0", 5 * time.Minute},
		{"date is empty", fiveLate, "", 5 * time.Minute},
		{"digits do not need it", "7", "Fri, 31 Dec 9999 23:59:59 GMT", 7 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, http.Header{"Retry-After": {tt.value}, "Date": {tt.date}}, tt.want)
		})
	}
}

func TestAfterCountsDatesOfStoredAnswersFromNow(t *testing.T) {
	for age, want := range map[string]time.Duration{
		"600": time.Minute, "0": time.Minute, " 1 ": time.Minute, "99999999999999999999": time.Minute,
		"": 11 * time.Minute, "-1": 11 * time.Minute, "x": 11 * time.Minute, "1.5": 11 * time.Minute,
	} {
		check(t, http.Header{
			"Retry-After": {"Sun, 01 Mar 2026 12:01:00 GMT"}, "Date": {"Sun, 01 Mar 2026 11:50:00 GMT"}, "Age": {age},
		}, want)
	}
}

func TestAfterTakesLongestValue(t *testing.T) {
	tests := []struct {
		name   string
		values []string
		want   time.Duration
	}{
		{"nil", nil, 0},
		{"none", []string{}, 0},
		{"longest last", []string{"5", "10"}, 10 * time.Second},
		{"longest first", []string{"10", "5"}, 10 * time.Second},
		{"junk first", []string{"junk", "5"}, 5 * time.Second},
		{"junk last", []string{"5", "-10"}, 5 * time.Second},
		{"date and digits", []string{"5", "Sun, 01 Mar 2026 12:01:00 GMT"}, time.Minute},
		{"past date and digits", []string{"Sun, 01 Mar 2026 11:00:00 GMT", "5"}, 5 * time.Second},
		{"huge", []string{"9223372036854775807", "1"}, retry.Longest},
		{"all junk", []string{"", "0", "-1", "soon"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, http.Header{"Retry-After": tt.values}, tt.want)
		})
	}
}

func TestAfterWithoutHeader(t *testing.T) {
	check(t, nil, 0)
	check(t, http.Header{}, 0)
	check(t, http.Header{"Date": {"Sun, 01 Mar 2026 12:00:00 GMT"}}, 0)
}

func check(t *testing.T, header http.Header, want time.Duration) {
	t.Helper()
	got, ok := retry.After(header, now)
	if got != want || ok != (want > 0) {
		t.Errorf("After(%q) = %v, %v; want %v, %v", header, got, ok, want, want > 0)
	}
}

func FuzzAfter(f *testing.F) {
	const date = "Sun, 01 Mar 2026 12:00:00 GMT"
	f.Add("5", "10", date, now.Unix())
	f.Add("9223372036854775807", "-1", "", int64(0))
	f.Add("0", "+5", "junk", int64(-1))
	f.Add("Sunday, 06-Nov-94 08:49:37 GMT", "1.5", "Sun Nov  6 08:49:30 1994", int64(784111770))
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "1e12", "Mon, 01 Jan 0001 00:00:00 GMT", int64(1)<<62)
	digits := regexp.MustCompile(`^[ \t]*[0-9]+[ \t]*$`)
	f.Fuzz(func(t *testing.T, first, second, date string, unix int64) {
		now := time.Unix(unix, 0)
		header := http.Header{"Retry-After": {first}, "Date": {date}}
		one, ok := retry.After(header, now)
		if one < 0 || one > retry.Longest || ok != (one > 0) {
			t.Fatalf("After = %d, %v", one, ok)
		}
		if digits.MatchString(first) && one != secondsByBig(first) {
			t.Fatalf("After = %d, want %d", one, secondsByBig(first))
		}
		if strings.HasPrefix(first, "-") || strings.HasPrefix(first, "+") {
			if ok {
				t.Fatalf("signed value was read as %v", one)
			}
		}
		// A further value can only make the wait longer, wherever it stands.
		header["Retry-After"] = []string{first, second}
		two, _ := retry.After(header, now)
		header["Retry-After"] = []string{second, first}
		swapped, _ := retry.After(header, now)
		if two < one || two != swapped {
			t.Fatalf("alone %d, before another %d, after it %d", one, two, swapped)
		}
	})
}

// secondsByBig reads digits of any length and cuts what is too long.
func secondsByBig(s string) time.Duration {
	n, _ := new(big.Int).SetString(strings.Trim(s, " \t"), 10)
	n.Mul(n, big.NewInt(int64(time.Second)))
	if n.Cmp(big.NewInt(int64(retry.Longest))) > 0 {
		return retry.Longest
	}
	return time.Duration(n.Int64())
}
