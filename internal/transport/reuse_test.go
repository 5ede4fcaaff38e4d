package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/transport"
)

// A visit is a connection to a raw server.
type visit struct {
	net.Conn
	number int // of the connection, from 1
	reader *bufio.Reader
}

func newVisit(conn net.Conn) *visit { return &visit{Conn: conn, reader: bufio.NewReader(conn)} }

// next returns the next request, or nil when the client has closed the connection.
func (v *visit) next() *http.Request {
	req, err := http.ReadRequest(v.reader)
	if err != nil {
		return nil
	}
	return req
}

// echo answers a request with its method and path.
func (v *visit) echo(req *http.Request) {
	io.WriteString(v, fetchtest.WithLength(req.Method+" "+req.URL.Path))
}

func (v *visit) reset() {
	time.Sleep(5 * time.Millisecond) // or the reset overtakes what was written
	if c, ok := v.Conn.(*tls.Conn); ok {
		c.NetConn().(*net.TCPConn).SetLinger(0)
		c.NetConn().Close()
		return
	}
	v.Conn.(*net.TCPConn).SetLinger(0)
	v.Conn.Close()
}

// receive has serve run for each connection, over plain TCP or TLS.
func receive(t *testing.T, secure bool, serve func(v *visit)) (base string, conns *atomic.Int32) {
	conns = new(atomic.Int32)
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return scheme + fetchtest.ListenRaw(t, func(conn net.Conn) {
		if secure {
			c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}, NextProtos: []string{"http/1.1"}})
			if c.Handshake() != nil {
				return
			}
			defer c.Close()
			conn = c
		}
		serve(&visit{conn, int(conns.Add(1)), bufio.NewReader(conn)})
	}), conns
}

// overBoth runs a test over TCP and over TLS.
func overBoth(t *testing.T, test func(t *testing.T, secure bool)) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) { test(t, secure) })
	}
}

// settle gives what the server has done a moment to arrive.
func settle() { time.Sleep(10 * time.Millisecond) }

// What a server does after its answer, while the connection is idle, hurts no request.
func TestWhatComesWhileAConnectionIsIdleHurtsNobody(t *testing.T) {
	for name, then := range map[string]func(v *visit){
		"the end": func(v *visit) { v.Close() },
		"a reset": (*visit).reset,
		"408": func(v *visit) {
			io.WriteString(v, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			v.Close()
		},
		"a second answer":     func(v *visit) { io.WriteString(v, fetchtest.WithLength("foreign")) },
		"a byte":              func(v *visit) { io.WriteString(v, "x") },
		"an interim response": func(v *visit) { io.WriteString(v, "HTTP/1.1 100 Continue\r\n\r\n") },
		"a line":              func(v *visit) { io.WriteString(v, "\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, secure bool) {
				done := make(chan struct{}) // then is
				base, conns := receive(t, secure, func(v *visit) {
					for req := v.next(); req != nil; req = v.next() {
						v.echo(req)
						if v.number == 1 {
							then(v)
							close(done)
							fetchtest.UntilClosed(v)
							return
						}
					}
				})
				c := newClient(t, 1)
				for i := range 2 {
					for _, method := range []string{"GET", "POST"} { // a POST is never sent twice
						path := fmt.Sprintf("/%d", i)
						if a := send(t.Context(), c, method, base+path); a.err != nil || a.body != method+" "+path {
							t.Fatalf("%s %s: got %d, %q, %v", method, path, a.status, a.body, a.err)
						}
						<-done
						settle()
					}
				}
				if n := conns.Load(); n != 2 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// A connection that ends once a request has gone out, before anything of an answer: the request
// is sent once more if that can do no harm, and not twice.
func TestAConnectionThatDiesUnderARequest(t *testing.T) {
	for how, die := range map[string]func(v *visit){"closed": func(v *visit) { v.Close() }, "reset": (*visit).reset} {
		for _, test := range []struct {
			method string
			key    bool
			again  bool
		}{{"GET", false, true}, {"HEAD", false, true}, {"OPTIONS", false, true}, {"DELETE", false, true}, {"PUT", false, true}, {"POST", false, false}, {"PATCH", false, false}, {"POST", true, true}} {
			for _, always := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s key %v/always %v", how, test.method, test.key, always), func(t *testing.T) {
					var sent atomic.Int32
					base, conns := receive(t, false, func(v *visit) {
						for req := v.next(); req != nil; req = v.next() {
							if req.URL.Path == "/dies" {
								if sent.Add(1) == 1 || always {
									die(v)
									return
								}
							}
							v.echo(req)
						}
					})
					c := newClient(t, 1)
					mustGet(t, c, base+"/first", "GET /first")
					a := send(t.Context(), c, test.method, base+"/dies", func(r *http.Request) {
						if test.key {
							r.Header.Set("Idempotency-Key", "1")
						}
					})
					want := int32(1)
					if test.again {
						want = 2
					}
					if n := sent.Load(); n != want || conns.Load() != want {
						t.Errorf("sent %d times over %d connections, want %d: %v", n, conns.Load(), want, a.err)
					}
					if ok := test.again && !always; (a.err == nil) != ok {
						t.Errorf("got %d, %v", a.status, a.err)
					}
					if a.err != nil && !errors.Is(a.err, io.EOF) && !errors.Is(a.err, syscall.ECONNRESET) && !errors.Is(a.err, syscall.EPIPE) {
						t.Errorf("%v", a.err)
					}
				})
			}
		}
	}
}

// On a new connection a request that may have been processed is not sent again, of any method.
func TestANewConnectionThatDiesIsAnError(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		base, conns := receive(t, secure, func(v *visit) { v.next() })
		c := newClient(t, 1)
		if a := get(t, c, base); !errors.Is(a.err, io.EOF) {
			t.Errorf("got %d, %v", a.status, a.err)
		}
		if conns.Load() != 1 {
			t.Errorf("%d connections", conns.Load())
		}
	})
}

// Once an answer has begun the request is not sent again.
func TestAnAnswerThatIsCutShortIsAnError(t *testing.T) {
	const reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	for i := 1; i < len(reply); i++ {
		var sent atomic.Int32
		base, _ := receive(t, false, func(v *visit) {
			for req := v.next(); req != nil; req = v.next() {
				if req.URL.Path == "/cut" {
					sent.Add(1)
					io.WriteString(v, reply[:i])
					return
				}
				v.echo(req)
			}
		})
		c := newClient(t, 1)
		mustGet(t, c, base+"/first", "GET /first")
		if a := get(t, c, base+"/cut"); a.err == nil || i >= len(reply)-5 && !errors.Is(a.err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: got %d, %q, %v", i, a.status, a.body, a.err)
		}
		if n := sent.Load(); n > 2 || n > 1 && i >= len("HTTP/") {
			t.Errorf("cut at %d: sent %d times", i, n)
		}
	}
}

// Which answers leave a connection for the next request.
func TestWhichConnectionsAreUsedAgain(t *testing.T) {
	chunked := fetchtest.Chunked
	for name, test := range map[string]struct {
		reply, method string
		again         bool
	}{
		"a length":                  {reply: fetchtest.WithLength("hello"), again: true},
		"no body":                   {reply: fetchtest.WithLength(""), again: true},
		"chunks":                    {reply: chunked + "5\r\nhello\r\n0\r\n\r\n", again: true},
		"a trailer":                 {reply: chunked + "0\r\nX: y\r\n\r\n", again: true},
		"204":                       {reply: "HTTP/1.1 204 No Content\r\n\r\n", again: true},
		"204 with a length":         {reply: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", again: true},
		"304 with a length":         {reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", again: true},
		"304 with chunks":           {reply: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", again: true},
		"HEAD":                      {reply: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method: "HEAD", again: true},
		"HEAD with chunks":          {reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", method: "HEAD", again: true},
		"HEAD without a length":     {reply: "HTTP/1.1 200 OK\r\n\r\n", method: "HEAD", again: true},
		"100 before":                {reply: "HTTP/1.1 100 Continue\r\n\r\n" + fetchtest.WithLength("hello"), again: true},
		"HTTP/1.0 with keep-alive":  {reply: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", again: true},
		"HTTP/1.0":                  {reply: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
		"Connection: close":         {reply: fetchtest.WithLength("hello", "Connection: close\r\n")},
		"204 and Connection: close": {reply: "HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n"},
		"101":                       {reply: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
		"status 99":                 {reply: "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n"},
		"204 with a body":           {reply: "HTTP/1.1 204 No Content\r\n\r\nhello"},
		"304 with a body":           {reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"},
		"HEAD with a body":          {reply: fetchtest.WithLength("hello"), method: "HEAD"},
		"more than the length":      {reply: fetchtest.WithLength("hello") + ", world"},
		"more than the chunks":      {reply: chunked + "0\r\n\r\nx"},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, secure bool) {
				base, conns := receive(t, secure, func(v *visit) {
					for v.next() != nil {
						io.WriteString(v, test.reply)
					}
				})
				c := newClient(t, 1)
				method := test.method
				if method == "" {
					method = "GET"
				}
				for range 3 {
					if a := send(t.Context(), c, method, base); a.err != nil {
						t.Error(a.err)
					}
				}
				if n := conns.Load(); (n == 1) != test.again || n != 1 && n != 3 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

func TestARequestWithCloseLeavesNoConnection(t *testing.T) {
	base, conns := receive(t, false, func(v *visit) {
		for req := v.next(); req != nil; req = v.next() {
			io.WriteString(v, fetchtest.WithLength(fmt.Sprint(req.Close)))
		}
	})
	c := newClient(t, 1)
	for range 2 {
		if a := send(t.Context(), c, "GET", base, func(r *http.Request) { r.Close = true }); a.body != "true" || a.err != nil {
			t.Errorf("%q, %v", a.body, a.err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A server may answer before it reads, and close with a reset.
func TestAnEarlyAnswerIsAnAnswer(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		for _, end := range []func(v *visit){func(v *visit) { v.Close() }, (*visit).reset} {
			base, _ := receive(t, secure, func(v *visit) {
				io.WriteString(v, "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy")
				time.Sleep(10 * time.Millisecond)
				end(v)
			})
			c := newClient(t, 1)
			for range 10 {
				if a := get(t, c, base); a.err != nil || a.status != 503 || a.body != "busy" {
					t.Errorf("got %d, %q, %v", a.status, a.body, a.err)
				}
			}
		}
	})
}

// The same, when the reset is there before the request is written.
func TestAnAnswerCountsMoreThanAFailedWrite(t *testing.T) {
	base, _ := receive(t, false, func(v *visit) {
		io.WriteString(v, "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy")
		v.reset()
	})
	c := newClient(t, 1)
	c.WrapDials(func(_ context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
		conn, err := dial()
		time.Sleep(30 * time.Millisecond)
		return conn, err
	})
	if a := get(t, c, base); runtime.GOOS == "linux" && (a.err != nil || a.status != 503 || a.body != "busy") {
		t.Errorf("got %d, %q, %v", a.status, a.body, a.err) // others forget bytes when a reset comes
	}
}

// A stale connection in each place of the pool costs a request nothing but time.
func TestManyStaleConnections(t *testing.T) {
	const many = 50
	release := make(chan struct{})
	var come atomic.Int32
	base, conns := receive(t, false, func(v *visit) {
		req := v.next()
		if req == nil {
			return
		}
		if v.number <= many {
			if come.Add(1) == many {
				close(release)
			}
			<-release
		}
		v.echo(req)
	})
	c := newClient(t, many)
	done := make(chan answer)
	for i := range many {
		go func() { done <- get(t, c, fmt.Sprintf("%s/%d", base, i)) }()
	}
	for range many {
		if a := <-done; a.err != nil || !strings.HasPrefix(a.body, "GET /") {
			t.Error(a.body, a.err)
		}
	}
	settle()
	mustGet(t, c, base+"/last", "GET /last")
	if n := conns.Load(); n != many+1 {
		t.Errorf("%d connections", n)
	}
}

// Many hosts, each with its connection.
func TestEachHostHasItsConnections(t *testing.T) {
	base, conns := receive(t, false, func(v *visit) {
		for req := v.next(); req != nil; req = v.next() {
			io.WriteString(v, fetchtest.WithLength(fmt.Sprintf("%d %s", v.number, req.Host)))
		}
	})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	c := transport.New(transport.Config{Concurrency: 1})
	defer closeClient(t, c)
	first := map[string]string{}
	for range 3 {
		for i := 1; i < 100; i++ {
			host := fmt.Sprintf("127.0.0.%d:%s", i, port)
			if i > 1 {
				host = "LocalHost:" + port // one origin, however it is spelled
				if i%2 == 0 {
					host = strings.ToLower(host)
				}
			}
			a := send(context.Background(), c, "GET", "http://"+host+"/")
			number, got, _ := strings.Cut(a.body, " ")
			if a.err != nil || got != host {
				t.Fatalf("%s got %q, %v", host, a.body, a.err)
			}
			key := strings.ToLower(host)
			if first[key] == "" {
				first[key] = number
			}
			if first[key] != number {
				t.Errorf("%s is served by %s and %s", host, first[key], number)
			}
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}
