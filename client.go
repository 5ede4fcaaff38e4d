package fetch

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// An ownClient is the transport of a Fetcher that was given no client, or one that is to be
// guarded. It knows its connections, so that none is left open at the end.
type ownClient struct {
	transport  *http.Transport
	dialer     net.Dialer
	handshakes handshakes
	mostDials  int           // for one request
	timeout    time.Duration // of an attempt; 0: none

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
		dialer:     net.Dialer{KeepAlive: 30 * time.Second},
		conns:      map[*trackedConn]struct{}{},
		handshakes: handshakes{first: map[string]*handshake{}, http1: map[string]struct{}{}},
		mostDials:  mostDials(c.concurrency),
		timeout:    c.timeout,
	}
	if c.guard != nil {
		own.dialer.ControlContext = c.guard.ControlContext
	}
	if c.client != nil {
		own.transport = own.guarded(c.client.Transport.(*http.Transport))
	} else {
		own.transport = own.newTransport(c)
	}
	return own
}

// guarded returns a clone of the caller's transport that dials as o does.
func (o *ownClient) guarded(given *http.Transport) *http.Transport {
	t := given.Clone()
	t.DialContext = o.dial
	if given.TLSNextProto["h2"] != nil {
		// With a DialContext it would offer HTTP/2, as the clone of the
		// TLSClientConfig says, but not speak it.
		t.ForceAttemptHTTP2 = true
	}
	return t
}

func (o *ownClient) newTransport(c *config) *http.Transport {
	t := &http.Transport{
		DialContext:            o.dial,
		DialTLSContext:         o.dialTLS,
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
	if c.guard == nil { // a guard would only see the address of the proxy
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// close closes every connection, those of HTTP/2 too that are not idle yet
// although their streams have been cancelled.
func (o *ownClient) close() {
	// Also ends the dials that no request waits for any more.
	o.transport.CloseIdleConnections()
	o.handshakes.close()
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
	tracked := &trackedConn{Conn: conn, owner: o, closed: make(chan struct{})}
	o.conns[tracked] = struct{}{}
	return tracked, nil
}

type trackedConn struct {
	net.Conn
	owner *ownClient

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
