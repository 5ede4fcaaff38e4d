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

	took    time.Duration // by the last dial that succeeded
	places  int           // that a connection of HTTP/2 has; 0: none was made yet
	waiting int           // requests that wait for the dials of others

	changes int           // how often anything has changed that requests wait for
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// A dial is one of a request.
type dial struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	started time.Time
	fresh   bool // its request is not to have a connection that was idle
	late    bool // somebody did not want to wait for it
	over    bool // it made a connection, or failed

	alarm   *time.Timer // sets hangs
	hangs   bool        // it takes longer than others do
	settled bool        // its request does not wait for it any more
	given   *conn       // what its request is to have instead; nil: nothing
}

// patience is how long a request waits for another's handshake, at the most: longer than most
// take. A server whose first handshake hangs delays the others by as much.
const patience = 300 * time.Millisecond

// errOvertaken ends the dial of a request that can have another connection.
var errOvertaken = errors.New("another connection serves the request")

func newElection(secure bool) election { return election{http1: !secure, allowed: 1} }

// dialLocked returns a dial for a request.
func (e *election) dialLocked(ctx context.Context, fresh bool, now time.Time) *dial {
	d := &dial{started: now, fresh: fresh}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	e.dials = append(e.dials, d)
	return d
}

// waitLocked returns how long a request is to wait for the dials of others. It does not if all
// places that they make are for those that wait already.
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
	if young < e.allowed || e.places > 0 && e.waiting >= young*(e.places-1) {
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
func (e *election) endLocked(d *dial, made bool, now time.Time) {
	if d.over {
		return
	}
	d.over = true
	e.dials = slices.DeleteFunc(e.dials, func(other *dial) bool { return other == d })
	if made {
		e.setbacks, e.allowed, e.took = 0, 1, now.Sub(d.started)
	} else if !d.late && !d.wasOvertaken() {
		e.setbackLocked()
	}
	e.wakeLocked()
}

// http2Locked is called when a connection can carry many requests, so many of them more than it
// has. So many need not go on with a dial.
func (e *election) http2Locked(places, free int) {
	e.places = places
	for _, d := range e.dials {
		if !d.settled && free > 0 {
			free--
			d.cancel(errOvertaken)
		}
	}
}

// hangsAfterLocked returns how long a dial takes that hangs, as it seems. For a request that has
// one any free connection is better.
func (e *election) hangsAfterLocked() time.Duration { return max(patience, 2*e.took) }

// giveLocked gives a free connection of HTTP/1.1 to the request of the oldest dial that hangs, and
// reports whether there is one.
func (e *election) giveLocked(c *conn) bool {
	for i, d := range e.dials {
		if d.hangs && !d.settled && !d.fresh {
			d.given = c
			d.cancel(errOvertaken)
			e.dials = slices.Delete(e.dials, i, i+1)
			return true
		}
	}
	return false
}

// freedLocked is called when a connection of HTTP/2 has a free place.
func (e *election) freedLocked() {
	for _, d := range e.dials {
		if d.hangs && !d.settled && !d.wasOvertaken() {
			d.cancel(errOvertaken)
			return
		}
	}
}

// settleLocked is called when the request of a dial does not wait for it any more. It returns
// the connection that the request was given.
func (e *election) settleLocked(d *dial) *conn {
	d.alarm.Stop()
	given := d.given
	d.settled, d.given = true, nil
	return given
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
