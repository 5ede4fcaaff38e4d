package transport

import (
	"net/http"
	"slices"

	"github.com/batchhttp/fetch/internal/h1"
	"github.com/batchhttp/fetch/internal/retry"
)

// A conn is a connection of HTTP/1.1 in the pool.
type conn struct {
	*h1.Conn
	place   // among the idle ones
	pool    *pool
	origin  *origin
	socket  *h1.Socket
	secured *secured // nil without TLS
	waited  bool     // was idle before the exchange at hand
	sender  *sender  // of the exchange at hand
}

func (p *pool) newConn(o *origin, s *h1.Socket) *conn {
	c := &conn{pool: p, origin: o, socket: s}
	c.Conn = h1.NewConn(s, c)
	return c
}

func (p *pool) newTLSConn(o *origin, s *secured) *conn {
	c := &conn{pool: p, origin: o, socket: s.records.Socket, secured: s}
	c.Conn = h1.NewTLSConn(s.Conn, s.records, c)
	return c
}

// send sends the request whose head s has.
func (c *conn) send(req *http.Request, s *sender) (*http.Response, error) {
	if !s.use(c.socket) {
		c.pool.put(c)
		return nil, req.Context().Err()
	}
	c.sender = s
	resp, err := c.RoundTrip(req, &s.head)
	if err != nil {
		s.leave()
		c.Close()
	}
	return resp, err
}

// repeats reports whether a request that failed on c is to be sent once more, on a new
// connection: the server may have closed this one while it was idle (RFC 9112, section 9.3.1).
func (c *conn) repeats(req *http.Request) bool {
	return c.waited && !c.Answered() && req.Context().Err() == nil &&
		(!c.Sent() || retry.Idempotent(req.Method, req.Header))
}

// isIdleLocked is that of holder.
func (c *conn) isIdleLocked() bool { return true }

// removeLocked is that of holder.
func (c *conn) removeLocked() {
	o := c.origin
	o.idle = slices.DeleteFunc(o.idle, func(other *conn) bool { return other == c })
	c.pool.idle.remove(&c.place)
	c.pool.forgetLocked(o)
}

// Over is that of h1.Owner.
func (c *conn) Over(clean bool) {
	s := c.sender
	c.sender = nil
	interrupted := s.leave()
	if clean && !interrupted {
		c.pool.put(c)
	} else {
		c.Close()
	}
	s.end()
	c.pool.leave(c.origin)
}
