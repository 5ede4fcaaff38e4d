package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A scriptedConn is a connection to a server that sends its pieces once a request has come, and
// then the end. Each Read returns one piece at the most. It cannot be asked whether it is quiet.
type scriptedConn struct {
	net.Conn // nil
	pieces   [][]byte
	end      error
	asked    chan struct{} // closed by the first Write
	sent     bytes.Buffer
	closed   int
}

func newScriptedConn(pieces ...[]byte) *scriptedConn {
	return &scriptedConn{pieces: pieces, end: io.EOF, asked: make(chan struct{})}
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	<-c.asked
	for len(c.pieces) > 0 && len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) == 0 {
		return 0, c.end
	}
	n := copy(p, c.pieces[0])
	c.pieces[0] = c.pieces[0][n:]
	return n, nil
}

func (c *scriptedConn) Write(p []byte) (int, error) {
	if c.sent.Len() == 0 {
		close(c.asked)
	}
	return c.sent.Write(p)
}

func (c *scriptedConn) Close() error                { c.closed++; return nil }
func (c *scriptedConn) SetDeadline(time.Time) error { return nil }
func (c *scriptedConn) LocalAddr() net.Addr         { return &net.TCPAddr{} }
func (c *scriptedConn) RemoteAddr() net.Addr        { return &net.TCPAddr{} }
func (c *scriptedConn) unread() (n int) {
	for _, p := range c.pieces {
		n += len(p)
	}
	return n
}
func (c *scriptedConn) SetReadDeadline(time.Time) error { return nil }

// An overs is an Owner that remembers what it was told.
type overs []bool

func (o *overs) Over(clean bool) { *o = append(*o, clean) }

func nothing(*Socket) {}

// newRequest returns a request, and its head.
func newRequest(t testing.TB, method string) (*http.Request, *Head) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://a.example/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	var h Head
	if !h.Write(req) {
		t.Fatal("the request cannot be sent")
	}
	return req, &h
}

// An outcome is what became of an exchange.
type outcome struct {
	resp    *http.Response // nil: err says why
	err     error
	body    []byte
	bodyErr error
	owned   overs
	conn    *Conn
	wire    *scriptedConn
}

// exchange has one exchange with a server that sends the pieces.
func exchange(t testing.TB, method string, pieces ...[]byte) (o outcome) {
	t.Helper()
	o.wire = newScriptedConn(pieces...)
	o.conn = NewConn(NewSocket(o.wire, nothing), &o.owned)
	req, head := newRequest(t, method)
	if o.resp, o.err = o.conn.RoundTrip(req, head); o.err == nil {
		o.body, o.bodyErr = io.ReadAll(o.resp.Body)
		o.resp.Body.Close()
	}
	return o
}

func get(t testing.TB, reply string) outcome { return exchange(t, "GET", []byte(reply)) }

// sockets returns the two ends of a TCP connection.
func sockets(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	client, server = dialled.(*net.TCPConn), accepted.(*net.TCPConn)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	server.SetDeadline(time.Now().Add(10 * time.Second))
	return client, server
}

// answer reads a request from a socket, and sends a reply.
func answer(t testing.TB, server net.Conn, reply string) {
	t.Helper()
	if _, err := http.ReadRequest(bufio.NewReader(server)); err != nil {
		t.Error(err)
	}
	io.WriteString(server, reply)
}

// eventually reports whether f is true within two seconds.
func eventually(f func() bool) bool {
	for range 2000 {
		if f() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func text(err error) string {
	if err == nil {
		return ""
	}
	if reused, ok := errors.AsType[*reusedError](err); ok {
		err = reused.err
	}
	return err.Error()
}
