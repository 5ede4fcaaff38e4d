package body

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/batchhttp/fetch/internal/fault"
)

// An opener returns a decoder of the layer's input, which has at least one byte. Decoders of the
// library read l.input, decoders of the caller read a sharedReader.
type opener func(l *layer) (io.Reader, error)

// mostSlack is how many more encoded bytes there may always be than decoded ones: headers of
// codings, empty members and blocks, and bytes behind the end.
const mostSlack = 1 << 20

// A layer undoes one coding. It is opened by the first Read. Bytes behind the end of the
// encoded ones are ignored, as browsers do, but read, since only the end of the message
// tells that it is whole.
type layer struct {
	open opener
	tail int64 // bytes that may be behind the end

	mu    sync.Mutex // for below and input: a decoder of the caller's may read on its own goroutines
	below bounded
	input *bufio.Reader // of below

	decoder io.Reader // nil: not open
	ended   bool      // the decoder; the message may have more
	err     error
}

// newLayer returns a layer over below for a body with the given limit. The bytes that are
// encoded are bounded too: a coding within another can be long and become nothing.
func newLayer(ctx context.Context, below io.Reader, open opener, limit int64) *layer {
	l := &layer{open: open, below: bounded{ctx: ctx, r: below, left: math.MaxInt64}}
	l.tail = min(max(limit, mostSlack), math.MaxInt64-1) // end reads one byte more
	if limit > 0 && limit < math.MaxInt64/16 {
		l.below.left = 8*limit + mostSlack
	}
	l.input = bufio.NewReader(&l.below)
	return l
}

func (l *layer) Read(p []byte) (int, error) {
	if l.err == nil && l.decoder == nil {
		l.err = l.start()
	}
	if l.err != nil {
		return 0, l.err
	}
	if l.ended {
		l.err = l.end()
		return 0, l.err
	}
	n, err := readSome(l.decoder, p)
	switch {
	case err == io.EOF:
		l.ended = true // the decoded bytes need not wait for the end of the message
	case err != nil:
		l.err = l.cause(err)
	}
	return n, l.err
}

// start opens the decoder. Nothing at all is nothing in every coding.
func (l *layer) start() error {
	_, err := l.input.Peek(1)
	if err == nil {
		l.decoder, err = l.open(l)
		if err != nil {
			err = l.cause(err)
		}
	}
	return err
}

// end reads the bytes behind the end.
func (l *layer) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.CopyN(io.Discard, l.input, l.tail+1)
	if err == nil {
		return fault.New(fault.ErrBodyTooLarge, fmt.Errorf("more than %d bytes behind its end", l.tail))
	}
	return err
}

// cause returns an error of the decoder with its sentinel. If reading the encoded bytes has
// failed, that is the cause: the decoder may have turned it into another error.
func (l *layer) cause(err error) error {
	if l.mu.TryLock() { // or it is being read, and has not failed
		defer l.mu.Unlock()
		if l.below.err != nil && l.below.err != io.EOF {
			return l.below.err
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.ErrTruncated, err)
	}
	return fault.New(fault.ErrProtocol, err)
}

func (l *layer) close() {
	if c, ok := l.decoder.(io.Closer); ok {
		c.Close()
	}
}

// A sharedReader reads the input of a layer from any goroutine.
type sharedReader struct{ l *layer }

func (s sharedReader) Read(p []byte) (int, error) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.l.input.Read(p)
}

// A bounded reads from r no more than left bytes. Errors stick. It looks at the context itself:
// decoding can take long after the message has been read, and nothing else ends it then.
type bounded struct {
	ctx  context.Context
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err == nil && b.ctx.Err() != nil {
		b.err = context.Cause(b.ctx)
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := readSome(b.r, p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, fault.New(fault.ErrBodyTooLarge, errors.New("too many bytes to decode"))
	}
	b.err = err
	return n, err
}
