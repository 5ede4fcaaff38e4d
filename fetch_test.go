package fetch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// These tests show the main behaviour of the API. The tests of everything else that it
// promises are in internal/promises.

func TestMain(m *testing.M) { fetchtest.Main(m) }

func TestResultsAreInTheOrderOfTheURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first URL takes longest, so that they end in the opposite order.
		var urls []string
		for i := range 100 {
			urls = append(urls, fmt.Sprintf("http://host%d/%d", i%7, i))
		}
		took := func(i int) time.Duration { return time.Duration(len(urls)-i) * time.Millisecond }
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(200), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			var i int
			fmt.Sscanf(req.URL.Path, "/%d", &i)
			if err := fetchtest.SleepCtx(req.Context(), took(i)); err != nil {
				return nil, err
			}
			return fetchtest.Respond(req, 200+i%4, req.URL.String(), "X-Index", fmt.Sprint(i)), nil
		}))
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || r.StatusCode != 200+i%4 || string(r.Body) != urls[i] || r.FinalURL != urls[i] ||
				r.Header.Get("X-Index") != fmt.Sprint(i) || r.Proto != "HTTP/1.1" || r.Attempts != 1 {
				t.Errorf("result %d: %+v", i, r)
			}
			fetchtest.CheckTook(t, urls[i], r.Took, took(i))
			fetchtest.CheckTook(t, "the queue", r.Waited, 0)
		}
	})
}

func TestEachErrorIsInItsOwnResult(t *testing.T) {
	urls := []string{
		"http://fine/",
		"http://refused/",
		"no such scheme",
		"http://unknown/",
		"http://missing/",
		"http://fine/again",
	}
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		switch req.URL.Host {
		case "refused":
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		case "unknown":
			return nil, &net.DNSError{Err: "no such host", Name: "unknown", IsNotFound: true}
		case "missing":
			return fetchtest.Respond(req, 404, "not here"), nil
		}
		return fetchtest.Respond(req, 200, "ok"), nil
	}))
	fetchtest.CheckResults(t, urls, results)

	for _, i := range []int{0, 5} {
		if r := results[i]; r.Err != nil || !r.OK() || string(r.Body) != "ok" {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if err := results[1].Err; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	} else if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("refused: no *net.OpError in %v", err)
	}
	if err := results[2].Err; !errors.Is(err, fetch.ErrInvalidURL) {
		t.Errorf("invalid: %v", err)
	}
	if dns, ok := errors.AsType[*net.DNSError](results[3].Err); !ok || !dns.IsNotFound {
		t.Errorf("unknown: %v", results[3].Err)
	}
	if r := results[4]; r.Err != nil || r.OK() || r.StatusCode != 404 || string(r.Body) != "not here" {
		t.Errorf("a status alone is not an error: %+v", r)
	}
}

func TestStatusErrorsKeepHeaderAndBody(t *testing.T) {
	statuses := []int{200, 204, 299, 300, 304, 400, 404, 500, 503, 999}
	var urls []string
	for _, status := range statuses {
		urls = append(urls, fmt.Sprintf("http://host/%d", status))
	}
	transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		var status int
		fmt.Sscanf(req.URL.Path, "/%d", &status)
		body := "body"
		if status == 204 || status == 304 {
			body = ""
		}
		return fetchtest.Respond(req, status, body, "X-Kept", "kept"), nil
	})

	t.Run("with the option", func(t *testing.T) {
		results := fetch.FetchAll(t.Context(), urls, transport, fetch.WithStatusErrors())
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			statusErr, isErr := errors.AsType[*fetch.StatusError](r.Err)
			if good := statuses[i] < 300; good == isErr || good != r.OK() {
				t.Errorf("%s: error %v", r.URL, r.Err)
			}
			if isErr && statusErr.StatusCode != statuses[i] {
				t.Errorf("%s: StatusError is %+v", r.URL, statusErr)
			}
			wantBody := "body"
			if statuses[i] == 204 || statuses[i] == 304 {
				wantBody = ""
			}
			if r.StatusCode != statuses[i] || string(r.Body) != wantBody || r.Header.Get("X-Kept") != "kept" {
				t.Errorf("%s: not kept: %+v", r.URL, r)
			}
		}
	})
	t.Run("without", func(t *testing.T) {
		results := fetch.FetchAll(t.Context(), urls, transport)
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || r.StatusCode != statuses[i] || r.OK() != (statuses[i] < 300) {
				t.Errorf("%s: %+v", r.URL, r)
			}
		}
	})
}

func TestDoAllSendsMethodsHeadersAndBodies(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s %s %q %d", req.Method, req.Header.Get("X-Kind"), body, req.ContentLength)
	})
	var reqs []*http.Request
	var urls, want []string
	add := func(method, kind string, body io.Reader, text string, length int) {
		req, err := http.NewRequest(method, server.URL+"/"+kind, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Kind", kind)
		reqs, urls = append(reqs, req), append(urls, req.URL.String())
		want = append(want, fmt.Sprintf("%s %s %q %d", method, kind, text, length))
	}
	add("POST", "string", strings.NewReader("a string"), "a string", 8)
	add("PUT", "buffer", bytes.NewBufferString("a buffer"), "a buffer", 8)
	add("PATCH", "stream", fetchtest.NewTrackedBody("a stream"), "a stream", -1)
	add("DELETE", "nothing", nil, "", 0)
	add("POST", "empty", http.NoBody, "", 0)
	add("OPTIONS", "options", nil, "", 0)
	add("GET", "large", strings.NewReader(strings.Repeat("x", 1<<20)), strings.Repeat("x", 1<<20), 1<<20)

	results := fetchtest.NewFetcher(t).DoAll(t.Context(), reqs)
	fetchtest.CheckResults(t, urls, results)
	for i, r := range results {
		if r.Err != nil || string(r.Body) != want[i] {
			t.Errorf("%s: %.80q, error %v; want %.80q", r.URL, r.Body, r.Err, want[i])
		}
	}
}

func TestStreamYieldsResultsAsTheyComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := []string{"http://a.example/50", "http://b.example/20", "bad", "http://c.example/40", "http://d.example/10", "http://e.example/30"}
		for name, test := range map[string]struct {
			opts []fetch.Option
			want []int
		}{
			"in the order of completion": {nil, []int{2, 4, 1, 5, 3, 0}},
			"in the order of the input":  {[]fetch.Option{fetch.WithInOrder()}, []int{0, 1, 2, 3, 4, 5}},
			"one by one":                 {[]fetch.Option{fetch.WithLookahead(1)}, []int{0, 1, 2, 3, 4, 5}},
		} {
			start := time.Now()
			results := fetchtest.Collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), append(test.opts, fetchtest.Over(fetchtest.AnswerByPath))...))
			if got := fetchtest.Indices(results); !slices.Equal(got, test.want) {
				t.Errorf("%s: got %v, want %v", name, got, test.want)
			}
			if name != "one by one" {
				fetchtest.CheckTook(t, name, time.Since(start), 50*time.Millisecond)
			}
		}
	})
}

func TestConcurrencyIsReachedAndNeverExceeded(t *testing.T) {
	for name, urls := range map[string][]string{
		"one host":   fetchtest.HostURLs(70, "a"),
		"two hosts":  fetchtest.HostURLs(35, "a", "b"),
		"many hosts": fetchtest.HostURLs(1, slices.Collect(fetchtest.NumberedHosts(70))...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(7), fetchtest.Over(flight.Over(fetchtest.AnswerAfter(100*time.Millisecond))))
				fetchtest.CheckTook(t, "70 requests of 100 ms, 7 at once,", time.Since(start), time.Second)
				fetchtest.MustAllBeFine(t, urls, results)
				if flight.Most() != 7 {
					t.Errorf("%d were in flight at once, want 7", flight.Most())
				}
			})
		})
	}
}

func TestSlowHostDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := fetchtest.NewEndTimes()
		urls := slices.Concat(fetchtest.HostURLs(20, "slow"), fetchtest.HostURLs(20, "fast"))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithHostConcurrency(1),
			fetchtest.Over(ends.Over(fetchtest.AnswerByHost(map[string]time.Duration{"slow": time.Second, "fast": 5 * time.Millisecond}))))
		fetchtest.MustAllBeFine(t, urls, results)
		if got := ends.Of("fast"); got > 150*time.Millisecond {
			t.Errorf("the fast host was done after %v, want 100 ms", got)
		}
		fetchtest.CheckTook(t, "the slow host", ends.Of("slow"), 20*time.Second)
		fetchtest.CheckTook(t, "the batch", time.Since(ends.Start), 20*time.Second)
	})
}

// Without a back-off every figure is known beforehand. Both refusals come before the host
// has accepted anything, so that there is no pace.
func TestAttemptsHistoryWaitedAndTookAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		rt := fetchtest.InTurn(
			fetchtest.Taking(10*ms, fetchtest.Failing(fetchtest.ErrReset)),
			fetchtest.Taking(50*ms, fetchtest.Always(429, "Retry-After", "2")),
			fetchtest.Taking(ms, fetchtest.Always(503, "Retry-After", "3")),
			fetchtest.Taking(100*ms, fetchtest.Always(500, "Retry-After", "4")), // for this URL alone
			fetchtest.Taking(5*ms, fetchtest.Always(302, "Location", "http://b.example/")),
			fetchtest.AnswerAfter(time.Second),
		)
		start := time.Now()
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(5), fetchtest.WithoutBackOff, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "b.example" {
				return fetchtest.Taking(20*ms, fetchtest.Always(502))(req)
			}
			return rt(req)
		}))
		want := []fetch.Attempt{
			{Err: fetchtest.ErrReset, Took: 10 * ms},
			{StatusCode: 429, Took: 50 * ms, RetryAfter: 2 * time.Second},
			{StatusCode: 503, Took: ms, RetryAfter: 3 * time.Second},
			{StatusCode: 500, Took: 100 * ms, RetryAfter: 4 * time.Second},
			{StatusCode: 502, Took: 25 * ms},
			{StatusCode: 200, Took: time.Second},
		}
		if !r.OK() || r.Attempts != 6 || len(r.History) != 6 || r.Redirects != 0 || r.FinalURL != "http://a.example/" {
			t.Fatalf("%d attempts, %d redirects, history %v, %v", r.Attempts, r.Redirects, r.History, r.Err)
		}
		// The first begins at once, and each of the others after a pause or none.
		starts := []time.Duration{0, 10 * ms, 2060 * ms, 5061 * ms, 9161 * ms, 9186 * ms}
		var took time.Duration
		for i, got := range r.History {
			want[i].Started = start.Add(starts[i])
			if errors.Is(got.Err, want[i].Err) {
				got.Err = want[i].Err // it is wrapped
			}
			if got != want[i] {
				t.Errorf("attempt %d: %+v, want %+v", i+1, got, want[i])
			}
			took += got.Took
		}
		fetchtest.CheckTook(t, "all attempts", r.Took, took)
		fetchtest.CheckTook(t, "waiting", r.Waited, 9*time.Second)
		fetchtest.CheckTook(t, "all", time.Since(start), r.Took+r.Waited)
		if r.Queued != start || r.Started != start {
			t.Errorf("queued %v, started %v", r.Queued, r.Started)
		}
	})
}

func TestSeveralBatchesShareOneFetcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(8), fetch.WithHostConcurrency(5), fetchtest.Over(flight.Over(
			func(req *http.Request) (*http.Response, error) {
				if err := fetchtest.SleepCtx(req.Context(), 10*time.Millisecond); err != nil {
					return nil, err
				}
				return fetchtest.Respond(req, 200, req.URL.Path), nil
			})))
		var wg sync.WaitGroup
		for batch := range 10 {
			wg.Go(func() {
				var urls []string
				for i := range 50 {
					urls = append(urls, fmt.Sprintf("http://host%d/batch%d/%d", i%4, batch, i))
				}
				results := f.FetchAll(t.Context(), urls)
				fetchtest.CheckResults(t, urls, results)
				for i, r := range results {
					if want := fmt.Sprintf("/batch%d/%d", batch, i); r.Err != nil || string(r.Body) != want {
						t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
					}
				}
			})
		}
		wg.Wait()
		if flight.Most() != 8 || flight.Total() != 500 {
			t.Errorf("%d in flight at once, %d in all; want 8 and 500", flight.Most(), flight.Total())
		}
		for host := range 4 {
			if n := flight.MostOf(fmt.Sprint("host", host)); n > 5 {
				t.Errorf("%d in flight to host %d, want at most 5", n, host)
			}
		}
	})
}
