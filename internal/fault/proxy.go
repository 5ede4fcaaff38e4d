package fault

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"

	"github.com/batchhttp/fetch/internal/retry"
)

// A tunnelError is an error of the own client for a proxy that answers CONNECT with a status
// other than 200.
type tunnelError interface {
	error
	ProxyStatus() int
}

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

// statusOf returns the status that has a text, or 0.
func statusOf(text string) int {
	for status := 100; status < 600 && text != ""; status++ {
		if http.StatusText(status) == text {
			return status
		}
	}
	return 0
}
