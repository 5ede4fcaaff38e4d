// Package transport is the Fetcher's own client: an http.RoundTripper that owns its connections.
// Requests without a body go over a pool of connections: of HTTP/1.1, on the goroutine of the
// caller, and of HTTP/2, one to each origin. The others, and all of a transport that the caller
// has configured, go through net/http's Transport.
//
// A Client owns all connections that it dials. It is safe for concurrent use. Its locks are its
// own; of other packages' code only http.ClientConn's, which takes no lock of ours, runs under them.
package transport

import (
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/batchhttp/fetch/internal/netguard"
)

// Config has the limits of a Client.
type Config struct {
	Concurrency int             // requests in flight
	Timeout     time.Duration   // of an attempt; 0 is none
	Guard       *netguard.Guard // nil is none
	TLS         *tls.Config     // for handshakes, not changed any more; nil is the default
	Proxy       proxyFunc       // code of the caller's, perhaps; nil is none
	Base        *http.Transport // to be cloned and guarded; nil: one made for the limits
}

// A Client sends requests. Make one with New.
type Client struct {
	dialer  *dialer
	pool    *pool           // nil with a Base
	netHTTP *http.Transport // for the requests that the pool does not take
	proxy   proxyFunc       // of netHTTP

	mostDials int // for one request
}

const idleTimeout = 90 * time.Second

// New returns a Client. It changes nothing of c.Base.
func New(c Config) *Client {
	client := &Client{dialer: newDialer(c), proxy: c.Proxy, mostDials: mostDials(c.Concurrency)}
	if c.Base != nil {
		client.netHTTP = client.guarded(c.Base)
		return client
	}
	client.netHTTP = client.newTransport(c)
	client.pool = newPool(client.dialer, c)
	return client
}

// RoundTrip sends a request. These go through net/http's Transport:
//
//   - requests to a proxy, and those of a transport that the caller has configured;
//   - requests with the field Upgrade, or of HTTP/1.1 and unlike those that h1.Head.Write takes:
//     with a body, above all;
//   - requests to a host that is not plain ASCII, or has a zone.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if c.pool == nil || !isPooled(req) || c.isProxied(req) {
		return c.viaNetHTTP(req, nil)
	}
	s := begin(req.Context())
	plain := s.head.Write(req)
	if !plain && req.URL.Scheme == "http" {
		s.end()
		return c.viaNetHTTP(req, nil)
	}
	x := exchange{
		client: c, req: req, sender: s, plain: plain,
		trace: httptrace.ContextClientTrace(req.Context()), origin: c.pool.enter(keyOf(req.URL)),
	}
	defer x.leave()
	return x.roundTrip()
}

// CloseIdle closes the connections that no request uses.
func (c *Client) CloseIdle() {
	c.netHTTP.CloseIdleConnections()
	if c.pool != nil {
		c.pool.closeIdle()
	}
}

// Close closes every connection, those of HTTP/2 too that are not idle yet
// although their streams have been cancelled. The Client can dial no more.
func (c *Client) Close() {
	c.CloseIdle() // also ends the dials that no request waits for any more
	c.dialer.close()
}
