package body

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Decode undoes the gzip coding of a response to a request that asked for it by itself: the
// decoders of net/http are not pooled. As in net/http, the header fields that no longer
// hold are removed.
func Decode(resp *http.Response) {
	encoding := resp.Header["Content-Encoding"]
	if len(encoding) == 0 || !strings.EqualFold(encoding[0], "gzip") || resp.Body == http.NoBody {
		return
	}
	resp.Body = &gzipReader{body: resp.Body}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Uncompressed = true
}

var gzipPool sync.Pool

// A gzipReader decodes a body with a pooled decoder, which is made when the
// first byte is asked for.
type gzipReader struct {
	body io.ReadCloser
	gz   *gzip.Reader
	err  error
}

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.gz == nil && g.err == nil {
		g.open()
	}
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.gz.Read(p)
	if err != nil {
		g.err = err
	}
	return n, err
}

func (g *gzipReader) open() {
	if gz, ok := gzipPool.Get().(*gzip.Reader); ok {
		g.gz, g.err = gz, gz.Reset(g.body)
		return
	}
	g.gz, g.err = gzip.NewReader(g.body)
}

// Close closes the body. The decoder goes back to the pool.
func (g *gzipReader) Close() error {
	if g.gz != nil {
		gzipPool.Put(g.gz)
		g.gz = nil
	}
	if g.err == nil {
		g.err = http.ErrBodyReadAfterClose
	}
	return g.body.Close()
}
