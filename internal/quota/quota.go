// Package quota reads the quotas that servers tell in the headers of their responses: how many
// requests a host still takes, and when that changes. It keeps nothing: the present comes in as
// a value.
//
// It knows three families of fields:
//
//   - RateLimit and RateLimit-Policy ([draft-ietf-httpapi-ratelimit-headers-10]), and RateLimit
//     in the form of draft 7, limit=100, remaining=50, reset=30;
//   - RateLimit-Limit, -Remaining and -Reset, of the drafts before;
//   - X-RateLimit-Limit, -Remaining and -Reset, also spelled X-Rate-Limit, which have no
//     specification. Reset is a number of seconds, or an instant in seconds or milliseconds
//     since 1970.
//
// [draft-ietf-httpapi-ratelimit-headers-10]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
package quota

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/batchhttp/fetch/internal/retry"
)

// A Quota is the statement of a response about the requests that follow.
type Quota struct {
	Left  int           // requests that the host still takes
	Size  int           // of a whole quota; 0 is not told
	Reset time.Duration // until the quota is whole again; 0 is not told, or past
}

// Longest is the longest Reset. Whoever names a longer window is not believed.
const Longest = 24 * time.Hour

// tighter reports whether q allows less than other.
func (q Quota) tighter(other Quota) bool {
	if q.Left != other.Left {
		return q.Left < other.Left
	}
	return q.Reset > other.Reset
}

// A family has the canonical names of fields that belong together.
type family struct{ limit, remaining, reset string }

var families = [...]family{
	{"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset"},
	{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	{"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"},
}

const (
	structured = "Ratelimit"
	policies   = "Ratelimit-Policy"
)

// Told reports whether a response may tell a quota. It costs little.
func Told(header http.Header) bool {
	if header[structured] != nil {
		return true
	}
	for i := range families {
		if header[families[i].remaining] != nil {
			return true
		}
	}
	return false
}

// Read returns the tightest quota of a response that was received at now: that with the least
// left, or of equal ones the last to be reset. A field that is malformed, negative, too large,
// or of a window longer than [Longest] is as none, and so are all fields of a stored response, which
// are out of date.
func Read(header http.Header, now time.Time) (tightest Quota, ok bool) {
	if retry.Stored(header) {
		return Quota{}, false
	}
	take := func(q Quota) {
		if !ok || q.tighter(tightest) {
			tightest, ok = q, true
		}
	}
	if lines := header[structured]; lines != nil {
		readStructured(strings.Join(lines, ","), strings.Join(header[policies], ","), take)
	}
	for i := range families {
		if q, told := families[i].read(header, now); told {
			take(q)
		}
	}
	return tightest, ok
}

// read returns the quota that the fields of the family tell.
func (f *family) read(header http.Header, now time.Time) (q Quota, ok bool) {
	left, ok := number(only(header[f.remaining]))
	if !ok {
		return Quota{}, false
	}
	q.Left = count(left)
	if size, ok := number(only(header[f.limit])); ok {
		q.Size = count(size)
	}
	if header[f.reset] == nil {
		return q, true
	}
	value, ok := number(only(header[f.reset]))
	if !ok {
		return Quota{}, false
	}
	q.Reset, ok = untilReset(value, retry.Clock(header, now))
	return q, ok
}

// untilReset returns the time from an instant of the server's clock to a reset, and false if
// it is too long. Numbers up to a day are seconds from then. Larger ones are instants: seconds
// or, if that is not within a day of the clock, milliseconds since 1970.
func untilReset(value float64, clock time.Time) (time.Duration, bool) {
	const day = float64(Longest / time.Second)
	if value <= day {
		return seconds(value), true
	}
	now := float64(clock.UnixMilli()) / 1000
	for _, at := range [...]float64{value, value / 1000} {
		if math.Abs(at-now) <= day {
			return max(0, seconds(at-now)), true
		}
	}
	return 0, false
}

// seconds returns a duration, rounded up to a millisecond: too early is too early.
func seconds(n float64) time.Duration {
	return time.Duration(math.Ceil(1000*n-1e-3)) * time.Millisecond
}

// only returns the value of a field that is given once.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// most is more than any quota, and exact as a float64.
const most = 1e15

// number reads a decimal that is not negative and has at most 15 digits before the point. Parameters and
// further members of a list, as older drafts have them, may follow.
func number(value string) (float64, bool) {
	if i := strings.IndexAny(value, ";,"); i >= 0 {
		value = value[:i]
	}
	value = strings.Trim(value, " \t")
	whole, fraction, _ := strings.Cut(value, ".")
	if len(whole) > 15 || len(fraction) > 15 || !isDigits(whole) || fraction != "" && !isDigits(fraction) {
		return 0, false
	}
	n, err := strconv.ParseFloat(value, 64)
	return n, err == nil && n < most
}

// count returns a number of requests as an int of any machine. Those cut off are more than anybody sends.
func count[N int64 | float64](n N) int { return int(min(n, math.MaxInt32)) }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
