package fetchtest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A MemoryListener takes connections in memory, which unlike sockets let the
// time of a synctest bubble go on.
type MemoryListener struct {
	address string
	connect func() (client, server net.Conn)
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// NewMemoryListener returns a listener whose connections are made by connect.
func NewMemoryListener(address string, connect func() (client, server net.Conn)) *MemoryListener {
	return &MemoryListener{address: address, connect: connect, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// ServePipes serves handler, over HTTP/1 and HTTP/2 without TLS, until the test ends. Its
// connections have no buffers: a write lasts until the other end has read it.
func ServePipes(t testing.TB, handler http.Handler) *MemoryListener {
	l := NewMemoryListener("pipe:80", net.Pipe)
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() {
		server.Close()
		time.Sleep(time.Minute) // for handlers that sleep
	})
	return l
}

// Dial connects to the listener, whatever the address. It is for http.Transport.DialContext.
func (l *MemoryListener) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	client, server := l.connect()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// Accept waits for a Dial.
func (l *MemoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *MemoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address that the listener was made with.
func (l *MemoryListener) Addr() net.Addr { return memoryAddr(l.address) }

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }
