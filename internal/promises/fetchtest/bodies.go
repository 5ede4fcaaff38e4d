package fetchtest

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A ReaderFunc is an io.Reader.
type ReaderFunc func([]byte) (int, error)

func (f ReaderFunc) Read(p []byte) (int, error) { return f(p) }

// A HookedBody calls OnClose each time it is closed.
type HookedBody struct {
	io.ReadCloser
	OnClose func()
}

func (b *HookedBody) Close() error {
	b.OnClose()
	return b.ReadCloser.Close()
}

// A TrackedBody is a request body without GetBody that knows whether it was closed.
type TrackedBody struct {
	io.Reader
	Closed atomic.Bool
}

// NewTrackedBody returns one with the text.
func NewTrackedBody(text string) *TrackedBody { return &TrackedBody{Reader: strings.NewReader(text)} }

func (b *TrackedBody) Close() error {
	b.Closed.Store(true)
	return nil
}

// A StalledBody gives some bytes and then nothing until the request is given up or it is closed.
type StalledBody struct {
	ctx    context.Context
	first  io.Reader
	once   sync.Once
	closed chan struct{}
}

// NewStalledBody returns one that gives first, for a request with ctx.
func NewStalledBody(ctx context.Context, first string) *StalledBody {
	return &StalledBody{ctx: ctx, first: strings.NewReader(first), closed: make(chan struct{})}
}

func (b *StalledBody) Read(p []byte) (int, error) {
	if n, _ := b.first.Read(p); n > 0 {
		return n, nil
	}
	select {
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	}
}

func (b *StalledBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
