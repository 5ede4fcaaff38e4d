package transport

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// handshakes keeps many first requests to an https origin from opening a connection each,
// when one of HTTP/2 would carry them all: while the first shakes hands, the others wait
// to see which protocol it will be. Origins go by the address that is dialled.
type handshakes struct {
	mu    sync.Mutex
	first map[string]*handshake // to each address, while it is to be waited for
	http1 map[string]struct{}   // where there is nothing to wait for
}

// A handshake is the first to an address.
type handshake struct {
	ended  chan struct{}
	conn   *trackedConn // of HTTP/2, or nil; set before ended is closed
	forget *time.Timer  // of HTTP/2
}

const (
	// handshakePatience is how long a request waits for another's handshake, at the most:
	// longer than most take. A server whose first handshake hangs delays the others by as much.
	handshakePatience = 300 * time.Millisecond
	// handover is more than net/http needs to give a new connection of HTTP/2 to all that
	// wait for one.
	handover = 20 * time.Millisecond
	// maxHTTP1 is how many addresses are remembered.
	maxHTTP1 = 4096
)

// join returns the first handshake, which is to be waited for, or makes one of the caller's
// own, which it must answer for. There may be neither.
func (h *handshakes) join(address string) (first, own *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.http1[address]; ok {
		return nil, nil
	}
	if first = h.first[address]; first != nil {
		return first, nil
	}
	own = &handshake{ended: make(chan struct{})}
	h.first[address] = own
	return nil, own
}

// answer says how a handshake has ended: conn is nil if it failed. own is the one that join
// made for it, or nil. The first that succeeds answers for all: the one that they wait for
// may hang.
func (h *handshakes) answer(address string, own *handshake, conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	http2 := conn != nil && conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2"
	if conn != nil && !http2 {
		h.remember(address)
	}
	first := h.first[address]
	if first == nil || isClosed(first.ended) || conn == nil && first != own {
		return
	}
	if http2 {
		first.conn = conn.(*tls.Conn).NetConn().(*trackedConn)
		first.forget = time.AfterFunc(handover, func() { h.forget(address, first) })
	} else {
		delete(h.first, address)
	}
	close(first.ended)
}

// remember notes that an address speaks HTTP/1, so that there is nothing to wait for.
func (h *handshakes) remember(address string) {
	if len(h.http1) >= maxHTTP1 {
		for forgotten := range h.http1 { // any: it is only waited for once more
			delete(h.http1, forgotten)
			break
		}
	}
	h.http1[address] = struct{}{}
}

// forget ends the time in which a first handshake is waited for.
func (h *handshakes) forget(address string, first *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first[address] == first {
		delete(h.first, address)
	}
}

// close stops the timers that would forget handshakes later.
func (h *handshakes) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, first := range h.first {
		if first.forget != nil {
			first.forget.Stop()
		}
	}
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
