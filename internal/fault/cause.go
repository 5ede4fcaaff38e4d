package fault

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/batchhttp/fetch/internal/retry"
)

// CauseOf returns what an error leaves open to a retry.
func CauseOf(err error) retry.Cause {
	var dns *net.DNSError
	var stream streamError
	var refused *refusal
	switch {
	case is[*brokenTunnel](err):
		return retry.NotSent
	case is[*callerError](err), isTLS(err), is[tls.RecordHeaderError](err), errors.Is(err, ErrBlocked):
		return retry.Final
	case errors.As(err, &refused):
		return refused.retryCause()
	case errors.As(err, &dns):
		if dns.IsTemporary || dns.IsTimeout {
			return retry.NotSent
		}
		return retry.Final
	case isFailedDial(err), isHandshakeTimeout(err):
		return retry.NotSent
	case opError(err, "dial", "proxyconnect") != nil:
		return retry.Final
	case errors.As(err, &stream):
		return stream.cause()
	}
	return causeOnceConnected(err)
}

// causeOnceConnected is CauseOf for an error behind the dial.
func causeOnceConnected(err error) retry.Cause {
	root := rootOf(err)
	c, known := classOf(root)
	switch {
	case known && c == notTaken:
		return retry.NotSent
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrTruncated):
		return retry.Interrupted
	case errors.Is(err, ErrBodyTooLarge), errors.Is(err, ErrProtocol), errors.Is(err, ErrRedirect), errors.Is(err, ErrInvalidURL):
		return retry.Final
	case isEOF(err), isConnection(root), isTemporary(err):
		return retry.Interrupted
	}
	return retry.Final
}

// IsRefusal reports whether an error of net/http says that a server did not take a request over
// HTTP/2, and may take it over this connection or another. Some servers mean that by a
// reset with PROTOCOL_ERROR, too (go.dev/issue/47635). A connection that ends with an error is no
// refusal, although its last request was not taken: that would end the next one too.
func IsRefusal(err error) bool {
	var stream streamError
	if errors.As(err, &stream) {
		return stream.Code == refusedStream || stream.Code == protocolError && stream.isOfPeer()
	}
	return begins(err, "http2: client conn not usable") || begins(err, "http2: Transport received Server's graceful shutdown GOAWAY")
}

// rootOf returns the error that a failure was made of: its own text is another.
func rootOf(err error) error {
	if f, ok := errors.AsType[*failure](err); ok && f.cause != nil {
		return f.cause
	}
	return err
}

// IsConnectFailure reports whether an attempt without an answer counts for
// WithMaxHostFailures. cause is that of CauseOf(err).
func IsConnectFailure(err error, cause retry.Cause) bool {
	if is[*callerError](err) || is[*refusal](err) || IsShortage(err) {
		return false
	}
	return cause == retry.NotSent || is[*net.DNSError](err) || isTLS(err) || errors.Is(err, ErrTimeout)
}

// isHandshakeTimeout reports whether net/http gave up a TLS handshake. The type of the error is
// not exported.
func isHandshakeTimeout(err error) bool {
	return begins(rootOf(err), "net/http: TLS handshake timeout")
}

// A streamError has the shape by which errors.As finds the error of net/http for an
// HTTP/2 stream that was reset (RFC 9113, section 7).
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

// isOfPeer reports whether the server reset the stream, and not net/http for what it got.
func (e streamError) isOfPeer() bool {
	return e.Cause != nil && e.Cause.Error() == "received from peer"
}

// The codes of RFC 9113, section 7.
const protocolError, refusedStream = 0x1, 0x7

func (e streamError) cause() retry.Cause {
	switch e.Code {
	case protocolError:
		return retry.Final
	case refusedStream:
		return retry.NotSent
	}
	return retry.Interrupted
}
