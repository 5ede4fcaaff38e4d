package retry

import (
	"net/http"
	"strings"
	"time"
)

// Longest is the most that [After] returns. It is longer than anybody waits,
// and yet short enough to be added to a time or to another duration.
const Longest = 100 * 365 * 24 * time.Hour

// After returns how long the Retry-After field of a response received at now
// asks to wait, which is more than 0 and at most [Longest]. The field holds
// either a number of seconds, in digits, or a date in any of the three forms of
// HTTP ([RFC 9110], section 10.2.3).
//
// A date is counted from the Date of the same response, if that can be read,
// so that it does not matter whether the two clocks agree; otherwise from now, as it
// is if the response has an Age: one from a cache has the Date at which it was stored
// ([RFC 9111], section 5.1).
//
// Without a field, or if it is malformed, zero or in the past, After returns 0
// and false. Of several values it takes the longest wait, because then
// no request is sent earlier than any of them asked.
//
// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
// [RFC 9111]: https://www.rfc-editor.org/rfc/rfc9111#section-5.1
func After(header http.Header, now time.Time) (time.Duration, bool) {
	var wait time.Duration
	for _, value := range header["Retry-After"] {
		wait = max(wait, delay(trim(value), header, now))
	}
	return wait, wait > 0
}

// delay returns what one value asks for; anything not positive is no request.
func delay(value string, header http.Header, now time.Time) time.Duration {
	if wait, ok := seconds(value); ok {
		return wait
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(at.Sub(Clock(header, now)), Longest) // Sub saturates
}

// Clock returns the instant of a response received at now by the clock of its server: its
// Date or, if that cannot be read or the response was stored by a cache, now.
func Clock(header http.Header, now time.Time) time.Time {
	if Stored(header) {
		return now
	}
	if sent, err := http.ParseTime(trim(header.Get("Date"))); err == nil {
		return sent
	}
	return now
}

// Stored reports whether a response comes from a cache.
func Stored(header http.Header) bool {
	_, ok := seconds(trim(header.Get("Age")))
	return ok
}

// seconds reads a string of digits, which may be of any length: the sum is
// held at the limit after each digit, and so can neither overflow here nor when
// it becomes a duration.
func seconds(digits string) (time.Duration, bool) {
	var sum int64
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		sum = min(10*sum+int64(c-'0'), int64(Longest/time.Second))
	}
	return time.Duration(sum) * time.Second, digits != ""
}

// trim removes the white space that may surround a field value (RFC 9110,
// section 5.6.3). net/http has done so for responses off the wire, but a
// RoundTripper can make up its own.
func trim(value string) string { return strings.Trim(value, " \t") }
