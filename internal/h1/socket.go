package h1

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Socket is a TCP connection that can be asked, without waiting, whether anything has come.
// Reads and Quiet belong to one goroutine at a time; Close may be called from any.
type Socket struct {
	net.Conn
	raw    syscall.RawConn // nil if it cannot be asked
	look   func(fd uintptr)
	wait   func(fd uintptr) bool
	silent bool // the last look found nothing
	waited bool

	closing sync.Once
	closed  func(*Socket)
}

// NewSocket returns a Socket over a connection of package net. When it is closed it calls closed,
// once.
func NewSocket(conn net.Conn, closed func(*Socket)) *Socket {
	s := &Socket{Conn: conn, closed: closed}
	if c, ok := conn.(syscall.Conn); ok && canLook() {
		s.raw, _ = c.SyscallConn()
	}
	// These are kept, as each exchange needs them.
	s.look = func(fd uintptr) { s.silent = isSilent(fd) }
	s.wait = func(fd uintptr) bool {
		wasFirst := !s.waited
		s.waited = true
		return !wasFirst || !isSilent(fd)
	}
	return s
}

// await waits until something can be read, so that nobody needs to hold a buffer meanwhile. It
// costs no more than a Read, which looks and waits in the same way.
func (s *Socket) await() {
	if s.raw != nil {
		s.waited = false
		s.raw.Read(s.wait) // its error is the next Read's too
	}
}

// Quiet reports whether neither a byte nor the end of the connection has come that was not
// read yet.
func (s *Socket) Quiet() bool {
	if s.raw == nil {
		return false
	}
	s.silent = false
	err := s.raw.Control(s.look)
	return err == nil && s.silent
}

// Close closes the connection.
func (s *Socket) Close() error {
	s.closing.Do(func() { s.closed(s) })
	return s.Conn.Close()
}

// A Records is a Socket under TLS. It can read without waiting, and knows whether all that it
// has read is whole records (RFC 8446, section 5.1).
type Records struct {
	*Socket
	polls  bool                  // Read does not wait
	header [recordHeaderLen]byte // of the record at hand
	got    int                   // of the header
	left   int                   // bytes of the record's fragment to come
}

const recordHeaderLen = 5

// NewRecords returns the Records for a new TLS connection over s.
func NewRecords(s *Socket) *Records { return &Records{Socket: s} }

var errSilent error = &silence{}

// silence is an error that passes, so that crypto/tls does not remember it.
type silence struct{}

func (*silence) Error() string   { return "nothing to read" }
func (*silence) Timeout() bool   { return true }
func (*silence) Temporary() bool { return true }

func (r *Records) Read(p []byte) (int, error) {
	if r.polls && r.Socket.Quiet() {
		return 0, errSilent
	}
	n, err := r.Socket.Read(p)
	r.follow(p[:n])
	return n, err
}

// closePatience is how long the alert that ends TLS may wait for room.
const closePatience = 5 * time.Millisecond

// SetWriteDeadline is called by the Close of crypto/tls, which would wait for seconds if the
// server reads nothing.
func (r *Records) SetWriteDeadline(at time.Time) error {
	if soon := time.Now().Add(closePatience); at.After(soon) {
		at = soon
	}
	return r.Socket.SetWriteDeadline(at)
}

// follow keeps track of where records begin.
func (r *Records) follow(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			p = p[n:]
			continue
		}
		n := copy(r.header[r.got:], p)
		p = p[n:]
		if r.got += n; r.got == len(r.header) {
			r.got = 0
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
	}
}

func (r *Records) whole() bool { return r.got == 0 && r.left == 0 }

// quiet reports whether no byte and no end has come over a TLS connection. Messages of TLS
// itself, such as session tickets, are read and do not count.
func (r *Records) quiet(c *tls.Conn) bool {
	if r.raw == nil {
		return false // a Read would wait
	}
	r.polls = true
	defer func() { r.polls = false }()
	var p [1]byte
	n, err := c.Read(p[:])
	return n == 0 && errors.Is(err, errSilent) && r.whole()
}
