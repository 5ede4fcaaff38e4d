package fault

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/batchhttp/fetch/internal/retry"
)

// CauseOf returns the cause of an error, as far as it decides about a retry.
func CauseOf(err error) retry.Cause {
	var op *net.OpError
	var dns *net.DNSError
	var stream streamError
	switch {
	case is[*callerError](err), isTLS(err), is[tls.RecordHeaderError](err), errors.Is(err, ErrBlocked):
		return retry.Final
	case errors.As(err, &dns):
		if dns.IsTemporary || dns.IsTimeout {
			return retry.NotSent
		}
		return retry.Final
	// "proxyconnect" is net/http's name for a dial to a proxy.
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"), isHandshakeTimeout(err), isRefused(err):
		return retry.NotSent
	case errors.As(err, &stream):
		return stream.cause()
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrTruncated):
		return retry.Interrupted
	case errors.Is(err, ErrBodyTooLarge), errors.Is(err, ErrProtocol), errors.Is(err, ErrRedirect), errors.Is(err, ErrInvalidURL):
		return retry.Final
	case isEOF(err), errors.As(err, &op), isNetError(err):
		return retry.Interrupted
	}
	return retry.Final
}

// IsConnectFailure reports whether an attempt without an answer counts for
// WithMaxHostFailures. cause is that of CauseOf(err).
func IsConnectFailure(err error, cause retry.Cause) bool {
	if is[*callerError](err) || IsShortage(err) {
		return false
	}
	return cause == retry.NotSent || is[*net.DNSError](err) || isTLS(err) || errors.Is(err, ErrTimeout)
}

// A streamError has the shape by which errors.As finds the error of net/http for an
// HTTP/2 stream that was reset (RFC 9113, section 7).
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

func (e streamError) cause() retry.Cause {
	const protocolError, refusedStream = 0x1, 0x7
	switch e.Code {
	case protocolError:
		return retry.Final
	case refusedStream:
		return retry.NotSent
	}
	return retry.Interrupted
}
