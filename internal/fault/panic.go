package fault

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// The errors of URLs after code of the caller's that has not returned.
var (
	Exited   = New(nil, errors.New("runtime.Goexit was called"))
	Panicked = New(nil, errors.New("code of the caller panicked"))
)

// A Panic is the panic of code of the caller's, on its way to the caller's goroutine.
type Panic struct {
	value any
	stack []byte
}

// AsPanic returns the panic that was recovered, with the stack of this goroutine unless
// it has one from elsewhere.
func AsPanic(value any) *Panic {
	if p, ok := value.(*Panic); ok {
		return p
	}
	return &Panic{value, debug.Stack()}
}

// Contain runs f, code of the caller's, on a goroutine of its own, since only that
// stops runtime.Goexit. It reports whether f returned, and returns its panic.
func Contain(f func()) (panicked *Panic, returned bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				panicked = AsPanic(value)
			}
		}()
		f()
		returned = true
	}()
	<-done
	return panicked, returned
}

// Catch runs f, code of the caller's that does not exit, and returns its panic, or nil.
func Catch(f func()) (panicked *Panic) {
	defer func() {
		if value := recover(); value != nil {
			panicked = AsPanic(value)
		}
	}()
	f()
	return nil
}

func (p *Panic) Error() string {
	return fmt.Sprintf("fetch: panic: %v\n\n%s", p.value, p.stack)
}

func (p *Panic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}
