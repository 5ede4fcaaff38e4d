// Package h1 speaks HTTP/1.1 (RFC 9112) as a client, over one connection and on the calling
// goroutine: it writes the head of a request, reads the head of the response, and hands out
// its body. It sends requests without a body only; CanSend has the rest of what it leaves
// to others.
//
// A Conn belongs to one exchange at a time, from RoundTrip until its owner hears that it is over.
// It knows no contexts: an exchange is interrupted by closing the socket, from any goroutine.
package h1

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"sync"
)

// maxHead is how many bytes the heads of one response may have, with those of its
// interim responses.
const maxHead = 1 << 20

// An Owner has a connection.
type Owner interface {
	// Over is told once for each response that an exchange is over: its body has been read
	// to its end, or closed. If the connection is not clean it must not be used again.
	Over(clean bool)
}

// A Conn is a connection to a server.
type Conn struct {
	conn    net.Conn // the socket, or TLS over it
	socket  *Socket
	records *Records             // nil without TLS
	state   *tls.ConnectionState // nil without TLS
	owner   Owner
	trace   trace // of the exchange at hand

	reader   *bufio.Reader // of the response at hand; nil between exchanges
	readable int64         // how many bytes may still be read
	answered bool          // the answer to the request has begun
	served   bool          // an exchange before the one at hand
	sent     bool          // a byte of the request has gone
	whole    bool          // all of it has
}

// NewConn returns a Conn over a socket.
func NewConn(s *Socket, owner Owner) *Conn {
	return &Conn{conn: s, socket: s, owner: owner}
}

// NewTLSConn returns a Conn over TLS, made over r, whose handshake is complete.
func NewTLSConn(c *tls.Conn, r *Records, owner Owner) *Conn {
	state := c.ConnectionState()
	return &Conn{conn: c, socket: r.Socket, records: r, state: &state, owner: owner}
}

// Quiet reports whether neither a byte nor the end has come since the last exchange, so that
// the connection may be used for another. If it may not it must be closed: what has come may be
// gone.
func (c *Conn) Quiet() bool {
	if c.records != nil {
		return c.records.quiet(c.conn.(*tls.Conn))
	}
	return c.socket.Quiet()
}

// RoundTrip sends a request, which has the given head, and returns the response to it. After an
// error the connection must be closed, and its owner is told nothing. A server may answer before
// it has read the request, and end the connection: that counts more than the write that fails.
func (c *Conn) RoundTrip(req *http.Request, head *Head) (*http.Response, error) {
	c.answered = false
	c.readable = maxHead
	n, err := c.conn.Write(head.bytes)
	c.sent, c.whole = n > 0, err == nil
	c.trace.sent(head, err)
	if !c.whole && (c.served || c.socket.Quiet()) {
		return nil, c.failed(err)
	}
	if c.records == nil { // TLS may have read all already
		c.socket.await()
	}
	c.reader = newReader(c)
	resp, readErr := c.receive(req)
	if readErr != nil {
		c.freeReader()
		return nil, c.failed(cmp.Or(err, readErr))
	}
	return resp, nil
}

// failed returns an error of the exchange at hand.
func (c *Conn) failed(err error) error {
	if c.served {
		return &reusedError{err}
	}
	return err
}

// A reusedError is one of an exchange over a connection that had served before: bytes that came
// too late for its last check may be those of the exchange before.
type reusedError struct{ err error }

func (e *reusedError) Error() string { return e.err.Error() }
func (e *reusedError) Unwrap() error { return e.err }

// Reused tells whoever looks for the method.
func (e *reusedError) Reused() bool { return true }

// Served reports whether the connection has had an exchange before.
func (c *Conn) Served() bool { return c.served }

// Answered reports whether an answer to the last request has begun. Bytes that cannot begin
// one belong to the exchange before.
func (c *Conn) Answered() bool { return c.answered }

// Sent reports whether a byte of the last request has gone out.
func (c *Conn) Sent() bool { return c.sent }

// Close closes the connection. No exchange may be under way: Socket.Close interrupts one.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) receive(req *http.Request) (*http.Response, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	resp, err := c.final(req)
	if err != nil {
		if c.readable <= 0 {
			err = fmt.Errorf("net/http: server response headers exceeded %d bytes", maxHead)
		}
		return nil, err
	}
	c.readable = math.MaxInt64
	resp.TLS = c.state
	clean := c.whole && !resp.Close && !req.Close && resp.StatusCode > 199
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = http.NoBody // the connection itself: nobody asked for it
	}
	if resp.Body == http.NoBody {
		c.over(clean)
	} else {
		resp.Body = newBody(c, resp, clean)
	}
	return resp, nil
}

var errNoAnswer = textproto.ProtocolError("malformed HTTP response")

// await waits for an answer to begin. On a connection that has served it begins with these
// bytes, or others have come late.
func (c *Conn) await() error {
	const version = "HTTP/"
	if _, err := c.reader.Peek(1); err != nil {
		return err
	}
	for i := 0; c.served && i < len(version); i++ {
		p, err := c.reader.Peek(i + 1)
		if err != nil {
			break // it is http.ReadResponse's to say what is missing
		}
		if p[i] != version[i] {
			return errNoAnswer
		}
	}
	c.answered = true
	return nil
}

// final returns the response behind interim ones (RFC 9110, section 15.2).
func (c *Conn) final(req *http.Request) (*http.Response, error) {
	for {
		if resp := c.plain(req); resp != nil {
			return resp, nil
		}
		resp, err := http.ReadResponse(c.reader, req)
		if err != nil || !isInterim(resp.StatusCode) {
			return resp, err
		}
		if err := c.trace.interim(resp); err != nil {
			return nil, err
		}
	}
}

func isInterim(status int) bool {
	return 100 <= status && status <= 199 && status != http.StatusSwitchingProtocols
}

// over ends an exchange. clean tells that the message was complete, and that neither side
// wants to close.
func (c *Conn) over(clean bool) {
	clean = clean && c.reader.Buffered() == 0
	c.freeReader()
	c.served = true
	c.owner.Over(clean)
}

var errReadLimit = errors.New("read limit reached")

// Read is that of the reader.
func (c *Conn) Read(p []byte) (int, error) {
	if c.readable <= 0 {
		return 0, errReadLimit
	}
	n, err := c.conn.Read(p[:min(int64(len(p)), c.readable)])
	c.readable -= int64(n)
	c.trace.read(n)
	return n, err
}

// readers are of use to connections with an exchange only, so that idle ones take little memory.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func newReader(from io.Reader) *bufio.Reader {
	r := readers.Get().(*bufio.Reader)
	r.Reset(from)
	return r
}

func (c *Conn) freeReader() {
	c.reader.Reset(nil)
	readers.Put(c.reader)
	c.reader = nil
}
