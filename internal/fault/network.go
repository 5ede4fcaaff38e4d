package fault

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
)

// ErrInvalidRead is the error of a reader that returned an impossible count.
var ErrInvalidRead = errors.New("body returned an invalid count from Read")

// OfSend returns an error of a RoundTripper with its kind.
func OfSend(err error) error {
	switch {
	case errors.Is(err, ErrBlocked):
		return New(ErrBlocked, err)
	case IsTimeout(err):
		return New(ErrTimeout, err)
	case is[tls.RecordHeaderError](err):
		return New(ErrProtocol, err)
	case is[*net.OpError](err), is[*net.DNSError](err), isTLS(err), isEOF(err), isNetError(err):
		return New(nil, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return New(nil, err)
	}
	return New(ErrProtocol, err)
}

// OfRead returns an error of reading a body with its kind.
func OfRead(err error, protoMajor int) error {
	switch {
	case is[*failure](err):
		return err
	case IsTimeout(err):
		return New(ErrTimeout, err)
	case isUndecodable(err):
		return New(ErrProtocol, err)
	case isEOF(err), isNetError(err), isCutTrailer(err), protoMajor >= 2:
		// HTTP/2 resets streams with an error that has no exported type.
		return New(ErrTruncated, err)
	}
	return New(ErrProtocol, err)
}

// isUndecodable reports whether a body came, but breaks the rules of its coding.
func isUndecodable(err error) bool {
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || is[flate.CorruptInputError](err) ||
		err == ErrInvalidRead || err == io.ErrNoProgress
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isNetError(err error) bool {
	return is[net.Error](err) || errors.Is(err, net.ErrClosed) || isLost(err) || isRefused(err)
}

func isTLS(err error) bool { return is[*tls.CertificateVerificationError](err) || isAlert(err) }

// isAlert reports whether one side of a TLS connection refused the other. crypto/tls does not
// export the type of such alerts, but wraps them in an OpError.
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

// IsShortage reports whether this machine had no descriptor, port or buffer left for a
// connection, which is not the fault of any host.
func IsShortage(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS},
		func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// For the following net/http has no types, only texts. The tests notice when these change.

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
