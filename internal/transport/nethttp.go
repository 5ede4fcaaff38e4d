package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// newTransport returns net/http's Transport with the limits of a Fetcher.
func (c *Client) newTransport(config Config) *http.Transport {
	t := &http.Transport{
		DialContext:            c.dial,
		DialTLSContext:         c.dialTLS,
		TLSHandshakeTimeout:    handshakeTimeout, // behind a proxy
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		// Without a limit 15,000 hosts would leave 30,000 goroutines for 90 s.
		MaxIdleConns: maxIdle(config),
		// The limits of hosts may be smaller, but to net/http everything behind a
		// proxy is one host.
		MaxIdleConnsPerHost: config.Concurrency,
		// net/http gives a connection that comes back to a dial that waits, so
		// that a worker which asks again at once dials once more. This limit makes
		// it wait for a connection that there is. Nothing waits long for it:
		// no more requests are in flight, and their dials end with them.
		MaxConnsPerHost:   config.Concurrency,
		IdleConnTimeout:   idleTimeout,
		ForceAttemptHTTP2: true,
		HTTP2:             http2Config(),
	}
	if c.proxy != nil {
		t.Proxy, t.OnProxyConnectResponse = c.proxy, checkTunnel
		// Handshakes within a tunnel, and with the proxy, are net/http's.
		t.TLSClientConfig = config.TLS.Clone()
		if config.TLS != nil && config.TLS.NextProtos != nil && !slices.Contains(config.TLS.NextProtos, "h2") {
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
		}
	}
	return t
}

func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
}

// maxIdle returns how many connections may be idle.
func maxIdle(c Config) int { return max(256, 2*c.Concurrency) }

// mostDials returns how often one request may connect. net/http connects anew, at once and
// without end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with
// PROTOCOL_ERROR). It also does when others have taken all places on the new connection,
// which with n in flight and s places can happen n/s times.
func mostDials(concurrency int) int { return 16 + concurrency/16 }

var errHandedBack = errors.New("the server hands the request back on every connection")

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

// isPooled reports whether the pool may take a request, as far as its head tells.
func isPooled(req *http.Request) bool {
	return (req.URL.Scheme == "http" || req.URL.Scheme == "https") && isPlain(req.URL.Host) &&
		req.Header["Upgrade"] == nil
}

// isPlain reports whether net/http would dial a host as it is written.
func isPlain(host string) bool {
	for i := range len(host) {
		if host[i] >= 0x80 || host[i] == '%' {
			return false
		}
	}
	return host != ""
}

// callKey is the key of the *call in the context of requests.
type callKey struct{}

// A call is what the dials of net/http know of the request that they are for: their context has
// its values, but does not end with it.
type call struct {
	ctx  context.Context
	most int // dials

	mu    sync.Mutex
	dials int
	conn  net.Conn // to be used for the first; nil: none
}

// viaNetHTTP sends a request through net/http, over the given connection if it has none to the
// host and this is not nil.
func (c *Client) viaNetHTTP(req *http.Request, conn *conn) (*http.Response, error) {
	k := &call{ctx: req.Context(), most: c.mostDials}
	if conn != nil {
		k.conn = conn.secured.Conn
	}
	ctx := context.WithValue(req.Context(), callKey{}, k)
	resp, err := c.send(ctx, req)
	if conn != nil && k.takeConn() != nil {
		conn.pool.put(conn)
	}
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// send sends a request through net/http, with ctx.
func (c *Client) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" || !c.isProxied(req) {
		return c.netHTTP.RoundTrip(req.WithContext(ctx))
	}
	var watch tunnelWatch
	resp, err := c.netHTTP.RoundTrip(req.WithContext(watch.over(ctx)))
	return resp, watch.review(err)
}

// takeConn returns the connection that the call came with, once.
func (k *call) takeConn() net.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	conn := k.conn
	k.conn = nil
	return conn
}

// countDial counts a dial, and reports whether it is one too many.
func (k *call) countDial() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dials++; k.dials > k.most {
		return errHandedBack
	}
	return nil
}

// within returns a context that ends with the call's.
func (k *call) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(k.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func (c *Client) dial(ctx context.Context, _, address string) (net.Conn, error) {
	k := ctx.Value(callKey{}).(*call)
	if err := k.countDial(); err != nil {
		return nil, err
	}
	ctx, cancel := k.within(ctx)
	defer cancel()
	socket, err := c.dialer.dial(ctx, address)
	if err != nil {
		return nil, err // not a *h1.Socket that is nil
	}
	return socket, nil
}

func (c *Client) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	k := ctx.Value(callKey{}).(*call)
	if conn := k.takeConn(); conn != nil {
		return conn, nil
	}
	if err := k.countDial(); err != nil {
		return nil, err
	}
	ctx, cancel := k.within(ctx)
	defer cancel()
	conn, err := c.dialer.secure(ctx, address)
	if err != nil {
		return nil, err
	}
	return conn.Conn, nil
}
