package faults_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestFaultsOfReuseAndHTTP2(t *testing.T) { runFaults(t, reuseFaults()) }

func reuseFaults() []fault {
	timeout := []error{fetch.ErrTimeout, context.DeadlineExceeded}
	protocolError := []error{fetch.ErrProtocol}
	return []fault{
		{number: 85, name: "a stream refused once", frames: func(f *faultFrames) {
			if f.number == 1 {
				f.reset(codeRefused)
				return
			}
			f.answer("ok")
		}, code: 200, body: "ok", sent: 2},
		// net/http tries again itself, after 0, 1, 2, 4 and 8 s and a little more.
		{number: 85, name: "all streams refused", frames: func(f *faultFrames) { f.reset(codeRefused) }, virtual: true, opts: []fetch.Option{fetch.WithTimeout(10 * time.Second)},
			errs: timeout, again: ifIdempotent, sent: 5},
		{number: 86, name: "away before the request", frames: func(f *faultFrames) {
			if f.number == 1 {
				f.goAway(0, codeNone)
				f.close()
				return
			}
			f.answer("ok")
		}, code: 200, body: "ok", sent: 2},
		{number: 86, name: "away with an error before the request", frames: func(f *faultFrames) {
			f.goAway(0, codeInternal)
			hold(f.faultPeer)
		}, cause: says("GOAWAY"), again: anyMethod},
		{number: 86, name: "away after the request, and closed", frames: func(f *faultFrames) {
			f.goAway(f.stream, codeNone)
			f.close()
		}, cause: says("GOAWAY"), again: ifIdempotent},
		{number: 86, name: "away after the request, which is answered", frames: func(f *faultFrames) {
			f.goAway(f.stream, codeNone)
			f.answer("ok")
		}, code: 200, body: "ok"},
		{number: 87, name: "an internal error", frames: func(f *faultFrames) { f.reset(codeInternal) }, errs: protocolError, again: ifIdempotent},
		{number: 87, name: "keep calm", frames: func(f *faultFrames) { f.reset(codeCalm) }, errs: protocolError, again: ifIdempotent},
		{number: 88, name: "no answer to pings", frames: (*faultFrames).keepSilentToPings, virtual: true, opts: []fetch.Option{fetch.WithTimeout(0)}, client: pings,
			cause: says("connection lost"), again: ifIdempotent},
		{number: 88, name: "no answer to pings in the body", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			hold(f.faultPeer)
		}, virtual: true, opts: []fetch.Option{fetch.WithTimeout(0)}, client: pings, errs: []error{fetch.ErrTruncated}, cause: says("connection lost"), code: 200, again: ifIdempotent},
		{number: 89, name: "a frame size of 0", frames: func(f *faultFrames) {
			f.write(frameSettings, 0, 0, setting(settingMaxFrameSize, 0))
			hold(f.faultPeer)
		}, errs: protocolError},
		{number: 89, name: "no streams", frames: func(f *faultFrames) {
			f.write(frameSettings, 0, 0, setting(settingMaxStreams, 0))
		}, virtual: true, opts: []fetch.Option{fetch.WithTimeout(time.Second)}, errs: timeout, again: ifIdempotent},
		{number: 89, name: "one stream", settings: setting(settingMaxStreams, 1), frames: func(f *faultFrames) { f.answer("ok") }, code: 200, body: "ok"},
		{number: 89, name: "settings without end", frames: func(f *faultFrames) {
			for range 10_000 {
				f.write(frameSettings, 0, 0, setting(settingMaxStreams, 100))
			}
			f.answer("ok")
		}, code: 200, body: "ok"},
		{number: 95, name: "413 while the body is being sent", method: http.MethodPost, wire: func(p *faultPeer) {
			io.WriteString(p, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nless")
			hold(p)
		}, frames: func(f *faultFrames) {
			f.headers(0, ":status", "413")
			f.data(flagEndStream, "less")
		}, early: true, upload: 10 << 20, code: 413, body: "less"},
		{number: 95, name: "413 and the end while the body is being sent", method: http.MethodPost, frames: func(f *faultFrames) {
			f.headers(0, ":status", "413")
			f.data(flagEndStream, "less")
			f.reset(codeNone)
		}, early: true, upload: 10 << 20, code: 413, body: "less"},
		{number: 115, name: "a body long after its head", wire: func(p *faultPeer) {
			io.WriteString(p, fetchtest.StatusOK+"Content-Length: 10\r\n\r\nhello")
			time.Sleep(time.Second)
			io.WriteString(p, "world")
		}, frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, "hello")
			time.Sleep(time.Second)
			f.data(flagEndStream, "world")
		}, virtual: true, code: 200, body: "helloworld"},
	}
}

// says looks for what net/http has no type for.
func says(words string) func(error) bool {
	return func(err error) bool { return strings.Contains(err.Error(), words) }
}

func pings(_ *faultServer, transport *http.Transport) {
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}
}

// The cases that take more than one request, or several hosts.

// Case 83. net/http itself sends what may be sent twice once more if a
// connection dies that was used before; the rest is up to the retries.
func TestAConnectionThatDiesWithItsSecondRequest(t *testing.T) {
	for name, test := range map[string]struct {
		method   string
		body     string
		header   []string
		attempts int
		requests int32 // besides the first one
		err      error
	}{
		"GET":             {method: "GET", attempts: 1, requests: 2},
		"DELETE":          {method: "DELETE", attempts: 1, requests: 2},
		"PUT":             {method: "PUT", body: "body", attempts: 2, requests: 2},
		"POST":            {method: "POST", body: "body", attempts: 1, requests: 1, err: io.EOF},
		"POST with a key": {method: "POST", body: "body", header: []string{"Idempotency-Key", "k"}, attempts: 1, requests: 2},
		"an empty POST":   {method: "POST", attempts: 1, requests: 1, err: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			defer fetchtest.CheckNoLeaks(t)
			var requests atomic.Int32
			target := "http://" + fetchtest.ListenRaw(t, func(conn net.Conn) {
				reader := bufio.NewReader(conn)
				for _, answer := range []string{fetchtest.WithLength("ok"), ""} {
					req, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					requests.Add(1)
					io.WriteString(conn, answer)
				}
			})
			f := fetchtest.NewFetcher(t, fetch.WithRetries(1), fetch.WithBackoff(0, 0))
			send := func() []fetch.Result {
				var body io.Reader
				if test.body != "" {
					body = strings.NewReader(test.body)
				}
				return f.DoAll(t.Context(), []*http.Request{fetchtest.NewRequest(t, test.method, target, body, test.header...)})
			}
			if r := send()[0]; r.Err != nil {
				t.Fatal(r.Err)
			}
			requests.Store(0)
			results := send()
			f.Close()
			fetchtest.CheckResults(t, []string{target}, results)
			if r := results[0]; !errors.Is(r.Err, test.err) || r.Attempts != test.attempts || requests.Load() != test.requests {
				t.Errorf("%d attempts, %d requests, error %v; want %d, %d, %v", r.Attempts, requests.Load(), r.Err, test.attempts, test.requests, test.err)
			}
		})
	}
}

// Case 84.
func TestConnectionsThatAreClosedWhenIdleAreNoErrorOfAGET(t *testing.T) {
	defer fetchtest.CheckNoLeaks(t)
	var served atomic.Int32
	target := fetchtest.Listen(t, func(conn net.Conn, _ string) {
		reader := bufio.NewReader(conn)
		for {
			io.WriteString(conn, fetchtest.WithLength("ok"))
			if served.Add(1)%3 == 0 {
				return
			}
			if _, err := http.ReadRequest(reader); err != nil {
				return
			}
		}
	})
	urls := fetchtest.Numbered(target, 200)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8)))
}

// Case 88, for several requests on one connection.
func TestAllRequestsOnALostConnectionFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFaultServer(t, &fault{virtual: true, frames: (*faultFrames).keepSilentToPings}, http2)
		defer server.close()
		transport := server.transport()
		pings(server, transport)
		urls := fetchtest.Numbered(server.base, 5)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithTimeout(0))
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			if r.Err == nil || !strings.Contains(r.Err.Error(), "connection lost") {
				t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
			}
		}
		fetchtest.CheckTook(t, "the batch", results[0].Took, 2*time.Second)
	})
}

// Cases 85 and 86, for ever: net/http alone would connect anew without end, as fast as it can. The
// own client does not let it; see TestTheOwnClientOnTLS.
func TestFaultsOfServersThatHandEveryRequestBack(t *testing.T) {
	if !ownTLS() {
		t.Skip("the own client does not trust the certificate")
	}
	for name, script := range map[string]func(*faultFrames){
		"going away": func(f *faultFrames) {
			f.goAway(0, codeNone)
			f.close()
		},
		"going away, but not yet": func(f *faultFrames) { f.goAway(0, codeNone) },
		"resetting the stream":    func(f *faultFrames) { f.reset(codeProtocol) },
	} {
		t.Run(name, func(t *testing.T) {
			server := newFaultServer(t, &fault{frames: script}, http2)
			defer server.close()
			r := fetchtest.GetOne(t, server.base, fetch.WithRetries(1), fetch.WithBackoff(0, 0))
			if sent := server.takeRequests(); r.Err == nil || errors.Is(r.Err, fetch.ErrTimeout) || sent > 20 {
				t.Errorf("%d requests, %v", sent, r.Err)
			}
		})
	}
}

// An HTTP/2 connection is not idle at once when its streams have been cancelled; the own
// client closes it all the same.
func TestFaultsOfServersThatStaySilent(t *testing.T) {
	if !ownTLS() {
		t.Skip("the own client does not trust the certificate")
	}
	for name, script := range map[string]func(*faultFrames){
		"but answer pings": (*faultFrames).keepSilent,
		"even to pings":    (*faultFrames).keepSilentToPings,
	} {
		t.Run(name, func(t *testing.T) {
			server := newFaultServer(t, &fault{frames: script}, http2)
			defer server.close()
			server.closeIdle = func() {}
			before := server.fault.resources()
			urls := fetchtest.Numbered(server.base, 5)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(200*time.Millisecond))
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if !errors.Is(r.Err, fetch.ErrTimeout) {
					t.Errorf("%s: %v", r.URL, r.Err)
				}
			}
			if !server.waitForNone() {
				t.Error("a connection is still open")
			}
			before.Check(t)
		})
	}
}

// Case 94. The first attempt may still be reading its body when the second sends its own.
func TestARetryHasABodyOfItsOwn(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	var requests atomic.Int32
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if requests.Add(1) == 1 {
			io.CopyN(io.Discard, req.Body, 100_000)
			w.WriteHeader(503)
			return
		}
		got, err := io.ReadAll(req.Body)
		if err != nil || string(got) != body {
			t.Errorf("the second attempt brought %d bytes, %v", len(got), err)
		}
	})
	req := fetchtest.NewRequest(t, "POST", server.URL, strings.NewReader(body), "Idempotency-Key", "k")
	r := fetchtest.SendOne(t, req, fetch.WithRetries(1), fetch.WithBackoff(0, 0))
	if r.Err != nil || r.StatusCode != 200 || r.Attempts != 2 {
		t.Errorf("got %d, %v in %d attempts", r.StatusCode, r.Err, r.Attempts)
	}
}

// A blockedBody has nothing to read until it is closed.
type blockedBody struct {
	closed chan struct{}
	once   sync.Once
}

func (b *blockedBody) Read([]byte) (int, error) {
	<-b.closed
	return 0, errors.New("closed")
}

func (b *blockedBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Case 103.
func TestARequestBodyThatBlocksEndsWithTheAttempt(t *testing.T) {
	for _, p := range everywhere {
		t.Run(string(p), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFaultServer(t, &fault{virtual: true, early: true, wire: hold, frames: (*faultFrames).keepSilent}, p)
				defer server.close()
				transport := server.transport()
				defer transport.CloseIdleConnections()
				req := fetchtest.NewRequest(t, "POST", server.base, &blockedBody{closed: make(chan struct{})})
				r := fetchtest.SendOne(t, req, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithTimeout(time.Second))
				if !errors.Is(r.Err, fetch.ErrTimeout) {
					t.Errorf("got %d, %v", r.StatusCode, r.Err)
				}
				fetchtest.CheckTook(t, "the attempt", r.Took, time.Second)
			})
		})
	}
}

// Case 116.
func TestExpectContinue(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(p *faultPeer, req *http.Request)
		code  int
		took  time.Duration
	}{
		"100 comes": {func(p *faultPeer, req *http.Request) {
			io.WriteString(p, "HTTP/1.1 100 Continue\r\n\r\n")
			io.Copy(io.Discard, req.Body)
			io.WriteString(p, fetchtest.WithLength("ok"))
		}, 200, 0},
		"100 never comes": {func(p *faultPeer, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			io.WriteString(p, fetchtest.WithLength("ok"))
		}, 200, time.Second},
		"417": {func(p *faultPeer, _ *http.Request) {
			io.WriteString(p, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
		}, 417, 0},
		"the answer first": {func(p *faultPeer, _ *http.Request) {
			io.WriteString(p, fetchtest.WithLength("ok"))
		}, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFaultServer(t, &fault{virtual: true, early: true, wire: func(p *faultPeer) {
					test.serve(p, p.last)
					for req := p.next(); req != nil; req = p.next() {
						io.WriteString(p, fetchtest.WithLength(req.Method))
					}
				}}, http1)
				defer server.close()
				transport := server.transport()
				transport.ExpectContinueTimeout = time.Second
				defer transport.CloseIdleConnections()
				f := fetchtest.NewFetcher(t, fetch.WithClient(fetchtest.NewClient(transport)))
				reqs := []*http.Request{fetchtest.NewRequest(t, "POST", server.base, strings.NewReader("body"), "Expect", "100-continue")}
				r := f.DoAll(t.Context(), reqs)[0]
				if r.Err != nil || r.StatusCode != test.code {
					t.Errorf("got %d, %v", r.StatusCode, r.Err)
				}
				fetchtest.CheckTook(t, "it", r.Took, test.took)
				// The next one may be on the same connection.
				if r := f.FetchAll(t.Context(), []string{server.base})[0]; r.Err != nil {
					t.Errorf("the next: %v", r.Err)
				}
			})
		})
	}
}
