// Package body reads the bodies of responses: decoded, within a limit, and whole or with an
// error. A Reader belongs to one goroutine at a time; pooled buffers never leave the package.
package body

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/batchhttp/fetch/internal/fault"
)

const (
	// presized is the greatest length for which a body is read into a slice of just that
	// size. A longer one grows as it comes, since the length is a stranger's word.
	presized = 1 << 20
	// scratchSize is the first size of a pooled buffer, and maxScratch the largest that
	// is kept. It is also the size of the pieces of a longer body.
	scratchSize = 32 << 10
	maxScratch  = 1 << 20
)

// A Reader reads a response body, decoded, within the limit, and with
// the checks that a stranger's RoundTripper makes necessary. Read errors stick.
type Reader struct {
	r     io.Reader
	limit int64 // bytes left to read; negative is no limit
	max   int64
	proto int
	err   error
	one   [1]byte // to find the end with; here, as it would be allocated for each body
}

// Open makes b read the body of the response to a request with the given method, at most
// limit bytes; 0 is no limit. Nothing is read where no body follows, or where the announced
// length is more than the limit.
func (b *Reader) Open(method string, resp *http.Response, limit int64) *Reader {
	b.open(resp, limit)
	switch {
	case None(method, resp.StatusCode) || resp.Body == http.NoBody:
		b.err = io.EOF
	case limit > 0 && resp.ContentLength > limit:
		b.err = tooLarge(limit)
	}
	return b
}

func (b *Reader) open(resp *http.Response, limit int64) {
	*b = Reader{r: resp.Body, limit: limit, max: limit, proto: resp.ProtoMajor}
	if limit == 0 {
		b.limit = -1
	}
}

// Err returns the error that reading has met so far, io.EOF at the end of the body, or nil.
func (b *Reader) Err() error { return b.err }

// Kill makes every further Read fail: the body is closed.
func (b *Reader) Kill() { b.err = http.ErrBodyReadAfterClose }

// Read returns io.EOF, or an error with its kind.
func (b *Reader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than the limit tells a body of just that size from a longer one.
	if b.limit >= 0 && int64(len(p))-1 > b.limit {
		p = p[:b.limit+1]
	}
	n, err := readSome(b.r, p)
	if b.limit >= 0 && int64(n) > b.limit {
		n, err = int(b.limit), tooLarge(b.max)
	}
	if b.limit >= 0 {
		b.limit -= int64(n)
	}
	if err != nil && err != io.EOF {
		err = fault.OfRead(err, b.proto)
	}
	b.err = err
	return n, err
}

// readSome reads once, but does not put up with readers that never get anywhere.
func readSome(r io.Reader, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for range 100 {
		n, err := r.Read(p)
		if n < 0 || n > len(p) {
			return 0, fault.ErrInvalidRead
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func tooLarge(limit int64) error {
	return fault.New(fault.ErrBodyTooLarge, fmt.Errorf("more than %d bytes", limit))
}

// All reads the whole body. length is the announced one; negative is unknown.
func (b *Reader) All(length int64) ([]byte, error) {
	if b.err == io.EOF {
		return []byte{}, nil
	}
	if b.err != nil {
		return nil, b.err
	}
	if length < 1 || length > presized {
		// Many a RoundTripper in tests leaves ContentLength 0 beside a body.
		body, err := b.readGrowing(nil)
		if err == nil && int64(len(body)) < length {
			return nil, fault.New(fault.ErrTruncated, io.ErrUnexpectedEOF)
		}
		return body, err
	}
	body := make([]byte, length)
	n, err := io.ReadFull(b, body)
	if err != nil && b.err == io.EOF {
		return nil, fault.New(fault.ErrTruncated, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	if b.err == io.EOF {
		return body, nil
	}
	// The end is still to be read: only that gives the connection back.
	switch m, err := b.Read(b.one[:]); {
	case m > 0:
		return b.readGrowing(append(body[:n], b.one[0]))
	case err != io.EOF:
		return nil, err
	}
	return body, nil
}

var scratchPool = sync.Pool{New: func() any {
	s := make([]byte, 0, scratchSize)
	return &s
}}

// readGrowing reads to the end, behind the bytes that were read already, into a pooled buffer that is
// doubled when it is full, and beyond the largest of these into pieces.
func (b *Reader) readGrowing(read []byte) ([]byte, error) {
	pooled := scratchPool.Get().(*[]byte)
	defer scratchPool.Put(pooled)
	buf := append((*pooled)[:0], read...)
	for b.err == nil && len(buf) < maxScratch {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, _ := b.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
	}
	*pooled = buf
	if b.err == io.EOF {
		return append(make([]byte, 0, len(buf)), buf...), nil
	}
	pieces := [][]byte{buf}
	for b.err == nil {
		piece := make([]byte, maxScratch)
		n, _ := io.ReadFull(b, piece)
		pieces = append(pieces, piece[:n])
	}
	if b.err != io.EOF {
		return nil, b.err
	}
	return slices.Concat(pieces...), nil
}

// None reports whether no body follows the head, even if that has a length (RFC 9110, section
// 6.4.1).
func None(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}
