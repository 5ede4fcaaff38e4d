package fetchtest

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// NewServer returns a server on a loopback socket that counts its connections.
func NewServer(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *ConnCounter) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	conns := CountConns(server.Config)
	server.Start()
	t.Cleanup(server.Close)
	return server, conns
}

// A ConnCounter counts the connections to a server.
type ConnCounter struct {
	mu         sync.Mutex
	open       map[net.Conn]bool
	max, total int
}

// CountConns counts the connections to a server that is not started yet.
func CountConns(server *http.Server) *ConnCounter {
	c := &ConnCounter{open: map[net.Conn]bool{}}
	server.ConnState = c.change
	return c
}

func (c *ConnCounter) change(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.total++
		c.open[conn] = true
		c.max = max(c.max, len(c.open))
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

// Counts returns how many are open, how many were open at once, and how many were opened.
func (c *ConnCounter) Counts() (open, most, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.max, c.total
}

// Opened returns how many were opened.
func (c *ConnCounter) Opened() int {
	_, _, total := c.Counts()
	return total
}

// WaitForNone reports whether all are closed, within 2 s: the server hears of
// it a moment after the client has done it.
func (c *ConnCounter) WaitForNone() bool {
	for range 200 {
		if open, _, _ := c.Counts(); open == 0 {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// NewSecureServer returns a server for HTTP/2 on TLS, and a configuration of TLS that trusts it.
func NewSecureServer(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}
