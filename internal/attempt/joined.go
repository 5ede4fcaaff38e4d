package attempt

import (
	"context"
	"time"
)

// A joined is the context of a request of the caller's within a batch. It has the values of
// both, the request's first. Whoever makes it sees to it that both end it.
type joined struct {
	context.Context                 // of the request
	batch           context.Context // or one within it
}

func (j *joined) Value(key any) any {
	if value := j.Context.Value(key); value != nil {
		return value
	}
	return j.batch.Value(key)
}

func (j *joined) Deadline() (time.Time, bool) {
	own, ok := j.Context.Deadline()
	batch, batchOK := j.batch.Deadline()
	if !ok || batchOK && batch.Before(own) {
		return batch, batchOK
	}
	return own, ok
}

// A valued is the context of a request of the caller's that has values only, and never ends by itself.
// To join it as any other costs six allocations more. Where it is of a type of the caller's own that hides an
// end, but not its values, context.Cause is that of the hidden one.
type valued struct {
	context.Context                 // of the batch
	given           context.Context // of the request, whose values are first
}

func (v *valued) Value(key any) any {
	if value := v.given.Value(key); value != nil {
		return value
	}
	return v.Context.Value(key)
}
