package retries_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestWhatIsRetriedByDefault(t *testing.T) {
	notFound := &net.DNSError{Err: "no such host", Name: "a.example", IsNotFound: true}
	unsure := &net.DNSError{Err: "server misbehaving", Name: "a.example", IsTemporary: true}
	lookupTimeout := &net.DNSError{Err: "i/o timeout", Name: "a.example", IsTimeout: true}
	wrapped := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	certificate := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	tooLong := func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, 200, strings.Repeat("x", 2000)), nil
	}

	type outcome struct {
		step    fetchtest.RoundTripFunc
		retried bool
	}
	steps := map[string]outcome{
		"connection refused":          {fetchtest.Failing(fetchtest.ErrRefused), true},
		"connection reset":            {fetchtest.Failing(fetchtest.ErrReset), true},
		"EOF":                         {fetchtest.Failing(io.EOF), true},
		"unexpected EOF":              {fetchtest.Failing(io.ErrUnexpectedEOF), true},
		"idle connection closed":      {fetchtest.Failing(errors.New("http: server closed idle connection")), true},
		"temporary DNS error":         {fetchtest.Failing(wrapped(unsure)), true},
		"DNS timeout":                 {fetchtest.Failing(wrapped(lookupTimeout)), true},
		"timeout of a dial":           {fetchtest.Failing(wrapped(timeoutError{})), true},
		"timeout before the head":     {fetchtest.Failing(timeoutError{}), true},
		"timeout of the attempt":      {fetchtest.Hanging, true},
		"cut body":                    {fetchtest.Cut("the first"), true},
		"unknown host":                {fetchtest.Failing(wrapped(notFound)), false},
		"certificate":                 {fetchtest.Failing(certificate), false},
		"certificate, in a dial":      {fetchtest.Failing(wrapped(certificate)), false},
		"body too large":              {tooLong, false},
		"error that is nothing known": {fetchtest.Failing(errors.New("malformed HTTP response")), false},
		"status 101":                  {fetchtest.Always(101), false},
		"redirect to nowhere":         {fetchtest.Always(302, "Location", "ftp://a.example/"), false},
		"redirect without end": {func(req *http.Request) (*http.Response, error) {
			return fetchtest.Always(302, "Location", req.URL.Path)(req)
		}, false},
		"redirect without Location":     {fetchtest.Always(302), false},
		"a 404 with Retry-After":        {fetchtest.Always(404, "Retry-After", "1"), false},
		"a 500 with Retry-After":        {fetchtest.Always(500, "Retry-After", "1"), true},
		"a 403 with Retry-After":        {fetchtest.Always(403, "Retry-After", "1"), true},
		"a 413 with Retry-After":        {fetchtest.Always(413, "Retry-After", "1"), true},
		"a 420 with Retry-After":        {fetchtest.Always(420, "Retry-After", "1"), true},
		"a 413 with a past Retry-After": {fetchtest.Always(413, "Retry-After", "0"), false},
		"a 429 with Retry-After":        {fetchtest.Always(429, "Retry-After", "1"), true},
		"a 503 with Retry-After":        {fetchtest.Always(503, "Retry-After", "1"), true},
		"a 200 that asks to come again": {fetchtest.Always(200, "Retry-After", "1"), false},
	}
	for _, status := range []int{408, 425, 429, 500, 502, 503, 504, 521, 522, 524, 529} {
		steps[fmt.Sprint("status ", status)] = outcome{fetchtest.Always(status), true}
	}
	for _, status := range []int{200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 409, 410, 412, 413, 418, 420, 421, 422, 451, 501, 505, 507, 511, 520, 523, 525, 527, 530, 599, 999} {
		steps[fmt.Sprint("status ", status)] = outcome{fetchtest.Always(status), false}
	}
	for name, c := range steps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(2), fetch.WithTimeout(time.Minute), fetch.WithMaxBody(1000),
					fetchtest.Over(flight.Over(fetchtest.InTurn(c.step, fetchtest.AtOnce))))
				want, redirects := 1, r.Redirects
				if c.retried {
					want = 2
					if !r.OK() || string(r.Body) != "ok" {
						t.Errorf("the second attempt: %d, %q, %v", r.StatusCode, r.Body, r.Err)
					}
				}
				if r.Attempts != want {
					t.Errorf("%d attempts, want %d (error %v)", r.Attempts, want, r.Err)
				}
				if name != "redirect without end" && flight.Total() != want+redirects {
					t.Errorf("%d requests were sent, want %d", flight.Total(), want)
				}
			})
		})
	}
}

// A timeoutError is the error of net/http's Transport for a stage that took too long.
type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout awaiting response headers" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestRetriesAreOffByDefault(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"connection refused": fetchtest.Failing(fetchtest.ErrRefused), "status 503": fetchtest.Always(503), "status 429": fetchtest.Always(429), "cut body": fetchtest.Cut("x"),
	} {
		var flight fetchtest.InFlight
		if r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(flight.Over(step))); r.Attempts != 1 || flight.Total() != 1 {
			t.Errorf("%s: %d attempts, %d requests", name, r.Attempts, flight.Total())
		}
	}
}

func TestOnlyIdempotentRequestsAreRetriedOnceSomethingWasSent(t *testing.T) {
	key := []string{"Idempotency-Key", "8e03978e"}
	for _, c := range []struct {
		method  string
		header  []string
		retried bool
	}{
		{"GET", nil, true}, {"HEAD", nil, true}, {"OPTIONS", nil, true}, {"TRACE", nil, true}, {"PUT", nil, true}, {"DELETE", nil, true},
		{"", nil, true}, {"POST", nil, false}, {"PATCH", nil, false}, {"CONNECT", nil, false}, {"PURGE", nil, false}, {"get", nil, false},
		{"POST", key, true}, {"PATCH", key, true}, {"POST", []string{"X-Idempotency-Key", "k"}, true},
		{"POST", []string{"Idempotency", "k"}, false},
	} {
		for name, step := range map[string]fetchtest.RoundTripFunc{
			"status 503": fetchtest.Always(503), "status 429": fetchtest.Always(429, "Retry-After", "1"), "cut body": fetchtest.Cut(""),
			"connection reset": fetchtest.Failing(fetchtest.ErrReset), "timeout": fetchtest.Hanging, "nothing sent": fetchtest.Failing(fetchtest.ErrRefused),
		} {
			t.Run(fmt.Sprint(c.method, c.header, " ", name), func(t *testing.T) {
				if c.method == "HEAD" && name == "cut body" {
					t.Skip("it has none")
				}
				synctest.Test(t, func(t *testing.T) {
					req := fetchtest.NewRequest(t, cmp.Or(c.method, "GET"), "http://a.example/", strings.NewReader("payload"), c.header...)
					req.Method = c.method
					r := fetchtest.SendOne(t, req, fetch.WithRetries(3), fetch.WithTimeout(time.Second), fetchtest.Over(fetchtest.InTurn(step, fetchtest.AtOnce)))
					want := 1
					if c.retried || name == "nothing sent" {
						want = 2
					}
					if r.Attempts != want {
						t.Errorf("%d attempts, want %d (%d, %v)", r.Attempts, want, r.StatusCode, r.Err)
					}
				})
			})
		}
	}
}

func TestAnIdempotencyKeyOfTheOptionsCountsToo(t *testing.T) {
	var sent fetchtest.Recorder
	r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "POST", "http://a.example/", strings.NewReader("payload")), fetch.WithRetries(1), fetchtest.WithoutBackOff,
		fetch.WithHeader("Idempotency-Key", "k1"), fetchtest.Over(sent.Over(fetchtest.InTurn(fetchtest.Always(503), fetchtest.AtOnce))))
	if r.Attempts != 2 {
		t.Fatalf("%d attempts", r.Attempts)
	}
	for _, s := range sent.Take() {
		if s.Header.Get("Idempotency-Key") != "k1" || s.Body != "payload" {
			t.Errorf("sent %v", s)
		}
	}
}

func TestBodiesAreSentAgainByteForByte(t *testing.T) {
	payload := make([]byte, 300_000)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	var sent fetchtest.Recorder
	// The first attempt breaks off when a part of the body has been read.
	half := func(req *http.Request) (*http.Response, error) {
		io.CopyN(io.Discard, req.Body, 1000)
		return nil, fetchtest.ErrReset
	}
	r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "PUT", "http://a.example/", bytes.NewReader(payload)), fetch.WithRetries(3), fetchtest.WithoutBackOff,
		fetchtest.Over(fetchtest.InTurn(half, sent.Over(fetchtest.Always(503)), sent.Over(fetchtest.Always(500)), sent.Over(fetchtest.AtOnce))))
	if !r.OK() || r.Attempts != 4 {
		t.Fatalf("%d attempts, %v", r.Attempts, r.Err)
	}
	bodies := sent.Take()
	if len(bodies) != 3 {
		t.Fatalf("%d bodies arrived, want 3", len(bodies))
	}
	for i, s := range bodies {
		if s.Body != string(payload) {
			t.Errorf("body %d: %d bytes, which are not those of the request", i, len(s.Body))
		}
	}
}

func TestABodyThatCannotBeSentAgainIsSentOnce(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"status 503": fetchtest.Always(503), "connection reset": fetchtest.Failing(fetchtest.ErrReset), "nothing sent": fetchtest.Failing(fetchtest.ErrRefused),
	} {
		for choice, opts := range map[string][]fetch.Option{
			"by default": nil,
			"whatever RetryIf says": {fetch.WithRetryIf(func(fetch.Result) bool {
				return true
			})},
		} {
			body := fetchtest.NewTrackedBody("payload")
			var flight fetchtest.InFlight
			r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "PUT", "http://a.example/", body, "Idempotency-Key", "k"),
				append(opts, fetch.WithRetries(5), fetchtest.WithoutBackOff, fetchtest.Over(flight.Over(step)))...)
			if r.Attempts != 1 || flight.Total() != 1 || !body.Closed.Load() {
				t.Errorf("%s, %s: %d attempts, %d requests, body closed: %v", name, choice, r.Attempts, flight.Total(), body.Closed.Load())
			}
			if name == "status 503" && (r.StatusCode != 503 || string(r.Body) != "body of 503" || r.Err != nil) {
				t.Errorf("%s: the answer is %d %q, %v", choice, r.StatusCode, r.Body, r.Err)
			}
		}
	}
}

func TestAGetBodyThatFailsEndsTheURL(t *testing.T) {
	broken := errors.New("the file is gone")
	req := fetchtest.NewRequest(t, "PUT", "http://a.example/", strings.NewReader("payload"))
	req.GetBody = func() (io.ReadCloser, error) { return nil, broken }
	r := fetchtest.SendOne(t, req, fetch.WithRetries(5), fetchtest.WithoutBackOff, fetchtest.Over(fetchtest.Always(503)))
	if !errors.Is(r.Err, broken) || r.Attempts != 2 {
		t.Errorf("%d attempts, error %v", r.Attempts, r.Err)
	}
}

func TestAnAttemptThatTimesOutIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithTimeout(time.Second), fetch.WithRetries(2), fetchtest.WithoutBackOff, fetchtest.Over(fetchtest.Hanging))
		fetchtest.CheckTook(t, "three attempts", time.Since(start), 3*time.Second)
		if r.Attempts != 3 || !errors.Is(r.Err, fetch.ErrTimeout) || !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		for i, a := range r.History {
			if !errors.Is(a.Err, fetch.ErrTimeout) || a.Took != time.Second {
				t.Errorf("attempt %d: %+v", i+1, a)
			}
		}
	})
}

func TestTheCallersDeadlineIsNeverRetried(t *testing.T) {
	for _, of := range []string{"batch", "request"} {
		t.Run("of the "+of, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bounded, cancel := context.WithTimeoutCause(t.Context(), 2500*time.Millisecond, fetchtest.ErrLeft)
				defer cancel()
				batch, request := bounded, t.Context()
				if of == "request" {
					batch, request = request, batch
				}
				req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil).WithContext(request)
				f := fetchtest.NewFetcher(t, fetch.WithTimeout(time.Second), fetch.WithRetries(9), fetchtest.WithoutBackOff, fetchtest.Over(fetchtest.Hanging),
					fetch.WithRetryIf(func(fetch.Result) bool { return true })) // even when RetryIf would go on
				start := time.Now()
				results := f.DoAll(batch, []*http.Request{req})
				fetchtest.CheckTook(t, "two attempts and a half", time.Since(start), 2500*time.Millisecond)
				fetchtest.CheckResults(t, []string{"http://a.example/"}, results)
				r := results[0]
				fetchtest.CheckCancelled(t, bounded, r)
				if r.Attempts != 3 || !errors.Is(r.History[0].Err, fetch.ErrTimeout) || !errors.Is(r.History[1].Err, fetch.ErrTimeout) || errors.Is(r.History[2].Err, fetch.ErrTimeout) {
					t.Errorf("%d attempts, history %+v", r.Attempts, r.History)
				}
			})
		})
	}
}

// Another attempt would meet the same error.
func TestErrorsThatStayAreTriedOnce(t *testing.T) {
	hello := func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, strings.Repeat("hello", 1000)) }
	plain, _ := fetchtest.NewServer(t, hello)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(hello))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	circle, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/", http.StatusFound) })
	greatHead := fetchtest.Listen(t, func(conn net.Conn, _ string) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Much: %s\r\n\r\n", strings.Repeat("x", 2<<20))
	})
	noHTTP := fetchtest.Listen(t, func(conn net.Conn, _ string) { io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n\r\n") })
	broken := errors.New("broken")

	for name, c := range map[string]struct {
		url      string
		opt      fetch.Option
		is       error
		attempts int
	}{
		"certificate":     {secure.URL, fetch.WithMaxRedirects(1), nil, 1},
		"bad URL":         {"http://a b/", fetch.WithMaxRedirects(1), fetch.ErrInvalidURL, 0},
		"bad scheme":      {"gopher://a.example/", fetch.WithMaxRedirects(1), fetch.ErrInvalidURL, 0},
		"blocked address": {plain.URL, fetch.WithPublicOnly(), fetch.ErrBlocked, 1},
		"body too large":  {plain.URL, fetch.WithMaxBody(100), fetch.ErrBodyTooLarge, 1},
		"redirects":       {circle.URL, fetch.WithMaxRedirects(3), fetch.ErrRedirect, 1},
		"header too long": {greatHead, fetch.WithMaxRedirects(1), fetch.ErrProtocol, 1},
		"no HTTP at all":  {noHTTP, fetch.WithMaxRedirects(1), fetch.ErrProtocol, 1},
		"RequestFunc":     {plain.URL, fetch.WithRequestFunc(func(*http.Request) error { return broken }), broken, 1},
		"BodyFunc":        {plain.URL, fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return broken }), broken, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := fetchtest.GetOne(t, c.url, c.opt, fetch.WithRetries(5), fetchtest.WithoutBackOff)
			if r.Attempts != c.attempts || r.Err == nil || c.is != nil && !errors.Is(r.Err, c.is) {
				t.Errorf("%d attempts, want %d; error %v", r.Attempts, c.attempts, r.Err)
			}
			if _, ok := errors.AsType[*tls.CertificateVerificationError](r.Err); name == "certificate" && !ok {
				t.Errorf("error %v", r.Err)
			}
		})
	}
}

func TestStatusErrorsAreRetriedAsStatusesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []error
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(3), fetch.WithStatusErrors(), fetchtest.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(503), fetchtest.AtOnce)))
		if !r.OK() || r.Attempts != 3 || r.History[0].StatusCode != 500 {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		r = fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(3), fetch.WithStatusErrors(), fetchtest.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(404))),
			fetch.WithRetryIf(func(r fetch.Result) bool {
				seen = append(seen, r.Err)
				return r.StatusCode == 500
			}))
		if refused, _ := errors.AsType[*fetch.StatusError](r.Err); refused == nil || refused.StatusCode != 404 || r.Attempts != 2 || string(r.Body) != "body of 404" {
			t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
		}
		if refused, _ := errors.AsType[*fetch.StatusError](seen[0]); len(seen) != 2 || refused == nil || refused.StatusCode != 500 {
			t.Errorf("RetryIf saw %v", seen)
		}
	})
}

func TestADialThatFailsIsRetriedForAnyMethod(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close() // nobody listens there now
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) < 3 {
			addr = gone.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "POST", server.URL, strings.NewReader("payload")), fetch.WithClient(fetchtest.NewClient(transport)),
		fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
	if !r.OK() || r.Attempts != 3 || string(r.Body) != "payload" {
		t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
	}
	if op, ok := errors.AsType[*net.OpError](r.History[0].Err); !ok || op.Op != "dial" {
		t.Errorf("the first attempt: %v", r.History[0].Err)
	}
}

func TestAConnectionThatDiesIsRetriedForIdempotentRequestsOnly(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(net.Conn) {},
		"reset":  fetchtest.Reset,
	} {
		for method, want := range map[string]int{"GET": 2, "PUT": 2, "POST": 1} {
			t.Run(name+" "+method, func(t *testing.T) {
				var n atomic.Int32
				url := fetchtest.Listen(t, func(conn net.Conn, _ string) {
					if n.Add(1) == 1 {
						end(conn)
						return
					}
					io.WriteString(conn, fetchtest.WithLength("ok"))
				})
				var body io.Reader
				if method != "GET" {
					body = strings.NewReader("payload")
				}
				r := fetchtest.SendOne(t, fetchtest.NewRequest(t, method, url, body), fetch.WithRetries(3), fetch.WithBackoff(0, time.Millisecond))
				if r.Attempts != want || r.OK() != (want == 2) || int(n.Load()) != want {
					t.Errorf("%d attempts, %d requests, want %d; %v", r.Attempts, n.Load(), want, r.Err)
				}
			})
		}
	}
}

func TestAnHTTP2StreamThatIsResetIsRetried(t *testing.T) {
	var n atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch n.Add(1) {
		case 1:
			panic(http.ErrAbortHandler) // a reset before the head
		case 2:
			io.WriteString(w, "the first half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "ok")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	r := fetchtest.GetOne(t, server.URL, fetch.WithClient(server.Client()), fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
	if !r.OK() || string(r.Body) != "ok" || r.Proto != "HTTP/2.0" || r.Attempts != 3 {
		t.Errorf("%d attempts, %s, %q, %v", r.Attempts, r.Proto, r.Body, r.Err)
	}
	n.Store(0)
	r = fetchtest.SendOne(t, fetchtest.NewRequest(t, "POST", server.URL, strings.NewReader("payload")), fetch.WithClient(server.Client()), fetch.WithRetries(4))
	if r.Attempts != 1 || r.Err == nil || n.Load() != 1 {
		t.Errorf("the POST: %d attempts, %d requests, %v", r.Attempts, n.Load(), r.Err)
	}
}
