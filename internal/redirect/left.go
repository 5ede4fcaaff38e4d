package redirect

import "context"

type leftKey struct{}

// AsLeft returns a context for a request that goes on where another process left off: the redirects
// before it have led to another origin, so that no secret of the caller's is for it.
func AsLeft(parent context.Context) context.Context {
	return context.WithValue(parent, leftKey{}, true)
}

// HasLeft reports whether a context is from AsLeft.
func HasLeft(ctx context.Context) bool { return ctx.Value(leftKey{}) != nil }

// StartLeft begins a chain that has left the origin of its start.
func (c *Chain) StartLeft() { c.left = true }
