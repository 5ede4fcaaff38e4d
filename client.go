package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// An ownClient is the transport of a Fetcher that was given no client, or one that is to be
// guarded. It knows its connections, so that none is left open at the end.
type ownClient struct {
	transport *http.Transport
	dialer    net.Dialer

	mu     sync.Mutex
	conns  map[*trackedConn]struct{}
	closed bool
}

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

func newOwnClient(c *config) *ownClient {
	own := &ownClient{
		dialer: net.Dialer{KeepAlive: 30 * time.Second},
		conns:  map[*trackedConn]struct{}{},
	}
	if c.guard != nil {
		own.dialer.ControlContext = c.guard.ControlContext
	}
	if c.client != nil {
		given := c.client.Transport.(*http.Transport)
		own.transport = given.Clone()
		own.transport.DialContext = own.dial
		if given.TLSNextProto["h2"] != nil {
			// With a DialContext it would offer HTTP/2, as the clone of the
			// TLSClientConfig says, but not speak it.
			own.transport.ForceAttemptHTTP2 = true
		}
		return own
	}
	own.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            own.dial,
		DialTLSContext:         own.dialTLS,
		TLSHandshakeTimeout:    handshakeTimeout, // behind a proxy
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		// Without a limit 15,000 hosts would leave 30,000 goroutines for 90 s.
		MaxIdleConns: max(256, 2*c.concurrency),
		// The limits of hosts may be smaller, but to net/http everything behind a
		// proxy is one host.
		MaxIdleConnsPerHost: c.concurrency,
		// net/http gives a connection that comes back to a dial that waits, so
		// that a worker which asks again at once dials once more. This limit makes
		// it wait for a connection that there is. Nothing waits long for it:
		// no more requests are in flight, and what they dial ends with them.
		MaxConnsPerHost:   c.concurrency,
		IdleConnTimeout:   90 * time.Second,
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
	if c.guard != nil {
		own.transport.Proxy = nil
	}
	return own
}

// attemptKey is the key of the *attempt in the context of one.
type attemptKey struct{}

// An attempt is what dials know of whom they are for.
type attempt struct {
	ctx   context.Context
	dials atomic.Int32 // for the request at hand
}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// mostDials is how often one request may connect. net/http connects anew, at once and without
// end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with PROTOCOL_ERROR).
const mostDials = 8

var errHandedBack = errors.New("the server hands the request back on every connection")

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

func (o *ownClient) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if a := attemptOf(ctx); a != nil && a.dials.Add(1) > mostDials {
		return nil, errHandedBack
	}
	ctx, cancel := dialContext(ctx, dialTimeout)
	defer cancel()
	return o.track(o.dialer.DialContext(ctx, network, address))
}

// dialTLS dials and shakes hands. net/http would shake hands itself, but go
// on with that, and count the connection, when the attempt has long ended.
func (o *ownClient) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := o.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		conn.Close()
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

// close closes every connection, those of HTTP/2 too that are not idle yet
// although their streams have been cancelled.
func (o *ownClient) close() {
	// Also ends the dials that no request waits for any more.
	o.transport.CloseIdleConnections()
	o.mu.Lock()
	o.closed = true
	conns := o.conns
	o.conns = nil
	o.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}

func (o *ownClient) track(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	tracked := &trackedConn{Conn: conn, owner: o}
	o.conns[tracked] = struct{}{}
	return tracked, nil
}

type trackedConn struct {
	net.Conn
	owner *ownClient
}

func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
