// Package fault gives errors their kinds: a sentinel, a text that is fit to be
// shown to anybody, and a cause that decides about a retry. It also carries the panics of the
// caller's code from the goroutine where they happened to the caller's own.
//
// It knows the errors of net, crypto/tls and net/http, and nothing of URLs, hosts or
// batches. Nothing here has state, so that all of it may be used from any goroutine.
package fault

import (
	"context"
	"errors"
	"time"

	"github.com/batchhttp/fetch/internal/netguard"
)

// The sentinels, which the root package exports under the same names.
var (
	ErrInvalidURL   = errors.New("invalid URL")
	ErrTimeout      = errors.New("timed out")
	ErrBodyTooLarge = errors.New("body too large")
	ErrTruncated    = errors.New("body truncated")
	ErrProtocol     = errors.New("protocol error")
	ErrRedirect     = errors.New("redirect not followed")
	ErrBlocked      = netguard.ErrBlocked
	ErrHostDown     = errors.New("host down")
	ErrHostPaused   = errors.New("host paused")
)

// New returns an error with the sentinel kind, or none if that is nil, and the given cause.
// Its text is fit to be shown.
func New(kind, cause error) error { return &failure{kind, cause} }

type failure struct {
	kind  error
	cause error
}

func (f *failure) Error() string {
	switch {
	case f.kind == nil:
		return causeText(f.cause)
	case f.cause == nil || f.cause == f.kind, f.kind == ErrBlocked:
		// The address that is blocked would tell a stranger where a name leads.
		return f.kind.Error()
	}
	return f.kind.Error() + ": " + causeText(f.cause)
}

func (f *failure) Unwrap() []error {
	var errs []error
	if f.kind != nil {
		errs = append(errs, f.kind)
	}
	if f.kind == ErrTimeout {
		errs = append(errs, context.DeadlineExceeded)
	}
	if f.cause != nil && f.cause != f.kind {
		errs = append(errs, f.cause)
	}
	return errs
}

func (f *failure) Timeout() bool {
	return f.kind == ErrTimeout || IsTimeout(f.cause)
}

// AttemptTimeout is the error of an attempt that WithTimeout ends, and the cause of the
// cancel that does it.
var AttemptTimeout = New(ErrTimeout, errors.New("attempt took too long"))

// OfCaller returns an error of the caller's own code. It ends its URL, whatever it wraps.
func OfCaller(err error) error { return &callerError{err} }

type callerError struct{ err error }

func (e *callerError) Error() string { return causeText(e.err) }
func (e *callerError) Unwrap() error { return e.err }

// Exhausted returns err with a note that the budget of its host allowed no retry.
func Exhausted(err error) error { return &exhausted{err} }

type exhausted struct{ err error }

func (e *exhausted) Error() string {
	return e.err.Error() + " (the host's retry budget is exhausted)"
}
func (e *exhausted) Unwrap() error { return e.err }

// Cancellation returns the error of a URL whose context, that of the batch or of its
// request, is done: it matches both ctx.Err() and the cause.
func Cancellation(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return &cancellation{err, cause}
}

type cancellation struct{ err, cause error }

func (c *cancellation) Error() string   { return c.err.Error() + ": " + causeText(c.cause) }
func (c *cancellation) Unwrap() []error { return []error{c.err, c.cause} }

// IsTimeout reports whether err, or an error that it wraps, says that it is a timeout.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// is reports whether err is a T, or wraps one.
func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// HostPaused is the error of a URL after its host asked not to be called for too long.
type HostPaused struct {
	Host  string
	Until time.Time
}

func (e *HostPaused) Error() string {
	return "host " + Word(e.Host) + " paused until " + e.Until.UTC().Format(time.RFC3339)
}
