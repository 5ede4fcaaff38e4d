package fetchtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

// Stalled is a body that has some bytes and then no more until ctx is done.
func Stalled(ctx context.Context, text string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, text)
		<-ctx.Done()
		w.CloseWithError(context.Cause(ctx))
	}()
	return r
}

// UntilDone blocks until ctx is done.
func UntilDone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// RoundTripFunc is an in-memory transport. Over one of these a Fetcher
// works in a synctest bubble.
type RoundTripFunc func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// NewClient returns a client over rt.
func NewClient(rt http.RoundTripper) *http.Client { return &http.Client{Transport: rt} }

// Over is the option that most in-memory tests begin with.
func Over(rt RoundTripFunc) fetch.Option { return fetch.WithClient(NewClient(rt)) }

// NewFetcher returns a Fetcher with options that must be valid.
func NewFetcher(t testing.TB, opts ...fetch.Option) *fetch.Fetcher {
	t.Helper()
	f, err := fetch.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// Respond returns a whole response, with the header fields given as key, value, key, value.
func Respond(req *http.Request, status int, body string, header ...string) *http.Response {
	resp := &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
	for i := 0; i+1 < len(header); i += 2 {
		resp.Header.Add(header[i], header[i+1])
	}
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}

// AnswerAfter is a transport that answers 200 "ok" after d, or fails when the
// request's context is done before that.
func AnswerAfter(d time.Duration) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if err := SleepCtx(req.Context(), d); err != nil {
			return nil, err
		}
		return Respond(req, 200, "ok"), nil
	}
}

// SleepCtx sleeps for d, or until ctx is done; then it returns the cause, as net/http does.
func SleepCtx(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		// No timer: one that has expired already upsets the race detector of Go 1.26 in a bubble.
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// AnswerByHost is a transport that answers after a time that depends on the host.
func AnswerByHost(times map[string]time.Duration) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) { return AnswerAfter(times[req.URL.Host])(req) }
}

// ByHost sends each request to the transport of its host.
func ByHost(hosts map[string]RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) { return hosts[req.URL.Host](req) }
}

// InTurn answers the n-th request for each URL with the n-th step, and those
// after the last with the last.
func InTurn(steps ...RoundTripFunc) RoundTripFunc {
	var mu sync.Mutex
	sent := map[string]int{}
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		n := sent[req.URL.String()]
		sent[req.URL.String()]++
		mu.Unlock()
		return steps[min(n, len(steps)-1)](req)
	}
}

// AtOnce answers 200 "ok". It does without a timer of no length: in a bubble each goroutine fires such
// a one by itself, and under the race detector of Go 1.26 two of them at once can crash the process.
func AtOnce(req *http.Request) (*http.Response, error) { return Respond(req, 200, "ok"), nil }

// Always answers with a status and header fields.
func Always(status int, header ...string) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		return Respond(req, status, fmt.Sprintf("body of %d", status), header...), nil
	}
}

// Failing fails every request with err.
func Failing(err error) RoundTripFunc {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// Taking makes the answers of rt take d.
func Taking(d time.Duration, rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if err := SleepCtx(req.Context(), d); err != nil {
			return nil, err
		}
		return rt(req)
	}
}

// Varied makes the answers of rt take 20 to 80 ms, depending on the URL.
func Varied(rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		return Taking(time.Duration((20+60*Dice(3, req.URL.String(), 0))*float64(time.Millisecond)), rt)(req)
	}
}

// Hanging never answers.
func Hanging(req *http.Request) (*http.Response, error) { return nil, UntilDone(req.Context()) }

// Cut answers with the start of a body, and then the connection dies.
func Cut(start string) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp := Respond(req, 200, "")
		resp.ContentLength = int64(len(start)) + 100
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(start), failingReader{ErrReset}))
		return resp, nil
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// Flaky fails the given share of requests with step, and answers the others as ok does.
func Flaky(share float64, step, ok RoundTripFunc) RoundTripFunc {
	var mu sync.Mutex
	sent := map[string]int{}
	return func(req *http.Request) (*http.Response, error) {
		rawURL := req.URL.String()
		mu.Lock()
		sent[rawURL]++
		n := sent[rawURL]
		mu.Unlock()
		if Dice(1, rawURL, n) < share {
			return step(req)
		}
		return ok(req)
	}
}

// WithoutBackOff retries at once.
var WithoutBackOff = fetch.WithBackoff(0, 0)

// AnswerByPath is a transport that takes as many milliseconds as the path says.
func AnswerByPath(req *http.Request) (*http.Response, error) {
	var ms int
	fmt.Sscanf(req.URL.Path, "/%d", &ms)
	return AnswerAfter(time.Duration(ms) * time.Millisecond)(req)
}
