package connections_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A server that takes long to shake hands, with each connection a little longer or shorter, costs
// the time of a few handshakes, and few are begun for nothing.
func TestSlowHandshakesAreNotBegunAnew(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for handshakes in real time")
	}
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	const slots, takes = 32, 2 * handshakePatience
	for _, http2 := range []bool{false, true} {
		server, conns := newTLSServer(t, http2, remote(takes), func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(20 * time.Millisecond)
			io.WriteString(w, "ok")
		}, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
		urls := fetchtest.Numbered(server.URL, 50*slots)
		start := time.Now()
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots)))
		if n := conns.Opened(); n > 3*slots {
			t.Errorf("HTTP/2 %v: %d connections for %d slots", http2, n, slots)
		}
		if took := time.Since(start); took > 10*takes {
			t.Errorf("HTTP/2 %v: took %v", http2, took)
		}
	}
}

// remote makes connections that shake hands after a time which differs a little.
func remote(least time.Duration) func(net.Conn) net.Conn {
	var count atomic.Int32
	return func(conn net.Conn) net.Conn {
		return &remoteConn{Conn: conn, wait: least + time.Duration(count.Add(1)*37%100)*time.Millisecond}
	}
}

// A remoteConn is slow at first.
type remoteConn struct {
	net.Conn
	once sync.Once
	wait time.Duration
}

func (c *remoteConn) Read(p []byte) (int, error) {
	c.once.Do(func() { time.Sleep(c.wait) })
	return c.Conn.Read(p)
}
