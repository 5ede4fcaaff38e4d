package attempt

import (
	"cmp"
	"context"
	"io"
	"runtime"
	"sync"

	"github.com/batchhttp/fetch/internal/fault"
)

// A requestBody is a caller's body on its way into a RoundTripper. net/http
// reads it on goroutines of its own, where a panic would end the process, and
// does not give up on a Read that blocks: the end of the context closes it.
type requestBody struct {
	body  io.ReadCloser
	stop  func() bool
	close func() error

	mu       sync.Mutex
	exited   bool // by a panic or Goexit
	panicked *fault.Panic
	first    *requestBody // that of the RoundTrip that asked for this one, which is told instead
}

func newRequestBody(ctx context.Context, body io.ReadCloser) *requestBody {
	b := &requestBody{body: body}
	b.close = sync.OnceValue(func() error { return b.call(b.body.Close) })
	b.stop = context.AfterFunc(ctx, func() { b.close() })
	return b
}

func (b *requestBody) Read(p []byte) (n int, err error) {
	err = b.call(func() (err error) {
		n, err = b.body.Read(p)
		return err
	})
	return n, err
}

func (b *requestBody) Close() error {
	b.stop()
	return b.close()
}

// call runs f, code of the caller's, and takes note of how it ends.
func (b *requestBody) call(f func() error) error {
	err := fault.Exited
	if panicked, returned := fault.Contain(func() { err = f() }); !returned {
		b = cmp.Or(b.first, b)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.exited = true
		if b.panicked == nil {
			b.panicked = panicked
		}
	}
	return err
}

// raise repeats on this goroutine the panic or Goexit of the body on another.
func (b *requestBody) raise() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.panicked != nil:
		panic(b.panicked)
	case b.exited:
		runtime.Goexit()
	}
}
