package attempt

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/target"
)

// A watch is told by net/http, by way of the context, about the connection of the request at
// hand. A RoundTripper of others may tell it late, or from several goroutines.
type watch struct {
	mu      sync.Mutex
	address string // that net/http was asked for; "" if it was not, or is not watched for that
	got     bool   // a connection
	reused  bool   // it has served before
}

// over returns a context for requests to be watched in. withAddress costs a text for each
// request.
func (w *watch) over(ctx context.Context, withAddress bool) context.Context {
	trace := &httptrace.ClientTrace{GotConn: w.take}
	if withAddress {
		trace.GetConn = w.begin
	}
	return httptrace.WithClientTrace(ctx, trace)
}

// begin is called before each request, and before each that net/http sends once more.
func (w *watch) begin(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.address, w.got, w.reused = address, false, false
}

func (w *watch) take(info httptrace.GotConnInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got, w.reused = true, info.Reused
}

func (w *watch) isReused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reused
}

// way returns how a request went.
func (w *watch) way(req *http.Request) fault.Way {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fault.Way{
		Connected: w.got,
		Tunnelled: req.URL.Scheme == "https" && w.address != "" && !strings.EqualFold(w.address, addressOf(req)),
	}
}

// addressOf returns the address that net/http dials for an https request without a proxy.
func addressOf(req *http.Request) string {
	port := req.URL.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(target.DialledName(req.URL), port)
}
