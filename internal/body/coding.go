package body

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
)

// A Decoder undoes a content coding by code of the caller's.
type Decoder struct {
	Coding string // as CodingName has it
	Open   func(io.Reader) (io.Reader, error)
}

// Codings are the content codings that can be undone (RFC 9110, section 8.4.1). They do not
// change.
type Codings struct {
	openers map[string]opener
	accept  string
}

// Identity is the coding that changes nothing.
const Identity = "identity"

// mostLayers is how many codings of one body are undone: nobody means more, and each can
// make much of little.
const mostLayers = 5

// NewCodings returns the codings of the library and of decoders, which take precedence. The
// codings of all decoders are asked for, and gzip if that is wanted.
func NewCodings(gzip bool, decoders []Decoder) *Codings {
	c := &Codings{openers: map[string]opener{"gzip": openGzip, "deflate": openDeflate}}
	var accept []string
	if gzip {
		accept = append(accept, "gzip")
	}
	for _, d := range decoders {
		c.openers[d.Coding] = d.open
		if !slices.Contains(accept, d.Coding) {
			accept = append(accept, d.Coding)
		}
	}
	c.accept = strings.Join(accept, ", ")
	return c
}

// Accept returns the value of the Accept-Encoding field that asks for the codings; "" asks for
// nothing.
func (c *Codings) Accept() string { return c.accept }

// CodingName returns the one name of a coding that can be spelt in several ways.
func CodingName(coding string) string {
	switch coding = strings.ToLower(coding); coding {
	case "x-gzip", "x-compress":
		return coding[len("x-"):]
	}
	return coding
}

// Undo takes the known codings off resp, from the last one on, as the last was applied last. A
// coding that it cannot undo stays in the header, which is replaced, as it may be shared. limit
// bounds the decoded body; 0 is no limit. ctx is the context of the request; its end ends the
// decoding too.
func (c *Codings) Undo(ctx context.Context, method string, resp *http.Response, limit int64) error {
	lines := resp.Header["Content-Encoding"]
	if len(lines) == 0 || resp.Uncompressed || None(method, resp.StatusCode) {
		return nil
	}
	all := listOf(lines)
	left, openers := c.split(all)
	switch {
	case len(left) == len(all):
		return nil
	case len(openers) > mostLayers:
		return fault.New(fault.ErrProtocol, fmt.Errorf("%d content codings, one on the other", len(openers)))
	}
	resp.Header = maps.Clone(resp.Header)
	delete(resp.Header, "Content-Encoding")
	if len(left) > 0 {
		resp.Header["Content-Encoding"] = []string{strings.Join(left, ", ")}
	}
	if len(openers) > 0 {
		delete(resp.Header, "Content-Length")
		resp.Body = newDecoded(ctx, resp.Body, openers, limit)
		resp.ContentLength, resp.Uncompressed = -1, true
	}
	return nil
}

// listOf returns the elements of a list field, which may be spread over several lines and
// have empty elements (RFC 9110, sections 5.3 and 5.6.1).
func listOf(lines []string) []string {
	var all []string
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			if element = strings.Trim(element, " \t"); element != "" {
				all = append(all, element)
			}
		}
	}
	return all
}

// split returns the codings that are left when the known ones at the end have been undone, and
// the openers that undo them, in the order of their use.
func (c *Codings) split(all []string) (left []string, openers []opener) {
	for left = all; len(left) > 0; left = left[:len(left)-1] {
		name := CodingName(left[len(left)-1])
		open, ok := c.openers[name]
		switch {
		case ok:
			openers = append(openers, open)
		case name != Identity:
			return left, openers
		}
	}
	return left, openers
}

var errNoReader = errors.New("the decoder returned no reader")

func (d Decoder) open(l *layer) (io.Reader, error) {
	r, err := d.Open(sharedReader{l})
	if err == nil && r == nil {
		err = errNoReader
	}
	return r, err
}

// A decoded is a body without its codings.
type decoded struct {
	io.Reader // of the last layer
	layers    []*layer
	message   io.Closer
}

func newDecoded(ctx context.Context, message io.ReadCloser, openers []opener, limit int64) *decoded {
	d := &decoded{Reader: message, message: message}
	for _, open := range openers {
		l := newLayer(ctx, d.Reader, open, limit)
		d.layers = append(d.layers, l)
		d.Reader = l
	}
	return d
}

// Close closes the message, and then the decoders: a decoder may wait for a goroutine of its own
// that reads.
func (d *decoded) Close() error {
	for _, l := range d.layers {
		defer l.close() // although others may panic
	}
	return d.message.Close()
}
