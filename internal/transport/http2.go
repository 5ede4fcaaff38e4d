package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// An http2Conn is a connection of HTTP/2. Its place is among the idle ones all the time, as it
// alone knows how many requests it has.
type http2Conn struct {
	place
	pool   *pool
	origin *origin
	conn   *http.ClientConn
	dial   *dial // under way until the connection is ready
	socket net.Conn
	served atomic.Bool // a request

	// Under pool.mu:
	taking int  // requests that are about to reserve a place
	told   bool // the server has told how many requests it takes at a time
	added  bool // to its origin, and not removed
	dead   bool
}

// connKey is the key of the connection that newHTTP2's dials return.
type connKey struct{}

// newHTTP2 returns a Transport that makes connections of HTTP/2 out of others. It takes those of
// TLS for plain ones, as they are wrapped.
func newHTTP2() *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(connKey{}).(net.Conn), nil
		},
		MaxResponseHeaderBytes: 1 << 20,
		IdleConnTimeout:        idleTimeout,
		HTTP2:                  http2Config(),
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// newHTTP2Conn speaks HTTP/2 over a connection, which it closes if that fails, and has reserved a
// place on it.
func (p *pool) newHTTP2Conn(o *origin, d *dial, s *secured) (*http2Conn, error) {
	c := &http2Conn{pool: p, origin: o, dial: d, socket: s.Conn}
	ctx := context.WithValue(d.ctx, connKey{}, &watched{Conn: s.Conn, owner: c})
	// net/http writes its first frames whatever becomes of the context.
	stop := context.AfterFunc(d.ctx, func() { s.records.Close() })
	var err error
	if c.conn, err = p.http2.NewClientConn(ctx, "http", o.address()); err == nil {
		c.conn.SetStateHook(c.changed)
		err = c.conn.Reserve()
	}
	if !stop() && err == nil {
		err = context.Cause(d.ctx)
	}
	if err != nil {
		s.records.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: s.RemoteAddr(), Err: err}
	}
	return c, nil
}

// A watched connection tells when net/http has read the first frame, which is SETTINGS (RFC 9113,
// section 3.4). A request that is sent before may be more than the server takes, and
// would wait for all that were sent before it.
type watched struct {
	*tls.Conn
	owner *http2Conn
	got   bool // bytes
	told  bool // that the connection is ready
}

// Read is called by one goroutine, which comes back when it is done with the bytes that it got.
func (w *watched) Read(p []byte) (int, error) {
	if w.got && !w.told {
		w.told = true
		w.owner.readied()
	}
	n, err := w.Conn.Read(p)
	w.got = w.got || n > 0
	if err != nil {
		w.owner.died()
	}
	return n, err
}

// readied is called when the server has told how many requests it takes.
func (c *http2Conn) readied() {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.told = true
	c.announceLocked()
}

// readyLocked reports whether others than the request that made the connection may take it.
func (c *http2Conn) readyLocked() bool { return c.told && c.added }

// announceLocked tells the others of the origin, once the connection is ready.
func (c *http2Conn) announceLocked() {
	if !c.readyLocked() {
		return
	}
	free := c.conn.Available()
	c.origin.endLocked(c.dial, true, time.Now())
	c.origin.http2Locked(free+c.conn.InFlight(), free)
}

// changed is called when a request is over, and when the server takes more of them.
func (c *http2Conn) changed(*http.ClientConn) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.added && c.isIdleLocked() {
		c.pool.idle.remove(&c.place)
		c.pool.rankLocked(&c.place) // idle since now
	}
	if c.isFreeLocked() {
		c.origin.freedLocked()
	}
	if c.origin.waiting > 0 {
		c.origin.wakeLocked()
	}
}

// isFreeLocked reports whether the connection takes another request.
func (c *http2Conn) isFreeLocked() bool { return c.readyLocked() && c.conn.Available() > 0 }

// died is called when nothing more can be read, or after that.
func (c *http2Conn) died() {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.origin.endLocked(c.dial, false, time.Now()) // unless it has ended well
	c.dead = true
	if c.added {
		c.removeLocked()
	}
}

// reserve returns a connection of HTTP/2 with a place reserved on it, or nil.
func (p *pool) reserve(o *origin) *http2Conn {
	for i := 0; ; i++ {
		c := p.takeHTTP2(o, i)
		if c == nil {
			return nil
		}
		err := c.conn.Reserve()
		p.mu.Lock()
		c.taking--
		p.mu.Unlock()
		if err == nil {
			return c
		}
	}
}

// takeHTTP2 returns the i-th connection of HTTP/2 that is ready, or nil. It cannot be closed as
// idle until it is given back.
func (p *pool) takeHTTP2(o *origin, i int) *http2Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range o.http2 {
		if !c.readyLocked() {
			continue
		}
		if i--; i < 0 {
			c.taking++
			p.idle.remove(&c.place)
			p.rankLocked(&c.place)
			return c
		}
	}
	return nil
}

// addLocked makes a new connection one of its origin's.
func (p *pool) addLocked(c *http2Conn) {
	if c.dead {
		return
	}
	c.holder = c
	c.added = true
	c.origin.http2 = append(c.origin.http2, c)
	p.rankLocked(&c.place)
	c.announceLocked()
}

// isIdleLocked is that of holder. net/http's lock is taken under the pool's, never the other
// way round.
func (c *http2Conn) isIdleLocked() bool {
	return c.readyLocked() && c.taking == 0 && c.conn.InFlight() == 0
}

// removeLocked is that of holder.
func (c *http2Conn) removeLocked() {
	o := c.origin
	c.added = false
	o.http2 = slices.DeleteFunc(o.http2, func(other *http2Conn) bool { return other == c })
	c.pool.idle.remove(&c.place)
	c.pool.forgetLocked(o)
}

// Close is that of holder.
func (c *http2Conn) Close() error { return c.conn.Close() }
