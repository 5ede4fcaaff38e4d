package fetch

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A failure is a cause with the sentinel that it counts as, if any. Its text is
// fit to be shown.
type failure struct {
	kind  error
	cause error
}

func (f *failure) Error() string {
	switch {
	case f.kind == nil:
		return printable(plainCause(f.cause).Error())
	case f.cause == nil || f.cause == f.kind, f.kind == ErrBlocked:
		// Whose address is blocked would tell a stranger what is behind a name.
		return f.kind.Error()
	}
	return f.kind.Error() + ": " + printable(plainCause(f.cause).Error())
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
	return f.kind == ErrTimeout || isTimeout(f.cause)
}

// isTimeout reports whether err, or an error that it wraps, says that it is a timeout.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// is reports whether err is a T, or wraps one.
func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// A hookError is an error of the caller's own code. It ends its URL, whatever it wraps.
type hookError struct{ err error }

func (e *hookError) Error() string { return printable(plainCause(e.err).Error()) }
func (e *hookError) Unwrap() error { return e.err }

// plainCause takes the URL, which may have secrets, off a *url.Error.
func plainCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) && u.Err != nil {
		return plainCause(u.Err)
	}
	return err
}

// printable returns an error text, which may have a server's bytes in it, as
// printable ASCII of bounded length.
func printable(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most] + "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// errAttemptTimeout is the cause with which the engine cancels an attempt that
// WithTimeout ends.
var errAttemptTimeout = &failure{kind: ErrTimeout, cause: errors.New("attempt took too long")}

// cancellationOf returns the error of a URL whose context, the batch's or the
// request's, is done: it matches both ctx.Err() and the cause.
func cancellationOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return &cancellation{err, cause}
}

type cancellation struct{ err, cause error }

func (c *cancellation) Error() string {
	return c.err.Error() + ": " + printable(plainCause(c.cause).Error())
}
func (c *cancellation) Unwrap() []error { return []error{c.err, c.cause} }

// done returns the error of a request whose context has ended, or nil. Contexts
// decide it, not the error that came back: net/http returns the cause of a cancel,
// which may be anything, and its own timeouts match context.DeadlineExceeded too.
func (j *job) done(ctx context.Context) error {
	ended := ctx.Err() != nil // looked at first, as it ends with the callers' contexts
	if err := j.cancelled(); err != nil {
		return err
	}
	if ended {
		return errAttemptTimeout
	}
	return nil
}

// cancelled returns the error of a job whose callers' contexts have ended, or nil.
func (j *job) cancelled() error {
	switch {
	case j.batch.ctx.Err() != nil:
		return j.batch.cancelled()
	case j.request != nil && j.request.Context().Err() != nil:
		return cancellationOf(j.request.Context())
	}
	return nil
}

// sendFailure says what an error of a RoundTripper counts as.
func sendFailure(err error) error {
	switch {
	case errors.Is(err, ErrBlocked):
		return &failure{ErrBlocked, err}
	case isTimeout(err):
		return &failure{ErrTimeout, err}
	case is[tls.RecordHeaderError](err):
		return &failure{ErrProtocol, err}
	case is[*net.OpError](err), is[*net.DNSError](err), isTLS(err), isEOF(err), isNetError(err):
		return &failure{nil, err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &failure{nil, err}
	}
	return &failure{ErrProtocol, err}
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isNetError(err error) bool {
	return is[net.Error](err) || errors.Is(err, net.ErrClosed) || isLost(err) || isRefused(err)
}

// Of the following net/http tells by texts only. The tests notice when these change.

// isLost reports whether a connection ended under a request.
func isLost(err error) bool {
	return hasText(err, "server closed idle connection", "http2: client connection lost",
		"http2: client conn is closed", "http2: client connection force closed",
		"http2: server sent GOAWAY and closed the connection")
}

// isRefused reports whether a server took no more requests on an HTTP/2 connection, and
// so not this one (RFC 9113, section 8.7).
func isRefused(err error) bool {
	return hasText(err, "http2: client conn could not be established", "http2: client conn not usable",
		"http2: Transport received GOAWAY from server", "http2: Transport received Server's graceful shutdown GOAWAY")
}

// isHandshakeTimeout reports whether net/http gave up a TLS handshake.
func isHandshakeTimeout(err error) bool { return hasText(err, "TLS handshake timeout") }

// isCutTrailer reports whether a chunked body ended before its very last line.
func isCutTrailer(err error) bool { return hasText(err, "unexpected EOF") }

func hasText(err error, parts ...string) bool {
	text := err.Error()
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

func isTLS(err error) bool { return is[*tls.CertificateVerificationError](err) || isAlert(err) }

// isAlert reports whether one side of a TLS connection refused the other. crypto/tls
// wraps such alerts, whose type is not exported, so.
func isAlert(err error) bool {
	var op *net.OpError
	for errors.As(err, &op) {
		if op.Op == "remote error" || op.Op == "local error" {
			return true
		}
		err = op.Err // of the dial that the handshake belongs to
	}
	return false
}

// readFailure says what an error of reading a body counts as.
func readFailure(err error, protoMajor int) error {
	switch {
	case is[*failure](err):
		return err
	case isTimeout(err):
		return &failure{ErrTimeout, err}
	case isUndecodable(err):
		return &failure{ErrProtocol, err}
	case isEOF(err), isNetError(err), isCutTrailer(err), protoMajor >= 2:
		// HTTP/2 resets streams with an error that has no exported type.
		return &failure{ErrTruncated, err}
	}
	return &failure{ErrProtocol, err}
}

// isShortage reports whether this machine had no descriptor, port or buffer left for a connection.
func isShortage(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS},
		func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// isUndecodable reports whether a body came, but is not what it says it is.
func isUndecodable(err error) bool {
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || is[flate.CorruptInputError](err) ||
		err == errReadRange || err == io.ErrNoProgress
}

var (
	errNoResponse = errors.New("the RoundTripper returned no response")
	errNoBody     = errors.New("the RoundTripper returned a length but no body")
)
