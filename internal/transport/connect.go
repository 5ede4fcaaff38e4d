package transport

import (
	"context"
	"slices"
	"time"
)

// connect returns a connection for a request: an idle one unless it is to be fresh, one of HTTP/2
// with a place reserved, or a new one.
func (p *pool) connect(x *exchange, fresh bool) (*conn, *http2Conn, error) {
	o := x.origin
	for {
		changes := p.changesOf(o)
		if !fresh {
			if c := p.take(o); c != nil {
				return c, nil, nil
			}
		}
		if c := p.reserve(o); c != nil {
			return nil, c, nil
		}
		d, err := p.startDial(x, fresh, changes)
		switch {
		case err != nil:
			return nil, nil, err
		case d == nil:
			continue
		}
		c, http2, err := p.dial(o, d)
		given := p.settle(o, d)
		if err == nil || !d.wasOvertaken() || x.req.Context().Err() != nil {
			if given != nil {
				p.put(given)
			}
			return c, http2, err
		}
		x.dials-- // it was not the server that ended this one
		if given != nil {
			if given.Quiet() {
				return given, nil, nil
			}
			given.Close()
		}
	}
}

// rescue is called when a dial hangs. A connection may have been free for long.
func (p *pool) rescue(o *origin, d *dial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.hangs = true
	switch {
	case d.settled, d.over:
	case slices.ContainsFunc(o.http2, (*http2Conn).isFreeLocked):
		o.freedLocked()
	default:
		if c := p.popLocked(o); c != nil && !o.giveLocked(c) {
			p.keepLocked(c)
		}
	}
}

// settle returns the connection that the request of a dial was given.
func (p *pool) settle(o *origin, d *dial) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.settleLocked(d)
}

// changesOf returns how often the origin has changed.
func (p *pool) changesOf(o *origin) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.changes
}

// speaksHTTP1 reports whether each request to the origin needs a connection of its own.
func (p *pool) speaksHTTP1(o *origin) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.http1
}

// startDial returns a dial for the request. It returns nil when the origin has changed since it
// had so many changes, or when it is time to look again: it waits for that if others dial.
func (p *pool) startDial(x *exchange, fresh bool, changes int) (*dial, error) {
	ctx := x.req.Context()
	p.mu.Lock()
	if x.origin.changes != changes {
		p.mu.Unlock()
		return nil, nil
	}
	now := time.Now()
	wait := x.origin.waitLocked(now, p.patience(ctx))
	if wait <= 0 {
		defer p.mu.Unlock()
		if x.dials++; x.dials > p.mostDials {
			return nil, errHandedBack
		}
		d := x.origin.dialLocked(ctx, fresh, now)
		o := x.origin // so that x itself stays on the stack
		d.alarm = time.AfterFunc(o.hangsAfterLocked(), func() { p.rescue(o, d) })
		return d, nil
	}
	changed := x.origin.changedLocked()
	x.origin.waiting++
	p.mu.Unlock()
	defer p.waited(x.origin)

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return nil, nil
}

func (p *pool) waited(o *origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.waiting--
}

// patience returns how long a request waits for another's handshake: most of
// its own time must be left.
func (p *pool) patience(ctx context.Context) time.Duration {
	patience := patience
	if p.timeout > 0 {
		patience = min(patience, p.timeout/4)
	}
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/4)
	}
	return patience
}

func (p *pool) endDial(o *origin, d *dial, made bool) {
	d.cancel(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	o.endLocked(d, made, time.Now())
}

// dial makes a connection. Whether it is one of HTTP/2 is for the server to say.
func (p *pool) dial(o *origin, d *dial) (*conn, *http2Conn, error) {
	returned := false
	defer func() {
		if !returned { // a hook of the caller's has panicked, or exited
			p.endDial(o, d, false)
		}
	}()
	c, http2, err := p.tryDial(o, d)
	returned = true
	return c, http2, err
}

func (p *pool) tryDial(o *origin, d *dial) (*conn, *http2Conn, error) {
	if !o.secure {
		socket, err := p.dialer.dial(d.ctx, o.address())
		p.endDial(o, d, err == nil)
		if err != nil {
			return nil, nil, err
		}
		return p.newConn(o, socket), nil, nil
	}
	s, err := p.dialer.secure(d.ctx, o.address())
	if err != nil {
		p.endDial(o, d, false)
		return nil, nil, err
	}
	if s.ConnectionState().NegotiatedProtocol == "h2" {
		c, err := p.share(o, d, s)
		return nil, c, err
	}
	p.mu.Lock()
	o.http1 = true
	p.mu.Unlock()
	p.endDial(o, d, true)
	return p.newTLSConn(o, s), nil, nil
}

// share makes a connection of HTTP/2 that of the origin, unless there is one.
func (p *pool) share(o *origin, d *dial, s *secured) (*http2Conn, error) {
	if c := p.reserve(o); c != nil {
		p.endDial(o, d, true)
		s.Close()
		return c, nil
	}
	c, err := p.newHTTP2Conn(o, d, s)
	if err != nil {
		p.endDial(o, d, false)
		return nil, err
	}
	p.mu.Lock()
	p.addLocked(c)
	p.mu.Unlock()
	d.cancel(nil)
	p.trim()
	return c, nil
}
