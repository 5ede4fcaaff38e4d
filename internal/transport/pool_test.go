package transport

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A recordedConn is a connection of which only the closing matters.
type recordedConn struct {
	net.Conn
	closes atomic.Int32
}

func (c *recordedConn) Close() error {
	c.closes.Add(1)
	return nil
}

func (c *recordedConn) closed() int { return int(c.closes.Load()) }

func TestKeysAndAddresses(t *testing.T) {
	for rawURL, want := range map[string]struct{ key, address string }{
		"http://a.example/":            {"a.example", "a.example:80"},
		"http://A.Example:80/":         {"a.example", "a.example:80"},
		"http://a.example:/":           {"a.example", "a.example:80"},
		"http://a.example:443/":        {"a.example:443", "a.example:443"},
		"http://a.example:8080/":       {"a.example:8080", "a.example:8080"},
		"http://a.example:180/":        {"a.example:180", "a.example:180"},
		"http://user:80@a.example/":    {"a.example", "a.example:80"},
		"http://a.example./":           {"a.example.", "a.example.:80"},
		"http://127.0.0.1:80/":         {"127.0.0.1", "127.0.0.1:80"},
		"http://[::1]/":                {"[::1]", "[::1]:80"},
		"http://[::1]:/":               {"[::1]", "[::1]:80"},
		"http://[::1]:80/":             {"[::1]", "[::1]:80"},
		"http://[::80]/":               {"[::80]", "[::80]:80"},
		"http://[2001:DB8::A]:8080/":   {"[2001:db8::a]:8080", "[2001:db8::a]:8080"},
		"https://a.example/":           {"a.example", "a.example:443"},
		"https://A.EXAMPLE:443/":       {"a.example", "a.example:443"},
		"https://a.example:80/":        {"a.example:80", "a.example:80"},
		"https://a.example:1443/":      {"a.example:1443", "a.example:1443"},
		"https://[::443]/":             {"[::443]", "[::443]:443"},
		"https://[::1]:443/":           {"[::1]", "[::1]:443"},
		"https://[2001:DB8::443]:443/": {"[2001:db8::443]", "[2001:db8::443]:443"},
	} {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		k := keyOf(u)
		if k.host != want.key || k.address() != want.address || k.secure != (u.Scheme == "https") {
			t.Errorf("%s: %+v, %s; want %v", rawURL, k, k.address(), want)
		}
		if _, _, err := net.SplitHostPort(k.address()); err != nil {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
}

// checkIdle checks that the lists of a pool are about the same connections.
func (p *pool) checkIdle(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	count, since := 0, time.Time{}
	var last *place
	for at := p.idle.first; at != nil; at = at.next {
		if at.prev != last || at.since.Before(since) {
			t.Error("the places are not in order")
		}
		last, since = at, at.since
		count++
	}
	of := 0
	for key, o := range p.origins {
		of += len(o.idle) + len(o.http2)
		if o.requests == 0 && len(o.idle) == 0 && len(o.http2) == 0 {
			t.Errorf("%v is to be forgotten", key)
		}
	}
	if p.idle.last != last || p.idle.count != count || of != count {
		t.Errorf("%d places, %d counted, %d connections", count, p.idle.count, of)
	}
}

// The connection that was used last is used first, and the ones that have waited for
// longest are given up when there are too many.
func TestIdleConnectionsAreLimited(t *testing.T) {
	for _, test := range []struct{ concurrency, most int }{{1, 256}, {128, 256}, {129, 258}, {1000, 2000}} {
		p := newTestPool(t, Config{Concurrency: test.concurrency})
		var closed []*recordedConn
		var conns []*conn
		for i := range test.most + 10 {
			x := p.newExchange(t, fmt.Sprintf("http://%d.example/", i%100))
			c, recorded := newTestConn(p, x.origin)
			conns, closed = append(conns, c), append(closed, recorded)
			p.put(c)
			p.leave(x.origin)
		}
		p.checkIdle(t)
		if p.idle.count != test.most {
			t.Errorf("%d are idle, want %d", p.idle.count, test.most)
		}
		for i, c := range closed {
			if want := i < 10; (c.closed() == 1) != want || c.closed() > 1 {
				t.Errorf("the connection %d of %d was closed %d times", i, len(closed), c.closed())
			}
		}
		last := conns[len(conns)-1]
		p.enter(last.origin.key)
		if got := p.pop(last.origin); got != last {
			t.Error("another than the last is used first")
		}
		p.checkIdle(t)
	}
}

func TestIdleConnectionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, Config{})
		start := time.Now()
		closedAt := func() (after []time.Duration) {
			var conns []*recordedConn
			for i, wait := range []time.Duration{0, 10 * second, 35 * second} {
				time.Sleep(wait)
				x := p.newExchange(t, fmt.Sprintf("http://%d.example/", i))
				c, recorded := newTestConn(p, x.origin)
				conns = append(conns, recorded)
				p.put(c)
				p.leave(x.origin)
			}
			after = make([]time.Duration, len(conns))
			for range 200 {
				time.Sleep(second)
				synctest.Wait()
				for i, c := range conns {
					if c.closed() > 0 && after[i] == 0 {
						after[i] = time.Since(start)
					}
				}
			}
			return after
		}
		got := closedAt()
		if want := []time.Duration{90 * second, 100 * second, 135 * second}; !slices.Equal(got, want) {
			t.Errorf("closed after %v, want %v", got, want)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.origins) != 0 || p.janitor != nil {
			t.Errorf("%d origins, janitor %v", len(p.origins), p.janitor)
		}
	})
}

// closeIdle must leave somebody to close a connection that becomes idle while it runs.
func TestConnectionsThatComeDuringCloseIdleExpireToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, Config{})
		x := p.newExchange(t, "http://a.example/")
		c, _ := newTestConn(p, x.origin)
		late, recorded := newTestConn(p, x.origin)
		p.put(c)
		p.leave(x.origin)
		p.mu.Lock()
		c.holder = puttingHolder{c, func() { p.put(late) }}
		p.mu.Unlock()
		p.enter(x.origin.key)
		p.closeIdle()
		p.checkIdle(t)
		time.Sleep(2 * idleTimeout)
		synctest.Wait()
		if recorded.closed() != 1 {
			t.Error("it stays open for ever")
		}
	})
}

// A puttingHolder does something when it is closed.
type puttingHolder struct {
	*conn
	do func()
}

func (h puttingHolder) Close() error {
	h.do()
	return h.conn.Close()
}

func TestOriginsAreForgotten(t *testing.T) {
	p := newTestPool(t, Config{})
	x, y := p.newExchange(t, "http://a.example/"), p.newExchange(t, "http://A.example:80/x")
	if x.origin != y.origin || x.origin.requests != 2 {
		t.Fatal("one origin is two")
	}
	p.leave(x.origin)
	c, _ := newTestConn(p, y.origin)
	p.put(c)
	p.leave(y.origin)
	if len(p.origins) != 1 {
		t.Error("an origin with a connection was forgotten")
	}
	p.closeIdle()
	if len(p.origins) != 0 {
		t.Error("an origin without connections is kept")
	}
	z := p.newExchange(t, "http://a.example/")
	p.forgetLocked(z.origin)
	if len(p.origins) != 1 {
		t.Error("an origin with a request was forgotten")
	}
	p.leave(z.origin)
}

// A connection that is not quiet is closed instead of used. These cannot even be asked.
func TestConnectionsThatAreNotQuietAreNotUsed(t *testing.T) {
	p := newTestPool(t, Config{})
	x := p.newExchange(t, "http://a.example/")
	var recorded []*recordedConn
	for range 3 {
		c, r := newTestConn(p, x.origin)
		recorded = append(recorded, r)
		p.put(c)
	}
	if c := p.take(x.origin); c != nil {
		t.Error("one was taken")
	}
	for _, r := range recorded {
		if r.closed() != 1 {
			t.Errorf("closed %d times", r.closed())
		}
	}
	p.checkIdle(t)
}

// A connection that was made and not needed may be as stale as one that has served.
func TestAConnectionThatWasNotNeededMayBeStale(t *testing.T) {
	for method, again := range map[string]bool{"GET": true, "POST": false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		p := newTestPool(t, Config{})
		socket, err := p.dialer.dial(t.Context(), listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1))
			conn.Close() // when the request has come
		}()
		x := p.newExchange(t, "http://a.example/")
		x.req.Method = method
		x.sender.head.Write(x.req)
		p.put(p.newConn(x.origin, socket))
		c := p.take(x.origin)
		if c == nil {
			t.Fatal("it is not quiet")
		}
		if _, err := c.send(x.req, x.sender); err == nil || c.repeats(x.req) != again {
			t.Errorf("%s: %v, to be sent once more: %v", method, err, !again)
		}
		if _, err := p.dialer.dial(t.Context(), listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		p.dialer.close()
	}
}
