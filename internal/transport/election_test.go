package transport

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/h1"
)

const second = time.Second

// A vote is an election with its dials, at a time that the test sets.
type vote struct {
	election
	t     *testing.T
	now   time.Time
	begun []*dial
}

func newVote(t *testing.T, secure bool) *vote {
	return &vote{t: t, election: newElection(secure), now: time.Now()}
}

// ask has a request ask for a connection. It waits as long as it must, for -1 it dials.
func (v *vote) ask(want time.Duration) {
	v.t.Helper()
	wait := v.waitLocked(v.now, patience)
	if wait <= 0 {
		wait = -1
		v.dial()
	}
	if wait != want {
		v.t.Errorf("a request waits for %v, want %v", wait, want)
	}
}

func (v *vote) dial() {
	d := v.dialLocked(context.Background(), false, v.now)
	d.alarm = time.NewTimer(time.Hour)
	v.begun = append(v.begun, d)
}

func (v *vote) pass(d time.Duration) { v.now = v.now.Add(d) }

func (v *vote) end(i int, made bool) { v.endLocked(v.begun[i], made, v.now) }

// dials asks until a request has to wait, and returns how many did not have to.
func (v *vote) dials() (n int) {
	for v.waitLocked(v.now, patience) <= 0 && n < 1000 {
		v.dial()
		n++
	}
	return n
}

func TestEachRequestDialsWhereTheServerSpeaksHTTP1(t *testing.T) {
	v := newVote(t, false)
	if n := v.dials(); n != 1000 {
		t.Errorf("%d dials", n)
	}
}

func TestTheOthersWaitForTheFirstHandshakeButNotForLong(t *testing.T) {
	v := newVote(t, true)
	v.ask(-1)
	v.ask(patience)
	v.pass(patience / 3)
	v.ask(patience - patience/3)
	v.pass(patience)
	v.ask(-1) // the first is late
	v.ask(patience)
	v.end(1, false)
	if n := v.dials(); n != 2 {
		t.Errorf("after two setbacks %d dial, want 2", n)
	}
	v.end(2, false)
	v.end(3, false)
	if n := v.dials(); n != 8 {
		t.Errorf("after four setbacks %d dial, want 8", n)
	}
	v.end(4, true)
	for i := 5; i < 12; i++ {
		v.end(i, true)
	}
	v.ask(-1)
	v.ask(patience)
}

func TestADialEndsOnce(t *testing.T) {
	v := newVote(t, true)
	v.ask(-1)
	v.end(0, false)
	v.end(0, false)
	v.end(0, true)
	if v.setbacks != 1 || len(v.election.dials) != 0 {
		t.Errorf("%d setbacks, %d dials", v.setbacks, len(v.election.dials))
	}
}

// Requests do not wait for places that others take.
func TestDialsAreAsManyAsThePlacesThatAreNeeded(t *testing.T) {
	for _, test := range []struct{ places, requests, dials int }{
		{1, 64, 64}, {2, 64, 32}, {10, 64, 7}, {63, 64, 2}, {64, 64, 1}, {100, 64, 1}, {1000, 64, 1},
	} {
		v := newVote(t, true)
		v.places = test.places
		for range test.requests {
			if v.waitLocked(v.now, patience) <= 0 {
				v.dial()
			} else {
				v.waiting++
			}
		}
		if n := len(v.election.dials); n != test.dials {
			t.Errorf("%d requests, %d places on each connection: %d dials, want %d", test.requests, test.places, n, test.dials)
		}
	}
}

func TestAConnectionOfHTTP2EndsAsManyDialsAsItHasPlaces(t *testing.T) {
	for free := range 7 {
		v := newVote(t, true)
		for range 5 {
			v.dial()
		}
		v.settleLocked(v.begun[0])
		v.http2Locked(100, free)
		overtaken := 0
		for _, d := range v.begun {
			if d.wasOvertaken() {
				overtaken++
			}
		}
		if want := min(free, 4); overtaken != want || v.begun[0].wasOvertaken() {
			t.Errorf("%d places: %d dials are overtaken, want %d", free, overtaken, want)
		}
	}
}

func TestAFreeConnectionGoesToTheRequestOfADialThatHangs(t *testing.T) {
	for name, test := range map[string]struct {
		alter func(*dial)
		given bool
	}{
		"as long as others do":        {func(*dial) {}, false},
		"longer":                      {func(d *dial) { d.hangs = true }, true},
		"to be fresh":                 {func(d *dial) { d.hangs, d.fresh = true, true }, false},
		"of a request that has ended": {func(d *dial) { d.hangs, d.settled = true, true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVote(t, false)
			v.ask(-1)
			v.ask(-1)
			v.ask(-1)
			test.alter(v.begun[1])
			c := new(conn)
			if given := v.giveLocked(c); given != test.given {
				t.Errorf("given: %v", given)
			}
			for i, d := range v.begun {
				if d.wasOvertaken() != (test.given && i == 1) {
					t.Error("a wrong dial was ended")
				}
			}
			if test.given && (v.settleLocked(v.begun[1]) != c || v.settleLocked(v.begun[1]) != nil) {
				t.Error("the connection is to be got once")
			}
			if v.giveLocked(c) {
				t.Error("two connections for one request")
			}
		})
	}
}

func TestADialHangsWhenItTakesMuchLongerThanTheOthers(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{0: patience, patience / 2: patience, patience: 2 * patience, 3 * second: 6 * second} {
		v := newVote(t, true)
		v.ask(-1)
		v.pass(took)
		v.end(0, true)
		if got := v.hangsAfterLocked(); got != want {
			t.Errorf("%v after a dial that took %v, want %v", got, took, want)
		}
	}
}

// A dial that hangs looks for a connection that was free all the time.
func TestADialThatHangsTakesAnIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fresh := range []bool{false, true} {
			p := newTestPool(t, Config{})
			x := p.newExchange(t, "http://a.example/")
			d, err := p.startDial(x, fresh, 0)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(patience / 2)
			c, _ := newTestConn(p, x.origin)
			p.put(c)
			if d.wasOvertaken() {
				t.Error("overtaken at once")
			}
			time.Sleep(patience)
			synctest.Wait()
			if given := p.settle(x.origin, d); (given == c) == fresh || d.wasOvertaken() == fresh {
				t.Errorf("fresh %v: given %v", fresh, given == c)
			}
			p.checkIdle(t)
			p.closeIdle()
			p.leave(x.origin)
		}
	})
}

// newTestPool returns a pool that cannot dial.
func newTestPool(t *testing.T, c Config) *pool {
	if c.Concurrency == 0 {
		c.Concurrency = 4
	}
	p := newPool(newDialer(c), c)
	t.Cleanup(p.closeIdle)
	return p
}

func (p *pool) newExchange(t *testing.T, url string) *exchange {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &exchange{req: req, origin: p.enter(keyOf(req.URL)), sender: begin(req.Context()), plain: true}
}

// Nobody who waits misses a change.
func TestRequestsThatWaitAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, Config{})
		first := p.newExchange(t, "https://a.example/")
		d, err := p.startDial(first, false, 0)
		if d == nil || err != nil {
			t.Fatal(d, err)
		}
		var others sync.WaitGroup
		start := time.Now()
		for range 10 {
			others.Go(func() {
				x := p.newExchange(t, "https://a.example/")
				if d, err := p.startDial(x, false, p.changesOf(x.origin)); d != nil || err != nil {
					t.Errorf("got %v, %v", d, err)
				}
			})
		}
		time.Sleep(patience / 3)
		p.endDial(first.origin, d, true)
		others.Wait()
		if took := time.Since(start); took != patience/3 {
			t.Errorf("they waited for %v", took)
		}
		if first.origin.waiting != 0 {
			t.Errorf("%d wait", first.origin.waiting)
		}
		x := p.newExchange(t, "https://a.example/")
		if d, err := p.startDial(x, false, 0); d != nil || err != nil {
			t.Errorf("a change that was not seen yet: %v, %v", d, err)
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, Config{})
		first := p.newExchange(t, "https://a.example/")
		if d, _ := p.startDial(first, false, 0); d == nil {
			t.Fatal("no dial")
		}
		x := p.newExchange(t, "https://a.example/")
		ctx, cancel := context.WithCancel(t.Context())
		x.req = x.req.WithContext(ctx)
		time.AfterFunc(patience/3, cancel)
		start := time.Now()
		if _, err := p.startDial(x, false, p.changesOf(x.origin)); err != context.Canceled {
			t.Error(err)
		}
		if took := time.Since(start); took != patience/3 {
			t.Errorf("took %v", took)
		}
	})
}

// A connection of HTTP/2 counts as made when others can find it, and not before: they would
// make another.
func TestAConnectionOfHTTP2IsAnnouncedWhenItCanBeFound(t *testing.T) {
	for name, step := range map[string]func(*http2Conn){
		"told":  func(c *http2Conn) { c.told = true },
		"added": func(c *http2Conn) { c.added = true },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPool(t, Config{})
			x := p.newExchange(t, "https://a.example/")
			d, err := p.startDial(x, false, 0)
			if err != nil {
				t.Fatal(err)
			}
			c := &http2Conn{pool: p, origin: x.origin, dial: d}
			step(c)
			c.announceLocked()
			if d.over || x.origin.changes != 0 {
				t.Error("announced too early")
			}
		})
	}
}

// Two changes at once, and a request that looks in between.
func TestAnElectionUnderLoad(t *testing.T) {
	p := newTestPool(t, Config{})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			x := p.newExchange(t, "https://a.example/")
			defer p.leave(x.origin)
			for {
				d, err := p.startDial(x, i%2 == 0, p.changesOf(x.origin))
				if err != nil {
					t.Error(err)
				}
				if d != nil {
					p.endDial(x.origin, d, i%3 == 0)
					p.settle(x.origin, d)
					return
				}
			}
		})
	}
	all.Wait()
	if n := len(p.origins); n != 0 {
		t.Errorf("%d origins are left", n)
	}
}

func newTestConn(p *pool, o *origin) (*conn, *recordedConn) {
	r := &recordedConn{}
	return p.newConn(o, h1.NewSocket(r, p.dialer.forget)), r
}
