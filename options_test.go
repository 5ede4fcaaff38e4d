package fetch_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"math"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"golang.org/x/time/rate"
)

// nilTransport and nilLimiter are interfaces that are not nil but hold nil.
var (
	nilTransport http.RoundTripper = (*http.Transport)(nil)
	nilLimiter   fetch.Limiter     = (*rate.Limiter)(nil)
)

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
	"WithHostLimits": nil, // what f returns is another test
	"WithLimiter":    {fetch.WithLimiter(nilLimiter)},
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
		fetch.WithHeader("Key", "line\nend"), fetch.WithHeader("Key", "line\rend"), fetch.WithHeader("Key", "\x00"), fetch.WithHeader("Key", "\x7f"),
	},
	"WithRequestFunc":  nil,
	"WithMaxRedirects": {fetch.WithMaxRedirects(-1), fetch.WithMaxRedirects(math.MinInt)},
	"WithStatusErrors": nil,
	"WithDedup":        nil,
	"WithLookahead":    {fetch.WithLookahead(0), fetch.WithLookahead(-1)},
	"WithInOrder":      nil,
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
	t.Run("nil", func(t *testing.T) { checkInvalid(t, []fetch.Option{nil}, "nil Option") })
}

// checkInvalid checks that the options are refused everywhere, by an error that has all the names.
func checkInvalid(t *testing.T, opts []fetch.Option, names ...string) {
	t.Helper()
	var sent atomic.Int32
	// The client comes first, or it would take the place of one of opts.
	opts = slices.Insert(slices.Clone(opts), 0, over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, "ok"), nil
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
	checkResults(t, urls, results)
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
	checkResult(t, 0, streamed[0].URL, streamed[0])
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
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
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

func TestLimitsOfWhatOptionsAcceptAreAccepted(t *testing.T) {
	for name, option := range map[string]fetch.Option{
		"WithConcurrency, most":     fetch.WithConcurrency(math.MaxInt),
		"WithHostConcurrency, none": fetch.WithHostConcurrency(0),
		"WithHostConcurrency, most": fetch.WithHostConcurrency(math.MaxInt),
		"WithRate, infinite":        fetch.WithRate(rate.Inf, 1),
		"WithRate, most":            fetch.WithRate(math.MaxFloat64/2, math.MaxInt),
		"WithRate, least":           fetch.WithRate(math.SmallestNonzeroFloat64, 100),
		"WithHostRate, infinite":    fetch.WithHostRate(rate.Limit(math.Inf(1)), 1),
		"WithHostRate, least":       fetch.WithHostRate(math.SmallestNonzeroFloat64, 100),
		"WithHostLimits, most": fetch.WithHostLimits(func(string) fetch.HostLimits {
			return fetch.HostLimits{Concurrency: math.MaxInt, Rate: rate.Inf, Burst: math.MaxInt}
		}),
		"WithTimeout, none":         fetch.WithTimeout(0),
		"WithTimeout, most":         fetch.WithTimeout(math.MaxInt64),
		"WithRetries, none":         fetch.WithRetries(0),
		"WithRetries, most":         fetch.WithRetries(math.MaxInt),
		"WithBackoff, none":         fetch.WithBackoff(0, 0),
		"WithBackoff, most":         fetch.WithBackoff(math.MaxInt64, math.MaxInt64),
		"WithMaxRetryAfter, none":   fetch.WithMaxRetryAfter(0),
		"WithMaxRetryAfter, most":   fetch.WithMaxRetryAfter(math.MaxInt64),
		"WithMaxHostFailures, none": fetch.WithMaxHostFailures(0),
		"WithMaxHostFailures, most": fetch.WithMaxHostFailures(math.MaxInt),
		"WithMaxBody, none":         fetch.WithMaxBody(0),
		"WithMaxBody, most":         fetch.WithMaxBody(math.MaxInt64),
		"WithMaxRedirects, none":    fetch.WithMaxRedirects(0),
		"WithMaxRedirects, most":    fetch.WithMaxRedirects(math.MaxInt),
		"WithLookahead, least":      fetch.WithLookahead(1),
		"WithLookahead, most":       fetch.WithLookahead(math.MaxInt),
		"WithHeader, empty":         fetch.WithHeader("Key", ""),
		"WithHeader, tab":           fetch.WithHeader("Key", "a\tb"),
		"WithHeader, same host":     fetch.WithHeader("Host", "a.example"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				f := newFetcher(t, over(answerAfter(time.Second)), option)
				urls := hostURLs(10, "a", "b")
				mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				checkTook(t, "FetchAll", time.Since(start), time.Second)
				n := 0
				for r := range f.Stream(t.Context(), slices.Values(urls)) {
					checkResult(t, r.Index, urls[r.Index], r)
					n++
				}
				if n != len(urls) {
					t.Errorf("Stream yielded %d results, want %d", n, len(urls))
				}
			})
		})
	}
}

func TestNilMeansTheDefault(t *testing.T) {
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "ok") })
	urls := numbered(server.URL, 3)
	results := fetch.FetchAll(t.Context(), urls,
		fetch.WithClient(newClient(roundTripFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("this client was taken back")
		}))),
		fetch.WithClient(nil),
		fetch.WithHostLimits(nil),
		fetch.WithLimiter(nil),
		fetch.WithBodyFunc(nil),
		fetch.WithRequestFunc(nil),
		fetch.WithRetryIf(nil))
	mustAllBeFine(t, urls, results)
	for _, r := range results {
		if string(r.Body) != "ok" {
			t.Errorf("Body %q", r.Body)
		}
	}
	if !conns.waitForNone() {
		t.Error("the own client left connections open")
	}
}

func TestTheLastOfTwoEqualOptionsWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight, other inFlight
		urls := hostURLs(20, "a")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls,
			over(other.over(answerAfter(0))), over(flight.over(answerAfter(time.Second))),
			fetch.WithConcurrency(1), fetch.WithConcurrency(20),
			fetch.WithHostConcurrency(2), fetch.WithHostConcurrency(0),
			fetch.WithTimeout(time.Millisecond), fetch.WithTimeout(0),
			fetch.WithMaxBody(1), fetch.WithMaxBody(2),
			fetch.WithRate(1, 1), fetch.WithRate(100, 20),
			fetch.WithHostRate(1, 1), fetch.WithHostRate(100, 20),
			fetch.WithLimiter(limiterFunc(untilDone)), fetch.WithLimiter(nil),
			fetch.WithRequestFunc(func(*http.Request) error { return errors.New("taken back") }), fetch.WithRequestFunc(nil),
			fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return errors.New("taken back") }), fetch.WithBodyFunc(nil))
		mustAllBeFine(t, urls, results)
		checkTook(t, "the batch", time.Since(start), time.Second)
		if flight.most() != 20 || other.total() != 0 {
			t.Errorf("%d were in flight at once, and %d went to the first client", flight.most(), other.total())
		}
		if string(results[0].Body) != "ok" {
			t.Errorf("Body %q", results[0].Body)
		}
	})
}

func TestTimeoutIsTheSmallerOfTheClientsAndTheOptions(t *testing.T) {
	option := func(d time.Duration) []fetch.Option { return []fetch.Option{fetch.WithTimeout(d)} }
	for name, c := range map[string]struct {
		client time.Duration
		opts   []fetch.Option
		want   time.Duration // 0: none
	}{
		"neither":                             {0, nil, 30 * time.Second},
		"the client's instead of the default": {2 * time.Minute, nil, 2 * time.Minute},
		"the client's alone, small":           {2 * time.Second, nil, 2 * time.Second},
		"the option alone":                    {0, option(5 * time.Minute), 5 * time.Minute},
		"the option is smaller":               {5 * time.Second, option(time.Second), time.Second},
		"the client's is smaller":             {time.Second, option(5 * time.Second), time.Second},
		"none":                                {0, option(0), 0},
		"none but the client's":               {time.Second, option(0), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const long = 24 * time.Hour
				client := newClient(answerAfter(long))
				client.Timeout = c.client
				start := time.Now()
				urls := []string{"http://host/"}
				results := fetch.FetchAll(t.Context(), urls, append(c.opts, fetch.WithClient(client))...)
				took := time.Since(start)
				checkResults(t, urls, results)
				if c.want == 0 {
					checkTook(t, "without a timeout it", took, long)
					if results[0].Err != nil {
						t.Error(results[0].Err)
					}
					return
				}
				checkTook(t, "the attempt", took, c.want)
				if !errors.Is(results[0].Err, fetch.ErrTimeout) {
					t.Errorf("error %v, want ErrTimeout", results[0].Err)
				}
			})
		})
	}
}

// What is changed in a client after New has no effect on the Fetcher.
func TestChangesToTheClientAfterNewAreNotSeen(t *testing.T) {
	client := newClient(answerAfter(0))
	f := newFetcher(t, fetch.WithClient(client))
	client.Transport = roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("another transport") })
	urls := []string{"http://host/"}
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
}
