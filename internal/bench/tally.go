package main

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
)

// A tally is what the server saw since it was last asked.
type tally struct {
	Connections int64
	HTTP1       int64 // requests
	HTTP2       int64
}

// A counter counts a tally, and hands it out over HTTP. Its gate expects as many
// requests as who asks for the tally announces.
type counter struct {
	gate                      gate
	connections, http1, http2 atomic.Int64
}

func (c *counter) connection(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		c.connections.Add(1)
	}
}

func (c *counter) request(protoMajor int) {
	if protoMajor == 2 {
		c.http2.Add(1)
	} else {
		c.http1.Add(1)
	}
}

// take returns the tally and starts a new one.
func (c *counter) take() tally {
	return tally{Connections: c.connections.Swap(0), HTTP1: c.http1.Swap(0), HTTP2: c.http2.Swap(0)}
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	expected, err := strconv.Atoi(r.FormValue("expect"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.gate.expect(expected)
	json.NewEncoder(w).Encode(c.take())
}
