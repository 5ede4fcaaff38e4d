package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// A proxyError is the status of a proxy that refuses CONNECT.
type proxyError struct{ status int }

func (e *proxyError) Error() string { return fmt.Sprintf("proxy answers CONNECT with %d", e.status) }

// ProxyStatus returns the status.
func (e *proxyError) ProxyStatus() int { return e.status }

// checkTunnel looks at the answer of a proxy to CONNECT. net/http would make an error of the
// reason phrase and forget the status.
func checkTunnel(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{resp.StatusCode}
}
