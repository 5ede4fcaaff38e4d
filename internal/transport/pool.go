package transport

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A pool has the connections to all origins. It has no more to one than there are requests at a
// time: a request dials on its own goroutine, and only when no connection to its origin is idle.
type pool struct {
	dialer    *dialer
	http2     *http.Transport // makes connections of HTTP/2
	timeout   time.Duration   // of an attempt; 0: none
	mostDials int             // for one request
	mostIdle  int

	mu      sync.Mutex
	origins map[key]*origin
	idle    idleList    // all idle connections of HTTP/1.1, and all of HTTP/2
	janitor *time.Timer // runs expire; nil: nothing can expire
}

// A key is that of an origin (RFC 9110, section 4.3.1).
type key struct {
	secure bool
	host   string // in lower case, without the default port
}

// An origin has the connections to one server. It is forgotten when it has none, and no request.
type origin struct {
	key
	requests int
	idle     []*conn // the one used last comes last
	http2    []*http2Conn
	election
}

func newPool(d *dialer, c Config) *pool {
	return &pool{
		dialer: d, http2: newHTTP2(), timeout: c.Timeout, origins: map[key]*origin{},
		mostDials: mostDials(c.Concurrency), mostIdle: maxIdle(c),
	}
}

func keyOf(u *url.URL) key {
	secure := u.Scheme == "https"
	host := strings.TrimSuffix(u.Host, ":")
	if secure {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return key{secure, strings.ToLower(host)}
}

// address returns the address to dial.
func (k key) address() string {
	switch {
	case hasPort(k.host):
		return k.host
	case k.secure:
		return k.host + ":443"
	}
	return k.host + ":80"
}

// hasPort reports whether a host names a port.
func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

// enter returns an origin for one request. It is to be left.
func (p *pool) enter(k key) *origin {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.origins[k]
	if o == nil {
		o = &origin{key: k, election: newElection(k.secure)}
		p.origins[k] = o
	}
	o.requests++
	return o
}

// leave is called when a request that entered the origin is over.
func (p *pool) leave(o *origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.requests--
	p.forgetLocked(o)
}

func (p *pool) forgetLocked(o *origin) {
	if o.requests == 0 && len(o.idle) == 0 && len(o.http2) == 0 {
		delete(p.origins, o.key)
	}
}

// take returns an idle connection to the origin that is quiet, or nil.
func (p *pool) take(o *origin) *conn {
	for {
		c := p.pop(o)
		if c == nil || c.Quiet() {
			return c
		}
		c.Close()
	}
}

func (p *pool) pop(o *origin) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.popLocked(o)
}

func (p *pool) popLocked(o *origin) *conn {
	last := len(o.idle) - 1
	if last < 0 {
		return nil
	}
	c := o.idle[last]
	o.idle[last] = nil
	o.idle = o.idle[:last]
	p.idle.remove(&c.place)
	return c
}

// put makes a connection idle, or gives it to a request whose dial may hang.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	c.waited = true
	if c.origin.giveLocked(c) {
		c.since = time.Now() // it takes no place, which would note that
	} else {
		p.keepLocked(c)
	}
	full := p.idle.count > p.mostIdle
	p.mu.Unlock()
	if full {
		p.trim()
	}
}

func (p *pool) keepLocked(c *conn) {
	c.holder = c
	c.origin.idle = append(c.origin.idle, c)
	p.rankLocked(&c.place)
}

// rankLocked makes a place the last to be given up.
func (p *pool) rankLocked(at *place) {
	p.idle.append(at, time.Now())
	if p.janitor == nil {
		p.janitor = time.AfterFunc(idleTimeout, p.expire)
	}
}

// trim closes the connections that have been idle for longest, while there are too many.
func (p *pool) trim() {
	p.mu.Lock()
	var closed []holder
	for tries := p.idle.count; tries > 0 && p.idle.count > p.mostIdle; tries-- {
		if at := p.idle.first; at.holder.isIdleLocked() {
			at.holder.removeLocked()
			closed = append(closed, at.holder)
		} else {
			p.idle.remove(at)
			p.rankLocked(at)
		}
	}
	p.mu.Unlock()
	closeAll(closed)
}

// expire closes the connections whose time is over.
func (p *pool) expire() {
	limit := time.Now().Add(-idleTimeout)
	p.closeWhere(func(at *place) bool { return !at.since.After(limit) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.janitor = nil
	if first := p.idle.first; first != nil {
		p.janitor = time.AfterFunc(max(time.Second, time.Until(first.since.Add(idleTimeout))), p.expire)
	}
}

// closeIdle closes all connections that no request uses.
func (p *pool) closeIdle() {
	p.closeWhere(func(*place) bool { return true })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.janitor != nil && p.idle.count == 0 { // others may have come meanwhile
		p.janitor.Stop()
		p.janitor = nil
	}
}

// closeWhere closes the idle connections that match.
func (p *pool) closeWhere(match func(*place) bool) {
	p.mu.Lock()
	var closed []holder
	for at := p.idle.first; at != nil; {
		next := at.next
		if match(at) && at.holder.isIdleLocked() {
			at.holder.removeLocked()
			closed = append(closed, at.holder)
		}
		at = next
	}
	p.mu.Unlock()
	closeAll(closed)
}

func closeAll(holders []holder) {
	for _, h := range holders {
		h.Close()
	}
}
