package politeness_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// In a bubble it is midnight of 1 January 2000, UTC.
var hostileRetryAfters = map[string]struct {
	values []string
	asks   time.Duration // 0: nothing
}{
	"none":                  {nil, 0},
	"empty":                 {[]string{""}, 0},
	"blank":                 {[]string{" \t"}, 0},
	"zero":                  {[]string{"0"}, 0},
	"zeros":                 {[]string{"0000000000000000000000"}, 0},
	"negative":              {[]string{"-1"}, 0},
	"very negative":         {[]string{"-9223372036854775808"}, 0},
	"signed":                {[]string{"+5"}, 0},
	"fractional":            {[]string{"0.5"}, 0},
	"with an exponent":      {[]string{"1e3"}, 0},
	"hexadecimal":           {[]string{"0x10"}, 0},
	"with a unit":           {[]string{"5 seconds"}, 0},
	"a list":                {[]string{"5, 6"}, 0},
	"wide digits":           {[]string{"５"}, 0},
	"junk":                  {[]string{"soon"}, 0},
	"control characters":    {[]string{"5\x00\r\n"}, 0},
	"not a number":          {[]string{"NaN"}, 0},
	"long junk":             {[]string{strings.Repeat("x", 100_000)}, 0},
	"largest int64":         {[]string{"9223372036854775807"}, math.MaxInt64},
	"largest int64, plus 1": {[]string{"9223372036854775808"}, math.MaxInt64},
	"largest uint64 plus 1": {[]string{"18446744073709551616"}, math.MaxInt64},
	"wraps as nanoseconds":  {[]string{"9223372037"}, math.MaxInt64},
	"wraps to little":       {[]string{"18446744074"}, math.MaxInt64},
	"10¹² s":                {[]string{"1000000000000"}, math.MaxInt64},
	"infinite digits":       {[]string{strings.Repeat("9", 10_000)}, math.MaxInt64},
	"leading zeros":         {[]string{strings.Repeat("0", 10_000) + "5"}, 5 * time.Second},
	"past date, RFC 1123":   {[]string{"Sun, 06 Nov 1994 08:49:37 GMT"}, 0},
	"past date, RFC 850":    {[]string{"Sunday, 06-Nov-94 08:49:37 GMT"}, 0},
	"past date, ANSI C":     {[]string{"Sun Nov  6 08:49:37 1994"}, 0},
	"year 0":                {[]string{"Sat, 01 Jan 0000 00:00:00 GMT"}, 0},
	"present":               {[]string{"Sat, 01 Jan 2000 00:00:00 GMT"}, 0},
	"far date, RFC 1123":    {[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, math.MaxInt64},
	"far date, RFC 850":     {[]string{"Monday, 31-Dec-68 23:59:59 GMT"}, math.MaxInt64},
	"far date, ANSI C":      {[]string{"Fri Dec 31 23:59:59 9999"}, math.MaxInt64},
	"no such date":          {[]string{"Fri, 31 Feb 2001 25:61:61 GMT"}, 0},
	"near date, RFC 1123":   {[]string{"Sat, 01 Jan 2000 00:00:05 GMT"}, 5 * time.Second},
	"near date, RFC 850":    {[]string{"Saturday, 01-Jan-00 00:00:05 GMT"}, 5 * time.Second},
	"near date, ANSI C":     {[]string{"Sat Jan  1 00:00:05 2000"}, 5 * time.Second},
	"twice the same":        {[]string{"5", "5"}, 5 * time.Second},
	"twice, different":      {[]string{"1", "5"}, 5 * time.Second},
	"twice, one is junk":    {[]string{"junk", "5"}, 5 * time.Second},
	"twice, one is huge":    {[]string{"0", "99999999999999999999"}, math.MaxInt64},
	"twice junk":            {[]string{"-1", "soon"}, 0},
}

func TestHostileRetryAfterValues(t *testing.T) {
	const slots, latency, base = 4, 10 * time.Millisecond, 200 * time.Millisecond
	for name, c := range hostileRetryAfters {
		for _, status := range []int{429, 503} {
			for _, retries := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, %d, %d retries", name, status, retries), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						sent := fetchtest.NewTimeline()
						urls := fetchtest.Numbered("http://a.example", 20)
						results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(retries),
							fetchtest.Over(sent.Over(fetchtest.Taking(latency, func(req *http.Request) (*http.Response, error) {
								resp := fetchtest.Respond(req, status, "no")
								if c.values != nil {
									resp.Header["Retry-After"] = c.values
								}
								return resp, nil
							}))))
						took := time.Since(sent.Start)
						fetchtest.CheckResults(t, urls, results)
						for _, r := range results {
							if n := len(sent.OfURL(r.URL)); n > 1+retries || n != r.Attempts {
								t.Errorf("%s: %d requests, %d attempts", r.URL, n, r.Attempts)
							}
						}
						// What can last longest are pauses of up to 10 s until the host is given up.
						if took > 2*time.Minute+11*time.Second {
							t.Errorf("took %v", took)
						}
						requests, later := sent.Len(), func(d time.Duration) int { return sent.Between("a.example", latency, latency+d) }
						switch {
						case c.asks == math.MaxInt64:
							// A 503 takes three distinct URLs, and others may have started before the third came.
							if most := slots + (status/503)*(slots-1); requests > most {
								t.Errorf("%d requests, want at most %d", requests, most)
							}
							if took > 3*latency {
								t.Errorf("took %v", took)
							}
							if paused, _ := errors.AsType[*fetch.HostPausedError](results[19].Err); paused == nil || !paused.Until.After(time.Now().Add(24*time.Hour)) {
								t.Errorf("the last: %v", results[19].Err)
							}
						case c.asks > 0:
							// It may have been a date.
							if n := later(c.asks - latency); n != 0 || requests > 24 && retries == 0 {
								t.Errorf("%d requests, %d of them in the first pause", requests, n)
							}
						case status == 429 && retries > 0:
							if n := later(base); n != 0 {
								t.Errorf("%d requests in the first pause", n)
							}
							if n := later(10 * time.Second); n > 8 {
								t.Errorf("%d requests in the first ten seconds", n)
							}
						case retries == 0:
							if requests != 20 {
								t.Errorf("%d requests, want 20", requests)
							}
							fetchtest.CheckTook(t, "20 URLs, 4 at once,", took, 5*latency)
						}
					})
				})
			}
		}
	}
}
