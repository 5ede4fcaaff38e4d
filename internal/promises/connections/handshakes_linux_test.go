package connections_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The own client opens few connections to an https origin, and waiting for a handshake
// holds nothing up for long. It takes a process that trusts the server.
func TestHandshakes(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for handshakes in real time")
	}
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	warm, _ := newTLSServer(t, false, nil, func(http.ResponseWriter, *http.Request) {})
	warmUp := fetchtest.Numbered(warm.URL, 1)
	fetchtest.MustAllBeFine(t, warmUp, fetch.FetchAll(t.Context(), warmUp)) // opens what the process keeps
	before := fetchtest.ResourcesInUse()
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, test)
		before.Check(t)
	}
	run("HTTP/2 takes one connection", func(t *testing.T) {
		for _, takes := range []time.Duration{0, 5 * time.Millisecond, 2 * handshakePatience} {
			server, conns := newTLSServer(t, true, distant,
				func(w http.ResponseWriter, _ *http.Request) { time.Sleep(takes) })
			urls := fetchtest.Numbered(server.URL, 200)
			fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(100)))
			if n := conns.Opened(); n > 2 { // one slot may be late
				t.Errorf("%d connections for answers that take %v", n, takes)
			}
		}
	})
	run("HTTP/1 takes as many as are in flight", func(t *testing.T) {
		const slots = 16
		server, conns := newTLSServer(t, false, nil, barrier(slots))
		urls := fetchtest.Numbered(server.URL, 4*slots)
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots)))
		if n := conns.Opened(); n != slots {
			t.Errorf("%d connections", n)
		}
	})
	run("HTTP/2 with room for one request takes one each", func(t *testing.T) {
		const slots = 16
		server, _ := newTLSServer(t, true, nil, barrier(slots), func(s *http.Server) {
			s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1}
		})
		urls := fetchtest.Numbered(server.URL, slots)
		start := time.Now()
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots)))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
	run("a first that hangs", func(t *testing.T) {
		for _, http2 := range []bool{false, true} {
			server, _ := newTLSServer(t, http2, theFirst(hang), func(http.ResponseWriter, *http.Request) {})
			urls := fetchtest.Numbered(server.URL, 20)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20), fetch.WithTimeout(3*time.Second))
			fetchtest.CheckResults(t, urls, results)
			hung := 0
			for _, r := range results {
				switch {
				case errors.Is(r.Err, fetch.ErrTimeout):
					hung++
				case r.Err != nil:
					t.Errorf("HTTP/2 %v, %s: %v", http2, r.URL, r.Err)
				case r.Took > handshakePatience+2*time.Second:
					t.Errorf("HTTP/2 %v, %s took %v", http2, r.URL, r.Took)
				}
			}
			if hung > 1 {
				t.Errorf("HTTP/2 %v: %d hung", http2, hung)
			}
		}
	})
	run("all that hang are cancelled", func(t *testing.T) {
		server, _ := newTLSServer(t, true, hang, func(http.ResponseWriter, *http.Request) {})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		urls := fetchtest.Numbered(server.URL, 50)
		results := fetch.FetchAll(ctx, urls)
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		for _, r := range results {
			if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
	})
	run("none succeeds", func(t *testing.T) {
		server, conns := newTLSServer(t, true, func(conn net.Conn) net.Conn {
			conn.Close()
			return conn
		}, func(http.ResponseWriter, *http.Request) {})
		urls := fetchtest.Numbered(server.URL, 50)
		start := time.Now()
		checkAllFail(t, urls, fetch.FetchAll(t.Context(), urls))
		took := time.Since(start)
		for wait := time.Millisecond; conns.Opened() < len(urls) && wait < time.Second; wait *= 2 {
			time.Sleep(wait) // the server counts a connection after it has closed it
		}
		if took > 5*time.Second || conns.Opened() < len(urls) {
			t.Errorf("took %v and %d connections", took, conns.Opened())
		}
	})
	run("HTTP/2 is agreed on and the connection closed", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}, NextProtos: []string{"h2"}})
					secured.Handshake()
					secured.Close()
				}()
			}
		}()
		urls := fetchtest.Numbered("https://"+listener.Addr().String(), 50)
		start := time.Now()
		checkAllFail(t, urls, fetch.FetchAll(t.Context(), urls))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		listener.Close()
	})
	run("a Fetcher that is used again", func(t *testing.T) {
		server, conns := newTLSServer(t, true, distant, func(http.ResponseWriter, *http.Request) {})
		f := fetchtest.NewFetcher(t)
		urls := fetchtest.Numbered(server.URL, 100)
		for range 5 {
			fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		}
		if n := conns.Opened(); n > 4 {
			t.Errorf("%d connections", n)
		}
		f.Close()
	})
}

func checkAllFail(t *testing.T, urls []string, results []fetch.Result) {
	t.Helper()
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		if r.OK() {
			t.Errorf("%s is fine", r.URL)
		}
	}
}

// An upgrade has a connection that net/http shares with nobody.
func TestAnUpgradeHoldsNobodyUp(t *testing.T) {
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	server, _ := newTLSServer(t, true, distant, func(http.ResponseWriter, *http.Request) {})
	f := fetchtest.NewFetcher(t)
	upgrade := fetchtest.NewRequest(t, "GET", server.URL, nil, "Connection", "Upgrade", "Upgrade", "websocket")
	var first sync.WaitGroup
	defer first.Wait()
	first.Go(func() { f.DoAll(t.Context(), []*http.Request{upgrade}) })
	time.Sleep(handshakePatience / 6)
	urls := fetchtest.Numbered(server.URL, 7)
	start := time.Now()
	fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// Waiting for a handshake that hangs leaves a request the most of its time.
func TestAHandshakeThatHangsCostsOneURLHoweverShortTheTimeout(t *testing.T) {
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	const timeout = 280 * time.Millisecond
	for name, fetchAll := range map[string]func(urls []string) []fetch.Result{
		"timeout": func(urls []string) []fetch.Result {
			return fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(timeout))
		},
		"deadline": func(urls []string) []fetch.Result {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			return fetch.FetchAll(ctx, urls)
		},
	} {
		// A busy machine may be slow with the handshakes of the others now and then. If they
		// waited too long, all would fail each time.
		failed := countFailures(t, fetchAll)
		for try := 1; try < 5 && failed > 1; try++ {
			failed = min(failed, countFailures(t, fetchAll))
		}
		if failed > 1 {
			t.Errorf("%s: %d failed", name, failed)
		}
	}
}

// countFailures returns how many of six URLs fail when the first handshake hangs.
func countFailures(t *testing.T, fetchAll func(urls []string) []fetch.Result) int {
	t.Helper()
	server, _ := newTLSServer(t, true, theFirst(hang), func(http.ResponseWriter, *http.Request) {})
	urls := fetchtest.Numbered(server.URL, 6)
	results := fetchAll(urls)
	fetchtest.CheckResults(t, urls, results)
	failed := 0
	for _, r := range results {
		if r.Err != nil {
			failed++
		}
	}
	return failed
}

// A request that is lost with a connection of HTTP/2 is tried again like any other.
func TestAConnectionThatIsResetAfterTheHandshake(t *testing.T) {
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	for reads := 5; reads < 10; reads++ {
		for range 4 {
			dies := func(conn net.Conn) net.Conn { return &mortalReader{Conn: conn, left: reads} }
			server, _ := newTLSServer(t, true, theFirst(dies), func(http.ResponseWriter, *http.Request) {})
			urls := fetchtest.Numbered(server.URL, 64)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), fetch.WithBackoff(0, time.Millisecond))
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if errors.Is(r.Err, fetch.ErrProtocol) {
					t.Errorf("%s: %v", r.URL, r.Err)
				}
			}
			server.Close()
		}
	}
}

// A mortalReader resets its connection after so many reads.
type mortalReader struct {
	net.Conn
	left int
}

func (c *mortalReader) Read(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Conn.Close()
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// handshakePatience is how long a request waits for another's handshake.
const handshakePatience = 300 * time.Millisecond

// newTLSServer returns a server whose certificate the child trusts.
func newTLSServer(t *testing.T, http2 bool, wrap func(net.Conn) net.Conn, handler http.HandlerFunc, change ...func(*http.Server)) (*httptest.Server, *fetchtest.ConnCounter) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	conns := fetchtest.CountConns(server.Config)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = http2
	server.TLS = &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}}
	if wrap != nil {
		server.Listener = wrappedListener{server.Listener, wrap}
	}
	for _, f := range change {
		f(server.Config)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, conns
}

type wrappedListener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrappedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

// theFirst changes the first connection to a server only.
func theFirst(change func(net.Conn) net.Conn) func(net.Conn) net.Conn {
	var accepted atomic.Int32
	return func(conn net.Conn) net.Conn {
		if accepted.Add(1) == 1 {
			return change(conn)
		}
		return conn
	}
}

func hang(conn net.Conn) net.Conn    { return hangingConn{conn} }
func distant(conn net.Conn) net.Conn { return &distantConn{Conn: conn} }

// A distantConn takes as long to shake hands as one over a network does.
type distantConn struct {
	net.Conn
	once sync.Once
}

func (c *distantConn) Read(p []byte) (int, error) {
	c.once.Do(func() { time.Sleep(handshakePatience / 2) })
	return c.Conn.Read(p)
}

// A hangingConn sends nothing.
type hangingConn struct{ net.Conn }

func (hangingConn) Write(p []byte) (int, error) { return len(p), nil }

// barrier answers when n requests are in flight at once.
func barrier(n int) http.HandlerFunc {
	var come atomic.Int32
	all := make(chan struct{})
	return func(w http.ResponseWriter, req *http.Request) {
		if come.Add(1) == int32(n) {
			close(all)
		}
		select {
		case <-all:
			io.WriteString(w, "ok")
		case <-time.After(10 * time.Second):
			http.Error(w, fmt.Sprintf("%d requests have come", come.Load()), http.StatusGatewayTimeout)
		}
	}
}
