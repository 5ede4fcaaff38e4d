package fault

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
)

// ErrInvalidRead is the error of a reader that returned an impossible count.
var ErrInvalidRead = errors.New("body returned an invalid count from Read")

// A Way is how a request went, as far as that is known.
type Way struct {
	NetHTTP   bool  // the RoundTripper is net/http's own, or the own client
	Connected bool  // net/http had a connection for it
	Tunnelled bool  // the connection was to be a tunnel through a proxy
	Body      error // of reading the request's body
}

// OfSend returns an error of a RoundTripper with its kind.
func OfSend(err error, way Way) error {
	if failed := ofTunnel(err, way); failed != nil {
		return failed
	}
	switch {
	case is[*callerError](err):
		return New(nil, err)
	case errors.Is(err, ErrBlocked):
		return New(ErrBlocked, err)
	case IsTimeout(err):
		return New(ErrTimeout, err)
	case is[tls.RecordHeaderError](err):
		return New(ErrProtocol, err)
	case is[*net.OpError](err), is[*net.DNSError](err), isTLS(err), isEOF(err), isConnection(err):
		return New(nil, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return New(nil, err)
	case is[streamError](err):
		return New(ErrProtocol, err)
	}
	if c, known := classOf(err); known {
		return New(c.kind, err)
	}
	return ofUnknown(err, way)
}

// ofUnknown returns an error that is in none of the tables. One of net/http is in words that a
// release has changed, with bytes of the server perhaps. Any other is of the caller's code, and
// says nothing about the protocol.
func ofUnknown(err error, way Way) error {
	ofBody := way.Body != nil && errors.Is(err, way.Body)
	if way.NetHTTP && way.Connected && !ofBody && !begins(err, "tls: ") {
		return &failure{ErrProtocol, err, "malformed response"}
	}
	return New(nil, err)
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
	case isEOF(err), isConnection(err), is[streamError](err), protoMajor >= 2:
		return New(ErrTruncated, err)
	}
	if c, known := classOf(err); known {
		return New(cmp.Or(c.kind, ErrTruncated), err)
	}
	// The end has not come, whatever the reason.
	return &failure{ErrTruncated, err, unknownRead}
}

const unknownRead = "reading failed"

// OfStranger returns an error of OfRead for a body that is not net/http's, and so has its own
// words for why it ended.
func OfStranger(err error) error {
	if f, ok := err.(*failure); ok && f.words == unknownRead {
		return New(f.kind, f.cause)
	}
	return err
}

// isUndecodable reports whether a body came, but breaks the rules of its coding.
func isUndecodable(err error) bool {
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || is[flate.CorruptInputError](err) ||
		err == ErrInvalidRead || err == io.ErrNoProgress
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isConnection reports whether a connection failed. That an error is a net.Error does not
// tell: a *url.Error is one, whatever it wraps.
func isConnection(err error) bool {
	if is[*net.OpError](err) || is[syscall.Errno](err) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return true
	}
	c, known := classOf(err)
	return known && (c == lost || c == notTaken)
}

func isTLS(err error) bool { return is[*tls.CertificateVerificationError](err) || isAlert(err) }

// isAlert reports whether one side of a TLS connection refused the other. crypto/tls does not
// export the type of such alerts, but wraps them in an OpError.
func isAlert(err error) bool { return opError(err, "remote error", "local error") != nil }

// isTemporary reports whether err, or an error that it wraps, says that it may pass.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// IsShortage reports whether this machine had no descriptor, port or buffer left for a
// connection, which is not the fault of any host.
func IsShortage(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS},
		func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
