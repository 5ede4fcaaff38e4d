package body

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"sync"
)

// gzipMagic is the identification of a member and its method, the only one there is (RFC
// 1952, section 2.3.1).
var gzipMagic = []byte{0x1f, 0x8b, 8}

var gzipPool = sync.Pool{New: func() any { return new(gzip.Reader) }}

// A members decodes one member of a gzip stream after the other, up to bytes that begin none. Its
// decoder goes back to the pool at the end only: before that, a decoder of the caller's may
// still read from it.
type members struct {
	input *bufio.Reader
	gz    *gzip.Reader
}

func openGzip(l *layer) (io.Reader, error) {
	if !beginsMember(l.input, 1) {
		return nil, gzip.ErrHeader
	}
	m := &members{input: l.input, gz: gzipPool.Get().(*gzip.Reader)}
	return m, m.next()
}

// beginsMember reports whether a member begins here. The input may end within its magic bytes, but
// not before the given number of them.
func beginsMember(input *bufio.Reader, least int) bool {
	magic, _ := input.Peek(len(gzipMagic))
	return len(magic) >= least && bytes.HasPrefix(gzipMagic, magic)
}

func (m *members) next() error {
	err := m.gz.Reset(m.input)
	m.gz.Multistream(false)
	return err
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.gz.Read(p)
		switch {
		case err != io.EOF:
			return n, err
		case n > 0:
			return n, nil // the next member may not have come yet
		case !beginsMember(m.input, 2): // a single byte is no reason to doubt the body
			gzipPool.Put(m.gz)
			m.gz = nil
			return 0, io.EOF
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}
