package transport

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

var errHandedBack = errors.New("the server hands the request back on every connection")

// errShared never reaches the caller: the request has its connection.
var errShared = errors.New("another connection serves the request")

// RoundTrip tells the dials for a request when the request begins and ends.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if s := senderOf(req.Context()); s != nil { // unless a RequestFunc gave it another context
		s.begin(req)
		defer s.end()
	}
	return c.transport.RoundTrip(req)
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s := senderOf(ctx); s != nil && !s.countDial(c.mostDials) {
		return nil, errHandedBack
	}
	ctx, cancel := withSender(ctx, dialTimeout)
	defer cancel()
	return c.track(c.dialer.DialContext(ctx, network, address))
}

// dialTLS connects to an https origin, unless another's connection does for this request too.
func (c *Client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	s := senderOf(ctx)
	if s == nil || s.needsHTTP1() {
		return c.secure(ctx, network, address)
	}
	first, own := c.handshakes.join(address)
	if first != nil {
		waiting, cancel := withSender(ctx, dialTimeout)
		defer cancel()
		if s.shares(waiting, first, c.patience(s)) {
			return nil, cmp.Or(waiting.Err(), errShared)
		}
	}
	conn, err := c.secure(ctx, network, address)
	c.handshakes.answer(address, own, conn)
	return conn, err
}

// patience returns how long a request waits for another's handshake: most of
// its own time must be left.
func (c *Client) patience(s *sender) time.Duration {
	patience := handshakePatience
	if c.timeout > 0 {
		patience = min(patience, c.timeout/4)
	}
	if deadline, ok := s.ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/4)
	}
	return patience
}

// secure dials and shakes hands. net/http would shake hands itself, but go on with
// that after the end of the attempt, and count the connection against MaxConnsPerHost.
func (c *Client) secure(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx, network, address)
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

// senderKey is the key of the *sender in the context of requests.
type senderKey struct{}

// A sender is what dials know of the requests that they are for: one after the other, in
// one context.
type sender struct {
	ctx context.Context

	mu        sync.Mutex
	dials     int           // for the request at hand
	http1Only bool          // net/http gives it no connection of another request
	alone     bool          // it connects by itself: it is http1Only, or has waited already
	over      chan struct{} // closed when the request has its response, or none; nil: nobody waits for that
}

// NewContext returns a context for the requests of one sender, which sends one after the
// other. net/http dials in a context that has the values of the request's but goes on when
// that ends: the value that NewContext adds lets dials find out.
func NewContext(parent context.Context) context.Context {
	s := &sender{ctx: parent}
	return context.WithValue(parent, senderKey{}, s)
}

func senderOf(ctx context.Context) *sender {
	s, _ := ctx.Value(senderKey{}).(*sender)
	return s
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

// begin is called when a request is about to be sent.
func (s *sender) begin(req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = 0
	s.http1Only = req.Header["Upgrade"] != nil
	s.alone = s.http1Only
}

// end is called when the request has its response, or none.
func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
}

func (s *sender) needsHTTP1() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http1Only
}

// countDial counts a dial, and reports whether it is one of the first most.
func (s *sender) countDial(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	return s.dials <= most
}

// wait returns a channel that is closed at the end of the request, or nil if the request is
// to connect by itself.
func (s *sender) wait() (over <-chan struct{}) {
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

func (c *Client) track(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	tracked := &trackedConn{Conn: conn, owner: c, closed: make(chan struct{})}
	c.conns[tracked] = struct{}{}
	return tracked, nil
}

type trackedConn struct {
	net.Conn
	owner *Client

	closing sync.Once
	closed  chan struct{}
}

func (c *trackedConn) Close() error {
	c.closing.Do(func() {
		c.owner.mu.Lock()
		delete(c.owner.conns, c)
		c.owner.mu.Unlock()
		close(c.closed)
	})
	return c.Conn.Close()
}
