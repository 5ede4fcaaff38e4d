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

// senderKey is the key of the *sender in the context of requests.
type senderKey struct{}

// A sender is what dials know of the requests that they are for: one after the other, in
// one context.
type sender struct {
	ctx context.Context

	mu    sync.Mutex
	dials int           // for the request at hand
	apart bool          // net/http gives it no connection of another request
	alone bool          // nor does it wait for one, as it has done so
	over  chan struct{} // closed when it has its response, or none; nil: nobody waits for that
}

// begin is called when a request is about to be sent, end when there is a response or none.
func (s *sender) begin(req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = 0
	s.apart = req.Header["Upgrade"] != nil // which only HTTP/1 has
	s.alone = s.apart
}

func (s *sender) isApart() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apart
}

func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
}

// dial counts a dial, and reports whether there may be one more.
func (s *sender) dial(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	return s.dials <= most
}

// join returns what is closed at the end of the request, or nil if it is to connect by itself.
func (s *sender) join() (over <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alone {
		return nil
	}
	s.alone = true
	if s.over == nil {
		s.over = make(chan struct{})
	}
	return s.over
}

func senderOf(ctx context.Context) *sender {
	s, _ := ctx.Value(senderKey{}).(*sender)
	return s
}

// mostDials returns how often one request may connect. net/http connects anew, at once and
// without end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with
// PROTOCOL_ERROR). It also does when others have taken all places on the new connection,
// which with n in flight and s places can happen n/s times.
func mostDials(concurrency int) int { return 16 + concurrency/16 }

var errHandedBack = errors.New("the server hands the request back on every connection")

// errShared is seen by nobody: the request has its connection.
var errShared = errors.New("another connection serves the request")

// sendContext returns a context for attempts that ends with parent or by
// cancel. net/http dials in a context that has the values of the request's but goes on
// when that ends: through the value dials find out.
func sendContext(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	return context.WithValue(ctx, senderKey{}, &sender{ctx: ctx}), cancel
}

// withSender returns a context that ends with that of the sender, too.
func withSender(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	s := senderOf(ctx)
	if s == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// RoundTrip tells the dials that a request needs when that begins and ends.
func (o *ownClient) RoundTrip(req *http.Request) (*http.Response, error) {
	if s := senderOf(req.Context()); s != nil { // unless a RequestFunc gave it another context
		s.begin(req)
		defer s.end()
	}
	return o.transport.RoundTrip(req)
}

func (o *ownClient) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s := senderOf(ctx); s != nil && !s.dial(o.mostDials) {
		return nil, errHandedBack
	}
	ctx, cancel := withSender(ctx, dialTimeout)
	defer cancel()
	return o.track(o.dialer.DialContext(ctx, network, address))
}

// dialTLS connects to an https origin, unless another's connection does for this request too.
func (o *ownClient) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	s := senderOf(ctx)
	if s == nil || s.isApart() {
		return o.secure(ctx, network, address)
	}
	other, mine := o.handshakes.join(address)
	if other != nil {
		waiting, cancel := withSender(ctx, dialTimeout)
		defer cancel()
		if s.shares(waiting, other, o.patience(s)) {
			return nil, cmp.Or(waiting.Err(), errShared)
		}
	}
	conn, err := o.secure(ctx, network, address)
	o.handshakes.settle(address, mine, conn)
	return conn, err
}

// patience returns how long a request waits for another's handshake: most of
// its own time must be left.
func (o *ownClient) patience(s *sender) time.Duration {
	patience := handshakePatience
	if o.timeout > 0 {
		patience = min(patience, o.timeout/4)
	}
	if deadline, ok := s.ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/4)
	}
	return patience
}

// secure dials and shakes hands. net/http would shake hands itself, but go on with
// that after the end of the attempt, and count the connection against MaxConnsPerHost.
func (o *ownClient) secure(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := o.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withSender(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(conn, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		// As of a dial: nothing of a request has been sent.
		return nil, &net.OpError{Op: "dial", Net: network, Addr: conn.RemoteAddr(), Err: err}
	}
	return secured, nil
}
