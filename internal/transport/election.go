package transport

import (
	"context"
	"errors"
	"slices"
	"time"
)

// An election decides which of the requests that need a connection to an origin make one. An
// origin without TLS speaks HTTP/1.1: each makes its own. Whether one with TLS speaks HTTP/2,
// so that one connection carries all, is known when the first handshake is over: the others
// wait for that, but not long for one that may hang, and after failures more try at a time.
// It is under pool.mu.
type election struct {
	http1    bool    // each request needs a connection of its own
	dials    []*dial // under way, the oldest first
	allowed  int     // how many dials may be under way that are not late
	setbacks int     // dials that failed or were late since one succeeded

	changes int           // how often anything has changed that requests wait for
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// A dial is one of a request.
type dial struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	started time.Time
	late    bool // somebody did not want to wait for it
	over    bool
}

// patience is how long a request waits for another's handshake, at the most: longer than most
// take. A server whose first handshake hangs delays the others by as much.
const patience = 300 * time.Millisecond

// errOvertaken ends the dial of a request that can have another connection.
var errOvertaken = errors.New("another connection serves the request")

func newElection(secure bool) election { return election{http1: !secure, allowed: 1} }

// dialLocked returns a dial for a request, or, if it is to wait, how long.
func (e *election) dialLocked(ctx context.Context, now time.Time, patience time.Duration) (*dial, time.Duration) {
	if wait := e.waitLocked(now, patience); wait > 0 {
		return nil, wait
	}
	d := &dial{started: now}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	e.dials = append(e.dials, d)
	return d, 0
}

// waitLocked returns how long a request is to wait for the dials of others.
func (e *election) waitLocked(now time.Time, patience time.Duration) time.Duration {
	if e.http1 {
		return 0
	}
	young, wait := 0, time.Duration(0)
	for _, d := range e.dials {
		if left := patience - now.Sub(d.started); left > 0 {
			if young++; young == 1 {
				wait = left
			}
		} else if !d.late {
			d.late = true
			e.setbackLocked()
		}
	}
	if young < e.allowed {
		return 0
	}
	return wait
}

// setbackLocked lets more dial at a time, from the second setback on.
func (e *election) setbackLocked() {
	if e.setbacks++; e.setbacks > 1 {
		e.allowed = min(2*e.allowed, 1<<20)
	}
}

// endLocked ends a dial that made a connection, or failed.
func (e *election) endLocked(d *dial, made bool) {
	if d.over {
		return
	}
	d.over = true
	e.dials = slices.DeleteFunc(e.dials, func(other *dial) bool { return other == d })
	if made {
		e.setbacks, e.allowed = 0, 1
	} else if !d.late && !d.wasOvertaken() {
		e.setbackLocked()
	}
	e.wakeLocked()
}

// http2Locked is called when a connection can carry many requests: nobody needs to go on
// with a dial.
func (e *election) http2Locked() {
	for _, d := range e.dials {
		d.cancel(errOvertaken)
	}
}

// overtakeLocked is called when a connection of HTTP/1.1 is free. It is better than a
// dial that may hang.
func (e *election) overtakeLocked(now time.Time) {
	if len(e.dials) > 0 && now.Sub(e.dials[0].started) > patience {
		e.dials[0].cancel(errOvertaken)
		e.dials = e.dials[1:]
	}
}

// wakeLocked has all requests that wait look again.
func (e *election) wakeLocked() {
	e.changes++
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// changedLocked returns a channel that is closed at the next change.
func (e *election) changedLocked() <-chan struct{} {
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

// wasOvertaken reports whether a dial has ended because there is another connection.
func (d *dial) wasOvertaken() bool { return context.Cause(d.ctx) == errOvertaken }
