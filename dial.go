package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// attemptKey is the key of the *attempt in the context of one.
type attemptKey struct{}

// An attempt is what dials know of whom they are for.
type attempt struct {
	ctx context.Context

	mu    sync.Mutex
	dials int           // for the request at hand
	alone bool          // it shares no connection, or has waited for one
	over  chan struct{} // closed when it is over; nil: nobody waits for that
}

// begin is called when a request is about to be sent, end when there is a response or none.
func (a *attempt) begin(req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dials = 0
	a.alone = req.Header["Upgrade"] != nil // HTTP/1 alone can do that
}

func (a *attempt) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over != nil {
		close(a.over)
		a.over = nil
	}
}

// dial counts a dial, and reports whether there may be one more.
func (a *attempt) dial(most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dials++
	return a.dials <= most
}

// join returns what is closed at the end of the request, or nil if it is to connect by itself.
func (a *attempt) join() (over <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alone {
		return nil
	}
	a.alone = true
	if a.over == nil {
		a.over = make(chan struct{})
	}
	return a.over
}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// mostDials returns how often one request may connect. net/http connects anew, at once and
// without end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with
// PROTOCOL_ERROR). It also does when others have taken all places on the new connection,
// which with n in flight and s places can happen n/s times.
func mostDials(concurrency int) int { return 16 + concurrency/16 }

var errHandedBack = errors.New("the server hands the request back on every connection")

// errShared is seen by nobody: the request has its connection.
var errShared = errors.New("another connection serves the request")

// attemptContext returns a context for attempts that ends with parent or by
// cancel. net/http dials in a context that has the values of the request's but goes on
// when that ends: through the value dials find out.
func attemptContext(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	return context.WithValue(ctx, attemptKey{}, &attempt{ctx: ctx}), cancel
}

// dialContext returns a context that ends with the attempt that dials, too.
func dialContext(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	a := attemptOf(ctx)
	if a == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(a.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// RoundTrip tells the dials that a request needs when that begins and ends.
func (o *ownClient) RoundTrip(req *http.Request) (*http.Response, error) {
	if a := attemptOf(req.Context()); a != nil { // unless a RequestFunc gave it another context
		a.begin(req)
		defer a.end()
	}
	return o.transport.RoundTrip(req)
}

func (o *ownClient) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if a := attemptOf(ctx); a != nil && !a.dial(o.mostDials) {
		return nil, errHandedBack
	}
	ctx, cancel := dialContext(ctx, dialTimeout)
	defer cancel()
	return o.track(o.dialer.DialContext(ctx, network, address))
}

// dialTLS connects to an https origin, unless another's connection does for this request too.
func (o *ownClient) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	other, mine := o.handshakes.join(address)
	if a := attemptOf(ctx); a != nil && other != nil {
		waiting, cancel := dialContext(ctx, dialTimeout)
		defer cancel()
		if a.shares(waiting, other) {
			return nil, cmp.Or(waiting.Err(), errShared)
		}
	}
	conn, err := o.secure(ctx, network, address)
	o.handshakes.settle(address, mine, conn)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// secure dials and shakes hands. net/http would shake hands itself, but go
// on with that, and count the connection, when the attempt has long ended.
func (o *ownClient) secure(ctx context.Context, network, address string) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := o.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := dialContext(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(conn, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		// As of a dial: nothing of a request has been sent.
		return nil, &net.OpError{Op: "dial", Net: network, Addr: conn.RemoteAddr(), Err: err}
	}
	return secured, nil
}
