package transport

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
)

// An exchange is the way of one request through the pool.
type exchange struct {
	client *Client
	req    *http.Request
	trace  *httptrace.ClientTrace // of the caller's; nil: none
	origin *origin
	sender *sender
	plain  bool // h1 can send it
	held   bool // by the body of its response, until that is over
	dials  int

	// The connection of HTTP/2 that has refused the request, and how often it has.
	refuser  *http2Conn
	refusals int
}

// roundTrip sends the request, over another connection if it was not taken.
func (x *exchange) roundTrip() (*http.Response, error) {
	pool := x.client.pool
	for fresh := false; ; {
		if !x.plain && pool.speaksHTTP1(x.origin) {
			return x.client.viaNetHTTP(x.req, nil)
		}
		x.connecting()
		conn, http2, err := pool.connect(x, fresh)
		switch {
		case err != nil:
			closeBody(x.req)
			return nil, err
		case http2 != nil:
			x.connectedHTTP2(http2)
			resp, err := http2.conn.RoundTrip(x.req)
			if err == nil || !x.repeats(http2, err) {
				return resp, err
			}
		case !x.plain:
			return x.client.viaNetHTTP(x.req, conn)
		default:
			x.connected(conn)
			conn.Trace(x.trace)
			resp, err := conn.send(x.req, x.sender)
			x.held = err == nil
			if err == nil || !conn.repeats(x.req) {
				return resp, err
			}
			fresh = true
		}
	}
}

// leave gives up what the exchange has, unless the body of its response holds it. A hook of the
// caller's may have panicked.
func (x *exchange) leave() {
	if !x.held {
		x.sender.end()
		x.client.pool.leave(x.origin)
	}
}

// repeats reports whether a request that failed over HTTP/2 is to be sent once more, as
// net/http does: at once if the connection takes no more, and with growing pauses over
// the same.
func (x *exchange) repeats(c *http2Conn, err error) bool {
	if !fault.IsRefusal(err) || !x.rewind() {
		return false
	}
	if c != x.refuser {
		x.refuser, x.refusals = c, 0
	}
	x.refusals++
	switch {
	case x.refusals > 6:
		return false
	case x.refusals == 1:
		return x.req.Context().Err() == nil
	}
	pause := time.Second << (x.refusals - 2)
	return sleep(x.req.Context(), pause+time.Duration(rand.Int64N(int64(pause)/10)))
}

// rewind gives the request its body once more, and reports whether that is possible.
func (x *exchange) rewind() bool {
	if x.req.Body == nil || x.req.Body == http.NoBody {
		return true
	}
	if x.req.GetBody == nil {
		return false
	}
	body, err := x.req.GetBody()
	if err != nil {
		return false
	}
	again := *x.req
	again.Body = body
	x.req = &again
	return true
}

// sleep waits, and reports whether the context lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
