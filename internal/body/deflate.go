package body

import (
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"
)

var errNotDeflate = errors.New("neither zlib nor deflate")

// openDeflate decodes zlib, which the coding "deflate" is, or deflate as such, which some
// servers send under this name (RFC 9110, section 8.4.1.2).
func openDeflate(l *layer) (io.Reader, error) {
	if head, _ := l.input.Peek(2); !isZlib(head) {
		return rawDeflate{flate.NewReader(l.input)}, nil
	}
	return zlib.NewReader(l.input)
}

// isZlib reports whether a stream with this head is zlib (RFC 1950, section 2.2). As deflate it
// would be a stored block with bits set that are skipped, and no encoder begins so.
func isZlib(head []byte) bool {
	if len(head) == 0 || head[0]&0x8f != 8 {
		return false
	}
	return len(head) == 1 || (uint(head[0])<<8|uint(head[1]))%31 == 0
}

// A rawDeflate is a decoder of deflate. Almost any bytes can begin deflate, so a stream without an
// end has not been cut: it never was deflate.
type rawDeflate struct{ io.Reader }

func (r rawDeflate) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = errNotDeflate
	}
	return n, err
}
