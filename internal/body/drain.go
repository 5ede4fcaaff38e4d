package body

import (
	"errors"
	"net/http"
	"time"
)

const (
	drainBytes = 256 << 10
	drainTime  = 50 * time.Millisecond
)

var errDrain = errors.New("body not read to the end")

// Drain reads the little that may be left of a body nobody wants, since only
// a connection that was read to the end can be used again. A body that is long or
// slow is left unread: a new connection is cheaper. cancel ends the context of the request, and
// makes it useless for another.
func Drain(resp *http.Response, cancel func(cause error)) {
	if resp.Body == http.NoBody || resp.ContentLength > drainBytes {
		return
	}
	timer := time.AfterFunc(drainTime, func() { cancel(errDrain) })
	defer func() {
		if !timer.Stop() {
			cancel(errDrain) // before the next request could be hit by it
		}
	}()
	pooled := scratchPool.Get().(*[]byte)
	defer scratchPool.Put(pooled)
	var b Reader
	for b.open(resp, drainBytes); b.err == nil; {
		b.Read((*pooled)[:cap(*pooled)])
	}
}
