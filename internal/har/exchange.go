package har

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/batchhttp/fetch"
)

// An exchange is one request that is being recorded.
type exchange struct {
	recorder *Recorder
	request  *http.Request
	values   bool // whether they are recorded
	info     fetch.Info
	known    bool // whether there is an Info

	mu     sync.Mutex // guards the fields below: hooks are called on any goroutine
	times  times
	local  net.Addr // of the connection; nil: there was none
	remote net.Addr
	over   bool
}

func (x *exchange) asked() asked { return asked{x.info.Index, x.info.URL, x.info.Queued} }

// note notes when something happened, for the last time; first for the first time.
func (x *exchange) note(m moment)  { x.noteIf(m, func(time.Time) bool { return true }) }
func (x *exchange) first(m moment) { x.noteIf(m, time.Time.IsZero) }

func (x *exchange) noteIf(m moment, wanted func(before time.Time) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over && wanted(x.times[m]) {
		x.times[m] = time.Now()
	}
}

// trace returns a context in which the exchange hears how its request gets on. A name can have
// several addresses, of which several are dialled: the first start and the last end count.
func (x *exchange) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { x.first(lookup) },
		DNSDone:              func(httptrace.DNSDoneInfo) { x.note(found) },
		ConnectStart:         func(_, _ string) { x.first(dial) },
		ConnectDone:          func(_, _ string, _ error) { x.note(dialled) },
		TLSHandshakeStart:    func() { x.first(handshake) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { x.note(secured) },
		GotConn:              x.connect,
		WroteRequest:         func(httptrace.WroteRequestInfo) { x.note(sent) },
		GotFirstResponseByte: func() { x.first(answered) },
	})
}

// connect takes note of the connection.
func (x *exchange) connect(info httptrace.GotConnInfo) {
	x.note(connected)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || info.Conn == nil {
		return
	}
	x.local, x.remote = info.Conn.LocalAddr(), info.Conn.RemoteAddr()
	if info.Reused { // what was dialled meanwhile was for another request
		x.times.forget(lookup, secured)
	}
}

// fail ends an exchange without a response.
func (x *exchange) fail(err error) {
	x.end(func(e *entry) { e.fail(x.request, err) })
}

// receive has the exchange end with the body of its response.
func (x *exchange) receive(resp *http.Response) {
	x.first(answered) // of a RoundTripper that tells nothing
	head := *resp
	head.Header = resp.Header.Clone() // who asked for it may change it
	if resp.Body == nil || resp.Body == http.NoBody {
		x.end(func(e *entry) { e.receive(&head, 0, x.values) })
		return
	}
	resp.Body = &body{ReadCloser: resp.Body, end: func(n int64) {
		x.end(func(e *entry) { e.receive(&head, n, x.values) })
	}}
}

// end makes the entry of an exchange, once.
func (x *exchange) end(complete func(*entry)) {
	x.note(ended)
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return
	}
	x.over = true
	x.mu.Unlock()
	e := newEntry(x)
	complete(&e)
	x.recorder.end(x, e)
}

// A body tells when it has been read or closed, and how many bytes came until then.
type body struct {
	io.ReadCloser
	end func(n int64)

	mu sync.Mutex
	n  int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	b.n += int64(n)
	b.mu.Unlock()
	if err != nil {
		b.finish()
	}
	return n, err
}

func (b *body) Close() error {
	b.finish()
	return b.ReadCloser.Close()
}

func (b *body) finish() {
	b.mu.Lock()
	n := b.n
	b.mu.Unlock()
	b.end(n)
}
