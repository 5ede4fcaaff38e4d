package h1

import (
	"io"
	"net/http"
	"sync"
)

// A body is that of one response. It is safe for a Close while another goroutine reads.
type body struct {
	source  io.Reader
	counted counted // the source of a plain response
	clean   bool

	reading sync.Mutex // held by Read
	err     error      // of every further Read; under reading

	mu   sync.Mutex // never held over a read
	conn *Conn      // nil once the exchange is over; set to that under both locks
}

// newBody returns the body of a response. It is clean if the connection can be used again after
// its end.
func newBody(c *Conn, resp *http.Response, clean bool) *body {
	b := &body{conn: c, source: resp.Body, clean: clean}
	if resp.Body == nil {
		b.counted = counted{c.reader, resp.ContentLength}
		b.source = &b.counted
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.source.Read(p)
	switch {
	case err == io.EOF:
		b.end(err, b.clean)
	case err != nil:
		err = b.conn.failed(err)
		b.end(err, false)
	}
	return n, err
}

// Close ends the exchange. The rest of the body is not read: it may be long, or never come.
func (b *body) Close() error {
	if !b.reading.TryLock() {
		b.interrupt()
		b.reading.Lock()
	}
	defer b.reading.Unlock()
	if b.err == nil || b.err == io.EOF {
		b.end(http.ErrBodyReadAfterClose, false)
	}
	return nil
}

// interrupt ends a Read that is under way. The connection is closed under the lock: a moment
// later it may be another exchange's.
func (b *body) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.socket.Close()
	}
}

// end is called under reading.
func (b *body) end(err error, clean bool) {
	b.err = err
	b.mu.Lock()
	conn := b.conn
	b.conn = nil
	b.mu.Unlock()
	if conn != nil {
		conn.over(clean)
	}
}
