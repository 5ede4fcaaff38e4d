package fetchtest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A MemoryConn is one end of a connection. Unlike those of net.Pipe it has buffers,
// as sockets have, and can be reset.
type MemoryConn struct {
	address string
	in, out *memoryQueue
}

// NewMemoryConns returns the two ends of a connection.
func NewMemoryConns(address string) (client, server *MemoryConn) {
	a, b := newMemoryQueue(), newMemoryQueue()
	return &MemoryConn{address, a, b}, &MemoryConn{address, b, a}
}

func (c *MemoryConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *MemoryConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *MemoryConn) LocalAddr() net.Addr         { return memoryAddr(c.address) }
func (c *MemoryConn) RemoteAddr() net.Addr        { return memoryAddr(c.address) }

// Close lets the other end read all bytes that it has got, and then the end.
func (c *MemoryConn) Close() error {
	c.Cut(io.EOF)
	return nil
}

// Cut closes the connection, of which the other end then reads err.
func (c *MemoryConn) Cut(err error) {
	c.in.change(func() {
		c.in.bytes = nil
		c.in.end(net.ErrClosed, syscall.EPIPE)
	})
	c.out.change(func() { c.out.end(err, net.ErrClosed) })
}

func (c *MemoryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	c.SetWriteDeadline(t)
	return nil
}

func (c *MemoryConn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.readBy = t })
	return nil
}

func (c *MemoryConn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.writeBy = t })
	return nil
}

// A memoryQueue is one direction of a connection.
type memoryQueue struct {
	mu              sync.Mutex
	bytes           []byte
	readErr         error // when bytes are read; nil: there may be more
	writeErr        error
	readBy, writeBy time.Time
	changed         chan struct{} // closed at each change
}

// memoryBuffer is how much a queue takes.
const memoryBuffer = 64 << 10

func newMemoryQueue() *memoryQueue { return &memoryQueue{changed: make(chan struct{})} }

// change makes a change, and wakes all who wait for one.
func (q *memoryQueue) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	q.wakeLocked()
}

func (q *memoryQueue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *memoryQueue) end(readErr, writeErr error) {
	if q.readErr == nil || q.readErr == io.EOF {
		q.readErr = readErr
	}
	if q.writeErr == nil {
		q.writeErr = writeErr
	}
}

func (q *memoryQueue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case len(q.bytes) > 0 || len(p) == 0:
			n := copy(p, q.bytes)
			q.bytes = q.bytes[n:]
			q.wakeLocked()
			return n, nil
		case q.readErr != nil:
			return 0, q.readErr
		}
		if err := q.waitLocked(q.readBy); err != nil {
			return 0, err
		}
	}
}

func (q *memoryQueue) write(p []byte) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.writeErr != nil {
			return n, q.writeErr
		}
		room := min(memoryBuffer-len(q.bytes), len(p)-n)
		if room > 0 {
			q.bytes = append(q.bytes, p[n:n+room]...)
			n += room
			q.wakeLocked()
		}
		if n == len(p) {
			return n, nil
		}
		if err := q.waitLocked(q.writeBy); err != nil {
			return n, err
		}
	}
}

// waitLocked waits for a change, until a deadline if there is one.
func (q *memoryQueue) waitLocked(deadline time.Time) error {
	changed := q.changed
	q.mu.Unlock()
	defer q.mu.Lock()
	if deadline.IsZero() {
		<-changed
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}
