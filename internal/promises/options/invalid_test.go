package options_test

import (
	"crypto/tls"
	"go/ast"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

// nilTransport and nilLimiter are interfaces that are not nil but hold nil.
var (
	nilTransport http.RoundTripper = (*http.Transport)(nil)
	nilLimiter   fetch.Limiter     = (*rate.Limiter)(nil)
	nilJar       http.CookieJar    = (*cookiejar.Jar)(nil)
)

func newJar() *cookiejar.Jar {
	jar, _ := cookiejar.New(nil)
	return jar
}

func openNothing(r io.Reader) (io.Reader, error) { return r, nil }

var nan = rate.Limit(math.NaN())

// badOptions has the bad values of every option. An option that accepts all there is has none.
var badOptions = map[string][]fetch.Option{
	"WithClient":          {fetch.WithClient(&http.Client{Transport: nilTransport})},
	"WithConcurrency":     {fetch.WithConcurrency(0), fetch.WithConcurrency(-1), fetch.WithConcurrency(math.MinInt)},
	"WithHostConcurrency": {fetch.WithHostConcurrency(-1), fetch.WithHostConcurrency(math.MinInt)},
	"WithRate": {
		fetch.WithRate(0, 1), fetch.WithRate(-1, 1), fetch.WithRate(nan, 1), fetch.WithRate(rate.Limit(math.Inf(-1)), 1),
		fetch.WithRate(1, 0), fetch.WithRate(1, -1), fetch.WithRate(rate.Inf, 0), fetch.WithRate(0, 0),
	},
	"WithHostRate": {
		fetch.WithHostRate(0, 1), fetch.WithHostRate(-1, 1), fetch.WithHostRate(nan, 1), fetch.WithHostRate(rate.Limit(math.Inf(-1)), 1),
		fetch.WithHostRate(1, 0), fetch.WithHostRate(1, -1), fetch.WithHostRate(rate.Inf, 0), fetch.WithHostRate(0, 0),
	},
	"WithTransport": {
		fetch.WithTransport(nil),
		fetch.WithTransport(func(http.RoundTripper) http.RoundTripper { return nil }),
		fetch.WithTransport(func(http.RoundTripper) http.RoundTripper { return nilTransport }),
	},
	"WithJar":        {fetch.WithJar(nilJar), fetch.WithJar(newJar())}, // the client of checkInvalid has its own
	"WithTLSConfig":  {fetch.WithTLSConfig(&tls.Config{})},             // likewise
	"WithProxy":      {fetch.WithProxy(http.ProxyFromEnvironment), fetch.WithProxy(nil)},
	"WithHooks":      nil,
	"WithHostLimits": nil, // what f returns is another test
	"WithHostGroup":  nil,
	"WithLimiter":    {fetch.WithLimiter(nilLimiter), fetch.WithLimiter(fetchtest.HostLimiterFunc(nil))},
	"WithTimeout":    {fetch.WithTimeout(-1), fetch.WithTimeout(math.MinInt64)},
	"WithRetries":    {fetch.WithRetries(-1), fetch.WithRetries(math.MinInt)},
	"WithBackoff": {
		fetch.WithBackoff(-1, time.Second), fetch.WithBackoff(-2, -1), fetch.WithBackoff(2, 1), fetch.WithBackoff(1, 0), fetch.WithBackoff(0, -1),
	},
	"WithMaxRetryAfter":   {fetch.WithMaxRetryAfter(-1), fetch.WithMaxRetryAfter(math.MinInt64)},
	"WithRetryIf":         nil,
	"WithMaxHostFailures": {fetch.WithMaxHostFailures(-1), fetch.WithMaxHostFailures(math.MinInt)},
	"WithMaxBody":         {fetch.WithMaxBody(-1), fetch.WithMaxBody(math.MinInt64)},
	"WithBodyFunc":        nil,
	"WithHeader": {
		fetch.WithHeader("", "value"), fetch.WithHeader("two words", "value"), fetch.WithHeader("Key:", "value"),
		fetch.WithHeader("K\u00e9y", "value"), fetch.WithHeader("Key\r\nInjected", "value"),
		fetch.WithHeader("Host", "two words"), fetch.WithHeader("Host", "user@host"), fetch.WithHeader("Host", "\xff"),
		fetch.WithHeader("Key", "line\nend"), fetch.WithHeader("Key", "line\rend"), fetch.WithHeader("Key", "\x00"), fetch.WithHeader("Key", "\x7f"),
	},
	"WithDecoder": {
		fetch.WithDecoder("", openNothing), fetch.WithDecoder("two words", openNothing), fetch.WithDecoder("br, zstd", openNothing), fetch.WithDecoder("br;q=1", openNothing),
		fetch.WithDecoder("br\r\nInjected", openNothing), fetch.WithDecoder("br\u00e9", openNothing), fetch.WithDecoder("*", openNothing),
		fetch.WithDecoder("identity", openNothing), fetch.WithDecoder("IDENTITY", openNothing), fetch.WithDecoder("br", nil), fetch.WithDecoder("", nil),
	},
	"WithRequestFunc":   nil,
	"WithMaxRedirects":  {fetch.WithMaxRedirects(-1), fetch.WithMaxRedirects(math.MinInt)},
	"WithHostRedirects": nil,
	"WithStatusErrors":  nil,
	"WithDedup":         nil,
	"WithLookahead":     {fetch.WithLookahead(0), fetch.WithLookahead(-1)},
	"WithInOrder":       nil,
	"WithPublicOnly": {
		fetch.WithPublicOnly(netip.Prefix{}),
		fetch.WithPublicOnly(), // it cannot guard the transport of checkInvalid
	},
}

func TestInvalidOptionIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	for name, bad := range badOptions {
		for i, option := range bad {
			t.Run(name, func(t *testing.T) { checkInvalid(t, []fetch.Option{option}, name) })
			if i == 0 {
				t.Run(name+" among valid ones", func(t *testing.T) {
					checkInvalid(t, []fetch.Option{fetch.WithDedup(), option, fetch.WithMaxRedirects(3)}, name)
				})
			}
		}
	}
	t.Run("WithHeader of two hosts", func(t *testing.T) {
		checkInvalid(t, []fetch.Option{fetch.WithHeader("Host", "a.example"), fetch.WithHeader("host", "b.example")}, "WithHeader")
	})
	t.Run("WithProxy under a guard", func(t *testing.T) {
		checkInvalid(t, []fetch.Option{fetch.WithClient(nil), fetch.WithPublicOnly(), fetch.WithProxy(http.ProxyFromEnvironment)}, "WithProxy", "WithPublicOnly")
		if _, err := fetch.New(fetch.WithPublicOnly(), fetch.WithProxy(nil)); err != nil {
			t.Errorf("no proxy: %v", err)
		}
	})
	t.Run("nil", func(t *testing.T) { checkInvalid(t, []fetch.Option{nil}, "nil Option") })
}

// checkInvalid checks that the options are refused everywhere, by an error that has all the names.
func checkInvalid(t *testing.T, opts []fetch.Option, names ...string) {
	t.Helper()
	var sent atomic.Int32
	// The client comes first, or it would take the place of one of opts.
	opts = slices.Insert(slices.Clone(opts), 0, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, "ok"), nil
	}))
	check := func(where string, err error) {
		t.Helper()
		for _, name := range names {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: error %v, want one that names %s", where, err, name)
			}
		}
	}

	f, err := fetch.New(opts...)
	check("New", err)
	if f != nil {
		t.Error("New returned a Fetcher")
	}

	urls := []string{"http://a/", "", "http://user:secret99@b/?token99"}
	results := fetch.FetchAll(t.Context(), urls, opts...)
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		check("FetchAll", r.Err)
		if r.Attempts != 0 {
			t.Errorf("FetchAll: %+v", r)
		}
	}

	read := 0
	var streamed []fetch.Result
	for r := range fetch.Stream(t.Context(), func(yield func(string) bool) {
		read++
		yield("http://a/")
	}, opts...) {
		streamed = append(streamed, r)
	}
	if len(streamed) != 1 || read != 0 {
		t.Fatalf("Stream yielded %d results and read its input %d times, want 1 and 0", len(streamed), read)
	}
	fetchtest.CheckResult(t, 0, streamed[0].URL, streamed[0])
	check("Stream", streamed[0].Err)

	if sent.Load() != 0 {
		t.Errorf("%d requests were sent", sent.Load())
	}
}

func TestAllInvalidOptionsAreReportedTogether(t *testing.T) {
	checkInvalid(t, []fetch.Option{
		fetch.WithConcurrency(0),
		nil,
		fetch.WithDedup(),
		fetch.WithTimeout(-1),
		fetch.WithRate(nan, 0),
		fetch.WithHeader("no token", ""),
	}, "WithConcurrency", "nil Option", "WithTimeout", "WithRate", "WithHeader")
}

func TestErrorOfAHeaderDoesNotShowItsValue(t *testing.T) {
	_, err := fetch.New(fetch.WithHeader("Authorization", "Bearer canary99\n"))
	if err == nil || strings.Contains(err.Error(), "canary99") {
		t.Errorf("error %v", err)
	}
}

// A new option must get its row above.
func TestEveryOptionIsInTheTable(t *testing.T) {
	found := 0
	for name, file := range fetchtest.Parse(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, declaration := range file.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "With") {
				continue
			}
			found++
			if _, ok := badOptions[f.Name.Name]; !ok {
				t.Errorf("%s has no row in badOptions", f.Name.Name)
			}
		}
	}
	if found != len(badOptions) {
		t.Errorf("there are %d options and %d rows", found, len(badOptions))
	}
}
