package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// mostDials returns how often one request may connect. net/http connects anew, at once and
// without end, as long as an HTTP/2 server hands the request back (GOAWAY, or a reset with
// PROTOCOL_ERROR). It also does when others have taken all places on the new connection,
// which with n in flight and s places can happen n/s times.
func mostDials(concurrency int) int { return 16 + concurrency/16 }

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
