package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/transport"
)

// A stage is where a request stands when its context ends.
type stage struct {
	name  string
	dial  func(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error)
	serve func(v *visit) // of the first connection, once a request has come
}

func send200(v *visit, reply string) {
	io.WriteString(v, reply)
	fetchtest.UntilClosed(v)
}

var stages = []stage{
	{name: "dial", dial: func(ctx context.Context, _ func() (net.Conn, error)) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}},
	{name: "write", dial: (&torturer{decide: func(_ int, kind string) harm {
		if kind == "write" {
			return hangs
		}
		return ""
	}}).dial},
	{name: "head", serve: func(v *visit) { fetchtest.UntilClosed(v) }},
	{name: "half a head", serve: func(v *visit) { send200(v, "HTTP/1.1 200 OK\r\nX: ") }},
	{name: "interim responses", serve: func(v *visit) { send200(v, "HTTP/1.1 100 Continue\r\n\r\n") }},
	{name: "body", serve: func(v *visit) { send200(v, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello") }},
	{name: "chunks", serve: func(v *visit) { send200(v, fetchtest.Chunked+"5\r\nhel") }},
	{name: "a body without end", serve: func(v *visit) {
		io.WriteString(v, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := v.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}},
}

// However far a request has come, it ends with its context, and takes its connection with it.
func TestARequestEndsWithItsContextAtEveryStage(t *testing.T) {
	for _, s := range stages {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/kept context %v", s.name, kept), func(t *testing.T) {
				overBoth(t, func(t *testing.T, secure bool) {
					if s.name == "write" && secure {
						return // the handshake would hang
					}
					base, _ := receive(t, secure, func(v *visit) {
						for req := v.next(); req != nil; req = v.next() {
							if req.URL.Path == "/hangs" {
								s.serve(v)
								return
							}
							v.echo(req)
						}
					})
					checkEndsWithContext(t, base, s, kept)
				})
			})
		}
	}
}

func checkEndsWithContext(t *testing.T, base string, s stage, kept bool) {
	before := fetchtest.ResourcesInUse()
	c := transport.New(transport.Config{Concurrency: 2})
	if s.dial != nil {
		c.WrapDials(s.dial)
	} else {
		mustGet(t, c, base+"/first", "GET /first") // the next is over the same connection
	}
	ctx, cancel := context.WithCancel(t.Context())
	own := ctx
	if kept {
		own = transport.NewContext(ctx)
	}
	var cancelled atomic.Int64
	time.AfterFunc(30*time.Millisecond, func() {
		cancelled.Store(time.Now().UnixNano())
		cancel()
	})
	a := send(own, c, "GET", base+"/hangs")
	took := time.Since(time.Unix(0, cancelled.Load()))
	if a.err == nil || cancelled.Load() == 0 || took > time.Second {
		t.Errorf("%v after the end: %d, %v", took, a.status, a.err)
	}
	if _, idle, open := c.Counts(); idle != 0 || open != 0 {
		t.Errorf("%d connections are idle, %d open", idle, open)
	}
	if a := send(own, c, "GET", base+"/next"); !errors.Is(a.err, context.Canceled) {
		t.Errorf("a request in a context that has ended: %v", a.err)
	}
	if s.dial == nil {
		mustGet(t, c, base+"/after", "GET /after")
	}
	closeClient(t, c)
	before.Check(t)
}

// The handshake is a stage of its own.
func TestAHandshakeEndsWithTheContext(t *testing.T) {
	base := "https://" + fetchtest.ListenRaw(t, func(conn net.Conn) { fetchtest.UntilClosed(conn) })
	c := newClient(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	if a := send(ctx, c, "GET", base); !errors.Is(a.err, context.DeadlineExceeded) {
		t.Error(a.err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// A context that ends interrupts no exchange but its own, although connections go from one to
// the other.
func TestAContextEndsNoExchangeButItsOwn(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	overBoth(t, func(t *testing.T, secure bool) {
		base, _ := receive(t, secure, func(v *visit) {
			for req := v.next(); req != nil; req = v.next() {
				v.echo(req)
			}
		})
		c := newClient(t, 8)
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(7, uint64(worker)))
				var ctx context.Context
				cancel := func() {}
				for i := range rounds / 8 {
					if i%5 == 0 {
						cancel() // of a context without an exchange
						parent, end := context.WithCancel(t.Context())
						ctx, cancel = transport.NewContext(parent), end
						if i%10 == 0 {
							ctx = parent
						}
					}
					path := fmt.Sprintf("/%d/%d", worker, i)
					mayFail := worker%2 == 0 && i%5 == 4
					if mayFail {
						time.AfterFunc(time.Duration(random.IntN(300))*time.Microsecond, cancel)
					}
					if a := send(ctx, c, "GET", base+path); a.err == nil && a.body != "GET "+path || a.err != nil && !mayFail {
						t.Errorf("%s: %q, %v", path, a.body, a.err)
						return
					}
				}
				cancel()
			})
		}
		all.Wait()
	})
}

// Two requests at a time in one context that was made for requests one after the other.
func TestAKeptContextMayHaveSeveralRequestsAtATime(t *testing.T) {
	come := make(chan struct{}, 2)
	base, _ := receive(t, false, func(v *visit) {
		v.next()
		come <- struct{}{}
		fetchtest.UntilClosed(v)
	})
	c := newClient(t, 2)
	parent, cancel := context.WithCancel(t.Context())
	ctx := transport.NewContext(parent)
	done := make(chan error)
	for range 2 {
		go func() { done <- send(ctx, c, "GET", base).err }()
	}
	<-come
	<-come
	cancel()
	for range 2 {
		select {
		case err := <-done:
			if err == nil {
				t.Error("no error")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a request goes on")
		}
	}
}

// A body that nobody reads any more ends with its Close, or with the context, whichever comes
// first.
func TestABodyIsClosedWhileTheContextEnds(t *testing.T) {
	base, _ := receive(t, false, func(v *visit) {
		for req := v.next(); req != nil; req = v.next() {
			io.WriteString(v, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		}
	})
	c := newClient(t, 4)
	for i := range 200 {
		parent, cancel := context.WithCancel(t.Context())
		ctx := parent
		if i%2 == 0 {
			ctx = transport.NewContext(parent)
		}
		req, _ := http.NewRequestWithContext(ctx, "GET", base, nil)
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(cancel)
		both.Go(func() { resp.Body.Close() })
		both.Go(func() { io.Copy(io.Discard, resp.Body) })
		both.Wait()
	}
	if _, idle, open := c.Counts(); idle != 0 || open != 0 {
		t.Errorf("%d connections are idle, %d open", idle, open)
	}
}

// Session tickets come behind the handshake of TLS 1.3, when the client waits for an answer or
// for nothing.
func TestTicketsAreNoBytesOfAnAnswer(t *testing.T) {
	base, conns := http1.serve(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.URL.Path) })
	c := newClient(t, 1)
	for i := range 5 {
		path := fmt.Sprintf("/%d", i)
		mustGet(t, c, base+path, path)
		settle()
	}
	if n := conns.Opened(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
