package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"

	"github.com/batchhttp/fetch/internal/retry"
)

// A tunnelError is an error of the own client for a tunnel that did not come about.
type tunnelError interface {
	error
	ProxyStatus() int // of the proxy's refusal; 0: it did not refuse
}

// ofTunnel returns an error of a tunnel that did not come about, which is a failure to connect;
// nil if err is another error, or is one of connecting by its type.
func ofTunnel(err error, way Way) error {
	own, isOwn := errors.AsType[tunnelError](err)
	_, isKnown := classOf(err)
	switch {
	case isOwn && own.ProxyStatus() != 0:
		return New(nil, newRefusal(own.ProxyStatus(), err))
	case !isOwn && (!way.Tunnelled || way.Connected), isOfConnecting(err):
		return nil
	case IsTimeout(err):
		return New(ErrTimeout, newBrokenTunnel(err))
	case isBroken(err):
		return New(nil, newBrokenTunnel(err))
	case isKnown, isOwn && begins(err, "tls: "):
		return nil
	case isOwn:
		return New(nil, newBrokenTunnel(err))
	case isPlain(err):
		return New(nil, newRefusal(statusOf(leafOf(err).Error()), err))
	}
	return nil
}

// isOfConnecting reports whether the type of an error says why no connection came about.
func isOfConnecting(err error) bool {
	return errors.Is(err, ErrBlocked) || errors.Is(err, context.Canceled) || isTLS(err) ||
		opError(err, "dial", "proxyconnect", "socks connect") != nil
}

// isBroken reports whether a connection ended, or had bytes on it that make no sense.
func isBroken(err error) bool {
	c, known := classOf(err)
	return known && c != refused && c != ownFault || isEOF(err) || isConnection(err) || is[tls.RecordHeaderError](err)
}

// A brokenTunnel is the end of a connection to a proxy before a request could be sent. The
// origin behind the proxy may be the reason.
type brokenTunnel struct{ cause error }

func newBrokenTunnel(cause error) error {
	return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &brokenTunnel{cause}}
}

func (b *brokenTunnel) Error() string {
	if isBroken(b.cause) || IsTimeout(b.cause) {
		return words(b.cause)
	}
	return "malformed response" // in words that a release has changed
}

func (b *brokenTunnel) Unwrap() error { return b.cause }

// A refusal is the status with which a proxy refused a tunnel. 0 is one that is not known.
// Nothing of a request has been sent.
type refusal struct {
	status int
	cause  error
}

// newRefusal returns the error of a refusal, which is a failed connect.
func newRefusal(status int, cause error) error {
	return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &refusal{status, cause}}
}

// Error shows nothing that the proxy has sent but the number.
func (r *refusal) Error() string {
	text := http.StatusText(r.status)
	switch {
	case r.status == 0:
		return "proxy refused the connection"
	case text == "":
		return fmt.Sprintf("proxy refused: %d", r.status)
	}
	return fmt.Sprintf("proxy refused: %d %s", r.status, text)
}

func (r *refusal) Unwrap() error { return r.cause }

// retryCause tells a proxy that is busy, or cannot reach the origin for the moment, from one
// that does not want to.
func (r *refusal) retryCause() retry.Cause {
	switch r.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return retry.NotSent
	}
	return retry.Final
}

// isPlain reports whether an error is but a text. net/http makes one of the reason phrase of a
// proxy that refuses, and forgets the status.
func isPlain(err error) bool { return reflect.TypeOf(leafOf(err)) == reflect.TypeOf(ErrProtocol) }

// leafOf returns the error that err wraps and that wraps none.
func leafOf(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

// statusOf returns the status of a refusal that has a text, or 0.
func statusOf(text string) int {
	for status := 100; status < 600 && text != ""; status++ {
		if http.StatusText(status) == text && status != http.StatusOK {
			return status
		}
	}
	return 0
}
