package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
)

// A proxyFunc returns the proxy for a request, or nil, as that of an http.Transport does.
type proxyFunc = func(*http.Request) (*url.URL, error)

// isProxied reports whether net/http would send the request to a proxy, or fail for a proxy that
// makes no sense.
func (c *Client) isProxied(req *http.Request) bool {
	if c.proxy == nil {
		return false
	}
	proxy, err := c.proxy(req)
	return proxy != nil || err != nil
}

// A tunnelError says that no tunnel through a proxy came about, so that nothing of the request
// was sent.
type tunnelError struct {
	status int // of the proxy's refusal; 0: it did not refuse
	cause  error
}

func (e *tunnelError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return fmt.Sprintf("proxy answers CONNECT with %d", e.status)
}

func (e *tunnelError) Unwrap() error { return e.cause }

// ProxyStatus returns the status.
func (e *tunnelError) ProxyStatus() int { return e.status }

// checkTunnel looks at the answer of a proxy to CONNECT. net/http would make an error of the
// reason phrase and forget the status.
func checkTunnel(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &tunnelError{status: resp.StatusCode}
}

// A tunnelWatch tells whether net/http has no connection through a proxy for the request at hand,
// although it wants one.
type tunnelWatch struct {
	mu    sync.Mutex
	wants bool
}

// over returns a context for a request to be watched in. net/http may send it once more, and ask for a
// connection again.
func (w *tunnelWatch) over(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { w.set(true) },
		GotConn: func(httptrace.GotConnInfo) { w.set(false) },
	})
}

func (w *tunnelWatch) set(wants bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wants = wants
}

// review returns an error of the request, or nil, and marks one of the tunnel.
func (w *tunnelWatch) review(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := errors.AsType[*tunnelError](err); err == nil || ok || !w.wants {
		return err
	}
	return &tunnelError{cause: err}
}
