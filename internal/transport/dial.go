package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"runtime"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/h1"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// A dialer makes connections, and knows all that are open.
type dialer struct {
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config // not changed; nil is the default

	mu     sync.Mutex
	open   map[*h1.Socket]struct{}
	closed bool
}

func newDialer(c Config) *dialer {
	d := &dialer{open: map[*h1.Socket]struct{}{}, tls: c.TLS}
	own := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if c.Guard != nil {
		own.ControlContext = c.Guard.ControlContext
	}
	d.connect = own.DialContext
	return d
}

func (d *dialer) dial(ctx context.Context, address string) (*h1.Socket, error) {
	var conn net.Conn
	var err error
	onAnotherStack(func() { conn, err = d.connect(ctx, "tcp", address) })
	if err != nil {
		return nil, err
	}
	s := h1.NewSocket(conn, d.forget)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	d.open[s] = struct{}{}
	return s, nil
}

// A secured is a connection with TLS.
type secured struct {
	*tls.Conn
	records *h1.Records
}

// secure dials and shakes hands.
func (d *dialer) secure(ctx context.Context, address string) (*secured, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	socket, err := d.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	records := h1.NewRecords(socket)
	conn := tls.Client(records, d.tlsConfig(host))
	onAnotherStack(func() { err = handshake(ctx, conn) })
	if err != nil {
		socket.Close()
		// As of a dial: nothing of a request has been sent.
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: socket.RemoteAddr(), Err: err}
	}
	return &secured{conn, records}, nil
}

// tlsConfig returns the configuration of a handshake with a host.
func (d *dialer) tlsConfig(host string) *tls.Config {
	c := d.tls.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	c.ServerName = cmp.Or(c.ServerName, host)
	if c.NextProtos == nil {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	return c
}

// handshake tells the hooks in the context, as net/http does where it shakes hands itself.
func handshake(ctx context.Context, conn *tls.Conn) error {
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	err := conn.HandshakeContext(ctx)
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(conn.ConnectionState(), err)
	}
	return err
}

// onAnotherStack runs f, in which code of the caller's may run. Connecting takes more of the stack
// than all else of a request, and a goroutine keeps what it has once needed: for each request in
// flight another 4 KiB.
func onAnotherStack(f func()) {
	switch panicked, returned := fault.Contain(f); {
	case panicked != nil:
		panic(panicked)
	case !returned:
		runtime.Goexit()
	}
}

func (d *dialer) forget(s *h1.Socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, s)
}

// close closes all connections. No other can be dialled.
func (d *dialer) close() {
	d.mu.Lock()
	d.closed = true
	open := d.open
	d.open = nil
	d.mu.Unlock()
	for s := range open {
		s.Close()
	}
}
