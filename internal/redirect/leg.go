package redirect

import (
	"context"
	"net/http"
	"time"
)

// A Leg is what one Fetcher makes of a chain of redirects, where several share the hosts out and each
// calls its own. It goes along in the context of the request that the leg begins with.
type Leg struct {
	// Left and Hops are of the legs before: whether they have led to another origin, so that no secret
	// of the caller's is for this one, and how many redirects they had.
	Left bool
	Hops int

	// Next is the request that the leg ends before, as it is to another host; nil if it ends otherwise.
	// It is not to be sent before Wait is over.
	Next *http.Request
	Wait time.Duration
}

// A legContext is not asked for its leg as for a value: a context that is made of it is of other
// requests, as those that a BodyFunc sends.
type legContext struct {
	context.Context
	leg *Leg
}

// WithLeg returns a context for the request that a leg begins with. The leg is the Fetcher's until
// the result is there.
func WithLeg(parent context.Context, leg *Leg) context.Context { return &legContext{parent, leg} }

// LegOf returns the leg of the context of a request, or nil. The context may be nil.
func LegOf(ctx context.Context) *Leg {
	if c, ok := ctx.(*legContext); ok {
		return c.leg
	}
	return nil
}

// HasLeft reports whether a context is that of a leg which begins at another origin than the chain.
func HasLeft(ctx context.Context) bool {
	leg := LegOf(ctx)
	return leg != nil && leg.Left
}

// StartLeg begins a chain that is a leg of another, or none if that is nil.
func (c *Chain) StartLeg(header http.Header, leg *Leg) {
	c.Start(header)
	if leg != nil {
		leg.Next, leg.Wait = nil, 0 // of an attempt before
		c.leg, c.left = leg, leg.Left
	}
}

// Passes reports whether the chain goes on in another leg.
func (c *Chain) Passes() bool { return c.leg != nil && c.leg.Next != nil }

// Wait puts the next leg off.
func (c *Chain) Wait(d time.Duration) { c.leg.Wait = d }

// hops returns how many redirects the chain has had in the legs before.
func (c *Chain) hops() int {
	if c.leg == nil {
		return 0
	}
	return c.leg.Hops
}
