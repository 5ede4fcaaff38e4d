// Package transport is the Fetcher's own client: an http.RoundTripper that knows its
// connections, so that none is left open at the end, and that shares one connection to an
// origin which speaks HTTP/2.
//
// A Client owns all connections that it dials. It is safe for concurrent use; its locks are
// its own, and no other package's code runs under them.
package transport

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/netguard"
)

// Config has the limits of a Client.
type Config struct {
	Concurrency int             // requests in flight
	Timeout     time.Duration   // of an attempt; 0 is none
	Guard       *netguard.Guard // nil is none
	Base        *http.Transport // to be cloned and guarded; nil: one made for the limits
}

// A Client sends requests. Make one with New.
type Client struct {
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

// New returns a Client. It changes nothing of c.Base.
func New(c Config) *Client {
	client := &Client{
		dialer:     net.Dialer{KeepAlive: 30 * time.Second},
		conns:      map[*trackedConn]struct{}{},
		handshakes: handshakes{first: map[string]*handshake{}, http1: map[string]struct{}{}},
		mostDials:  mostDials(c.Concurrency),
		timeout:    c.Timeout,
	}
	if c.Guard != nil {
		client.dialer.ControlContext = c.Guard.ControlContext
	}
	if c.Base != nil {
		client.transport = client.guarded(c.Base)
	} else {
		client.transport = client.newTransport(c)
	}
	return client
}

// guarded returns a clone of the caller's transport that dials as c does.
func (c *Client) guarded(base *http.Transport) *http.Transport {
	t := base.Clone()
	t.DialContext = c.dial
	if base.TLSNextProto["h2"] != nil {
		// With a DialContext it would offer HTTP/2, as the clone of the
		// TLSClientConfig says, but not speak it.
		t.ForceAttemptHTTP2 = true
	}
	return t
}

func (c *Client) newTransport(config Config) *http.Transport {
	t := &http.Transport{
		DialContext:            c.dial,
		DialTLSContext:         c.dialTLS,
		TLSHandshakeTimeout:    handshakeTimeout, // behind a proxy
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		// Without a limit 15,000 hosts would leave 30,000 goroutines for 90 s.
		MaxIdleConns: max(256, 2*config.Concurrency),
		// The limits of hosts may be smaller, but to net/http everything behind a
		// proxy is one host.
		MaxIdleConnsPerHost: config.Concurrency,
		// net/http gives a connection that comes back to a dial that waits, so
		// that a worker which asks again at once dials once more. This limit makes
		// it wait for a connection that there is. Nothing waits long for it:
		// no more requests are in flight, and their dials end with them.
		MaxConnsPerHost:   config.Concurrency,
		IdleConnTimeout:   90 * time.Second,
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
	if config.Guard == nil { // a guard would only see the address of the proxy
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// mostDials returns how often one request may connect. net/http connects anew, at once and
// without end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with
// PROTOCOL_ERROR). It also does when others have taken all places on the new connection,
// which with n in flight and s places can happen n/s times.
func mostDials(concurrency int) int { return 16 + concurrency/16 }

// CloseIdle closes the connections that no request uses.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// Close closes every connection, those of HTTP/2 too that are not idle yet
// although their streams have been cancelled. The Client can dial no more.
func (c *Client) Close() {
	// Also ends the dials that no request waits for any more.
	c.transport.CloseIdleConnections()
	c.handshakes.close()
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for conn := range conns {
		conn.Conn.Close()
	}
}
