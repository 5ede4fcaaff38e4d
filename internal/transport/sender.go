package transport

import (
	"context"
	"sync"

	"github.com/batchhttp/fetch/internal/h1"
)

// senderKey is the key of the *sender in the context of requests.
type senderKey struct{}

// A sender has one exchange of HTTP/1.1 after the other in one context, and interrupts the one at
// hand when that ends. A socket is left before it may serve another sender, so that no context
// can end an exchange that is not its own.
type sender struct {
	ctx  context.Context // of the requests
	once bool            // for one request
	stop func() bool     // has ctx forget the sender; nil: there is nothing to forget yet
	head h1.Head         // of the request at hand

	mu     sync.Mutex
	busy   bool       // has an exchange
	ended  bool       // ctx has
	socket *h1.Socket // of the exchange; nil: it has none yet
}

// NewContext returns a context for requests that are sent one after the other. With it a request
// registers nothing with its context: that is done once, here. So does one with a context made of
// that which ends with it. Any other context, and a second request at a time, does too.
func NewContext(parent context.Context) context.Context {
	s := &sender{}
	s.ctx = context.WithValue(parent, senderKey{}, s)
	context.AfterFunc(parent, s.interrupt)
	return s.ctx
}

// begin returns the sender for a request with the context.
func begin(ctx context.Context) *sender {
	if s, _ := ctx.Value(senderKey{}).(*sender); s != nil && s.ctx.Done() == ctx.Done() && s.begin() {
		return s
	}
	return &sender{ctx: ctx, once: true, busy: true}
}

// begin takes the sender for a request, and reports whether it was free.
func (s *sender) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasFree := !s.busy
	s.busy = true
	return wasFree
}

// use makes the socket that of the exchange, and reports whether the context still lasts.
func (s *sender) use(socket *h1.Socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.once && s.stop == nil && s.ctx.Done() != nil {
		s.stop = context.AfterFunc(s.ctx, s.interrupt)
	}
	if s.ended || s.ctx.Err() != nil {
		return false
	}
	s.socket = socket
	return true
}

// leave gives the socket up, and reports whether it was interrupted.
func (s *sender) leave() (interrupted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	interrupted = s.ended && s.socket != nil
	s.socket = nil
	return interrupted
}

// end is called when the request needs the sender no more.
func (s *sender) end() {
	if s.stop != nil {
		s.stop()
	}
	s.head.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// interrupt is called when the context ends. It closes the socket under the lock, so that it is
// still the sender's.
func (s *sender) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.socket != nil {
		s.socket.Close()
	}
}
