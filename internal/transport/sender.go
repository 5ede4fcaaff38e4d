package transport

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// senderKey is the key of the *sender in the context of requests.
type senderKey struct{}

// A sender is what dials know of the requests that they are for: one after the other, in
// one context.
type sender struct {
	ctx context.Context

	mu        sync.Mutex
	dials     int           // for the request at hand
	http1Only bool          // net/http gives it no connection of another request
	alone     bool          // it connects by itself: it is http1Only, or has waited already
	over      chan struct{} // closed when the request has its response, or none; nil: nobody waits for that
}

// NewContext returns a context for the requests of one sender, which sends one after the
// other. net/http dials in a context that has the values of the request's but goes on when
// that ends: the value that NewContext adds lets dials find out.
func NewContext(parent context.Context) context.Context {
	s := &sender{ctx: parent}
	return context.WithValue(parent, senderKey{}, s)
}

func senderOf(ctx context.Context) *sender {
	s, _ := ctx.Value(senderKey{}).(*sender)
	return s
}

// withSender returns a context that ends with that of the sender, too.
func withSender(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	s := senderOf(ctx)
	if s == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// begin is called when a request is about to be sent.
func (s *sender) begin(req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = 0
	s.http1Only = req.Header["Upgrade"] != nil
	s.alone = s.http1Only
}

// end is called when the request has its response, or none.
func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
}

func (s *sender) needsHTTP1() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http1Only
}

// countDial counts a dial, and reports whether it is one of the first most.
func (s *sender) countDial(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	return s.dials <= most
}

// wait returns a channel that is closed at the end of the request, or nil if the request is
// to connect by itself.
func (s *sender) wait() (over <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alone {
		return nil
	}
	s.alone = true
	if s.over == nil {
		s.over = make(chan struct{})
	}
	return s.over
}

// shares reports whether the request that dials gets the connection of another's
// handshake. net/http gives one of HTTP/2 to all that wait, without a word to their
// dials: this one returns when the request is over. It does so once for a request, as
// a connection may have room for a few only.
func (s *sender) shares(ctx context.Context, first *handshake, patience time.Duration) bool {
	over := s.wait()
	if over == nil {
		return false
	}
	if isClosed(first.ended) { // the connection may have been given away, and have no room left
		return s.getsConn(ctx, first, over, time.After(handover))
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-first.ended:
		return s.getsConn(ctx, first, over, nil) // net/http gives it the connection too
	case <-ctx.Done():
		return true
	case <-over:
	case <-timer.C:
	}
	return isClosed(over)
}

// getsConn is shares for the time after the handshake.
func (s *sender) getsConn(ctx context.Context, first *handshake, over <-chan struct{}, expired <-chan time.Time) bool {
	if isClosed(over) || first.conn == nil {
		return isClosed(over)
	}
	select {
	case <-over:
	case <-ctx.Done():
	case <-first.conn.closed: // before it could be given away
		return false
	case <-expired:
		return false
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
