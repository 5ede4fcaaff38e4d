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
