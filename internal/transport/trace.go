package transport

import (
	"net/http/httptrace"
	"time"
)

// Hooks of the caller's are told here how a request gets its connection. Those of the dial, and of
// the exchange that follows, are told by net, h1 and net/http.

// connecting is called when the exchange looks for a connection.
func (x *exchange) connecting() {
	if x.plain { // else net/http may be the one to look
		x.tellConnecting()
	}
}

func (x *exchange) tellConnecting() {
	if x.trace != nil && x.trace.GetConn != nil {
		x.trace.GetConn(x.origin.address())
	}
}

// connected is called when the exchange has its connection.
func (x *exchange) connected(c *conn) {
	if x.trace == nil || x.trace.GotConn == nil {
		return
	}
	info := httptrace.GotConnInfo{Conn: c.socket, Reused: c.Served(), WasIdle: c.Served()}
	if c.secured != nil {
		info.Conn = c.secured.Conn
	}
	if info.WasIdle {
		info.IdleTime = time.Since(c.since)
	}
	x.trace.GotConn(info)
}

// connectedHTTP2 is connected for a connection of HTTP/2.
func (x *exchange) connectedHTTP2(c *http2Conn) {
	reused := c.served.Swap(true)
	if !x.plain {
		x.tellConnecting()
	}
	if x.trace != nil && x.trace.GotConn != nil {
		x.trace.GotConn(httptrace.GotConnInfo{Conn: c.socket, Reused: reused})
	}
}
