package quota_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/quota"
)

var now = time.Unix(1_772_366_400, 0) // 1 March 2026, noon

func headerOf(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

const s = time.Second

func TestQuotasThatAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		want   quota.Quota
	}{
		"draft 10":                  {[]string{"RateLimit", `"default";r=50;t=30`}, quota.Quota{50, 0, 30 * s}},
		"with its policy":           {[]string{"RateLimit", `"default";r=50;t=30`, "RateLimit-Policy", `"default";q=100;w=60`}, quota.Quota{50, 100, 30 * s}},
		"nothing left":              {[]string{"RateLimit", `"default";r=0;t=5`}, quota.Quota{0, 0, 5 * s}},
		"blanks, and no t":          {[]string{"RateLimit", `"a" ;r=1`, "X-RateLimit-Remaining", "7"}, quota.Quota{7, 0, 0}},
		"more parameters":           {[]string{"RateLimit", `"a";t=3;pk=:dGVzdA==:;x="; ,\"";y;z=?0;r=2`}, quota.Quota{2, 0, 3 * s}},
		"a token for a name":        {[]string{"RateLimit", `default;r=50;t=30`}, quota.Quota{50, 0, 30 * s}},
		"without t":                 {[]string{"RateLimit", `"a";r=2`}, quota.Quota{2, 0, 0}},
		"the tightest of a list":    {[]string{"RateLimit", `"day";r=4000;t=7200, "burst";r=3;t=1`, "RateLimit-Policy", `"burst";q=10;w=1,"day";q=5000;w=86400`}, quota.Quota{3, 10, s}},
		"of several lines":          {[]string{"RateLimit", `"a";r=9;t=9`, "RateLimit", `"b";r=8;t=8`}, quota.Quota{8, 0, 8 * s}},
		"the last reset of equals":  {[]string{"RateLimit", `"a";r=0;t=1, "b";r=0;t=60`}, quota.Quota{0, 0, 60 * s}},
		"other units do not count":  {[]string{"RateLimit", `"bytes";r=0;t=9, "a";r=5;t=2`, "RateLimit-Policy", `"bytes";q=1000;w=10;qu="content-bytes", "a";q=6;w=2;qu="requests"`}, quota.Quota{5, 6, 2 * s}},
		"nor do windows beyond day": {[]string{"RateLimit", `"month";r=0;t=90, "a";r=5;t=2`, "RateLimit-Policy", `"month";q=1000;w=2592000`}, quota.Quota{5, 0, 2 * s}},
		"a broken policy":           {[]string{"RateLimit", `"a";r=5;t=2`, "RateLimit-Policy", `"a";q=`}, quota.Quota{5, 0, 2 * s}},
		"more than 32 bits":         {[]string{"RateLimit", `"a";r=3000000000;t=30`, "RateLimit-Policy", `"a";q=5000000000`}, quota.Quota{math.MaxInt32, math.MaxInt32, 30 * s}},
		"draft 7":                   {[]string{"RateLimit", "limit=100, remaining=50, reset=30"}, quota.Quota{50, 100, 30 * s}},

		"fields of many digits":    {[]string{"X-RateLimit-Limit", "999999999999999", "X-RateLimit-Remaining", "4294967296", "X-RateLimit-Reset", "30"}, quota.Quota{math.MaxInt32, math.MaxInt32, 30 * s}},
		"three fields":             {[]string{"RateLimit-Limit", "100", "RateLimit-Remaining", "50", "RateLimit-Reset", "30"}, quota.Quota{50, 100, 30 * s}},
		"with windows":             {[]string{"RateLimit-Limit", "100, 100;w=60, 1000;w=3600", "RateLimit-Remaining", "50;w=60", "RateLimit-Reset", "30"}, quota.Quota{50, 100, 30 * s}},
		"X-RateLimit, seconds":     {[]string{"X-RateLimit-Limit", "60", "X-RateLimit-Remaining", "59", "X-RateLimit-Reset", "13"}, quota.Quota{59, 60, 13 * s}},
		"X-RateLimit, epoch":       {[]string{"X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1772366410"}, quota.Quota{0, 5000, 10 * s}},
		"X-RateLimit, epoch in ms": {[]string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1772366410500"}, quota.Quota{0, 0, 10500 * time.Millisecond}},
		"X-Rate-Limit":             {[]string{"X-Rate-Limit-Limit", "15", "X-Rate-Limit-Remaining", "14", "X-Rate-Limit-Reset", "1772367300"}, quota.Quota{14, 15, 900 * s}},
		"decimals":                 {[]string{"X-RateLimit-Remaining", "99.7", "X-RateLimit-Reset", "1.2001"}, quota.Quota{99, 0, 1201 * time.Millisecond}},
		"by the server's clock": {[]string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1772370010", "Date", "Sun, 01 Mar 2026 13:00:00 GMT"},
			quota.Quota{0, 0, 10 * s}},
		"past":               {[]string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1772366390"}, quota.Quota{0, 0, 0}},
		"without reset":      {[]string{"X-RateLimit-Remaining", "0"}, quota.Quota{0, 0, 0}},
		"a day":              {[]string{"X-RateLimit-Remaining", "5", "X-RateLimit-Reset", "86400"}, quota.Quota{5, 0, 24 * time.Hour}},
		"size is malformed":  {[]string{"X-RateLimit-Limit", "many", "X-RateLimit-Remaining", "5", "X-RateLimit-Reset", "8"}, quota.Quota{5, 0, 8 * s}},
		"of several, least":  {[]string{"X-RateLimit-Remaining", "5", "X-RateLimit-Reset", "8", "RateLimit-Remaining", "4", "RateLimit-Reset", "7"}, quota.Quota{4, 0, 7 * s}},
		"one of two is junk": {[]string{"X-RateLimit-Remaining", "-5", "X-RateLimit-Reset", "8", "RateLimit", `"a";r=4;t=7`}, quota.Quota{4, 0, 7 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			h := headerOf(c.fields...)
			got, ok := quota.Read(h, now)
			if !ok || got != c.want || !quota.Told(h) {
				t.Errorf("%q: %+v, %v; want %+v", h, got, ok, c.want)
			}
		})
	}
}

func TestFieldsThatTellNothing(t *testing.T) {
	for name, fields := range map[string][]string{
		"none":              {"Content-Type", "text/html", "Retry-After", "5"},
		"empty":             {"RateLimit", ""},
		"no r":              {"RateLimit", `"a";t=5`},
		"negative r":        {"RateLimit", `"a";r=-1;t=5`},
		"r is decimal":      {"RateLimit", `"a";r=1.5;t=5`},
		"r is a string":     {"RateLimit", `"a";r="1";t=5`},
		"r overflows":       {"RateLimit", `"a";r=9223372036854775808;t=5`},
		"negative t":        {"RateLimit", `"a";r=1;t=-5`},
		"t beyond a day":    {"RateLimit", `"a";r=0;t=86401`},
		"t overflows":       {"RateLimit", `"a";r=0;t=18446744073709551617`},
		"open string":       {"RateLimit", `"a;r=1;t=5`},
		"trailing comma":    {"RateLimit", `"a";r=1;t=5,`},
		"inner list":        {"RateLimit", `("a");r=1;t=5`},
		"junk behind":       {"RateLimit", `"a";r=1;t=5 x`},
		"a number's name":   {"RateLimit", `5;r=1;t=5`},
		"draft 7, twice":    {"RateLimit", "remaining=5, remaining=6, reset=1"},
		"draft 7, no reset": {"RateLimit", "limit=5, remaining=6"},
		"draft 7, too long": {"RateLimit", "limit=5, remaining=6, reset=86401"},
		"reset alone":       {"X-RateLimit-Reset", "5"},
		"negative":          {"X-RateLimit-Remaining", "-1", "X-RateLimit-Reset", "5"},
		"signed":            {"X-RateLimit-Remaining", "+1", "X-RateLimit-Reset", "5"},
		"word":              {"X-RateLimit-Remaining", "unlimited"},
		"exponent":          {"X-RateLimit-Remaining", "1e3"},
		"not a number":      {"X-RateLimit-Remaining", "NaN"},
		"infinite":          {"X-RateLimit-Remaining", "Inf"},
		"overflow":          {"X-RateLimit-Remaining", "99999999999999999999"},
		"point alone":       {"X-RateLimit-Remaining", "."},
		"given twice":       {"X-RateLimit-Remaining", "1", "X-RateLimit-Remaining", "2"},
		"reset is a date":   {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "Sun, 01 Mar 2026 12:00:10 GMT"},
		"reset is negative": {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "-5"},
		"reset too far":     {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "86401"},
		"another year":      {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1803902400"},
		"reset overflows":   {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "9223372036854775808"},
		"of a cache":        {"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "5", "Age", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := quota.Read(headerOf(fields...), now); ok {
				t.Errorf("%q: %+v", fields, got)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`"default";r=50;t=30`, `"default";q=100;w=60`, "5", "0", "1772366410", "Sun, 01 Mar 2026 12:00:00 GMT", now.Unix())
	f.Add(`"a";r=9, b;r=0;t=1;pk=:YQ==:`, `"a";q=9;w=99999`, "100, 100;w=60", "1.5", "1772366410500", "", int64(0))
	f.Add("limit=1, remaining=0, reset=3", `x`, "-1", "9e9", "86401", "junk", int64(1)<<61)
	f.Fuzz(func(t *testing.T, limits, policies, limit, remaining, reset, date string, unix int64) {
		now := time.Unix(unix, 0)
		both := http.Header{
			"Ratelimit": {limits}, "Ratelimit-Policy": {policies}, "Date": {date},
			"X-Ratelimit-Limit": {limit}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset},
		}
		got, ok := quota.Read(both, now)
		if got.Left < 0 || got.Size < 0 || got.Reset < 0 || got.Reset > quota.Longest || !ok && got != (quota.Quota{}) {
			t.Fatalf("%+v, %v", got, ok)
		}
		// Each field can only tighten the rest.
		for _, key := range []string{"Ratelimit", "X-Ratelimit-Remaining"} {
			one := both.Clone()
			delete(one, key)
			if alone, told := quota.Read(one, now); told && (!ok || alone.Left < got.Left || alone.Left == got.Left && alone.Reset > got.Reset) {
				t.Fatalf("with %s %+v, %v; without %+v", key, got, ok, alone)
			}
		}
		both["Age"] = []string{"1"}
		if stored, ok := quota.Read(both, now); ok {
			t.Fatalf("of a stored response: %+v", stored)
		}
	})
}

func BenchmarkTold(b *testing.B) {
	h := headerOf("Content-Type", "text/plain", "Content-Length", "5", "Date", "Sun, 01 Mar 2026 12:00:00 GMT")
	for b.Loop() {
		quota.Told(h)
	}
}
