package fetch

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A panicError is what a stranger's code panicked with, on its way to the caller's goroutine.
type panicError struct {
	value any
	stack []byte
}

// asPanic returns the panic that was recovered, with the stack of this goroutine unless
// it has one from elsewhere.
func asPanic(value any) *panicError {
	if p, ok := value.(*panicError); ok {
		return p
	}
	return &panicError{value, debug.Stack()}
}

// contain runs f, which may be a stranger's code, on a goroutine of its own, since only that
// stops runtime.Goexit. It reports whether f returned, and with what it panicked.
func contain(f func()) (panicked *panicError, returned bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				panicked = asPanic(value)
			}
		}()
		f()
		returned = true
	}()
	<-done
	return panicked, returned
}

func (p *panicError) Error() string {
	return fmt.Sprintf("fetch: panic: %v\n\n%s", p.value, p.stack)
}

func (p *panicError) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

var (
	errExited        = errors.New("runtime.Goexit was called")
	errPanicked      = errors.New("code of the caller panicked")
	errLimiterExited = errors.New("WithLimiter: runtime.Goexit was called")
)
