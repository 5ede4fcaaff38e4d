package main

import (
	"fmt"
	"time"
)

// A workload is a kind of response, and where it is served.
type workload struct {
	name     string
	about    string
	served   listenerKind
	size     int // of a decoded body
	chunked  bool
	gzip     bool
	latency  time.Duration
	together bool // all requests in flight at once: each is held until all are there
	requests int  // of one run, unless the caller says otherwise
}

// A listenerKind is one of the ways in which the server can be reached.
type listenerKind string

const (
	plainHTTP listenerKind = "plain HTTP/1"
	tlsHTTP1  listenerKind = "TLS with HTTP/1"
	tlsHTTP2  listenerKind = "TLS with HTTP/2"
	manyHosts listenerKind = "many hosts"
)

// hostCount is the number of manyHosts.
const hostCount = 200

func workloads() []workload {
	return []workload{
		{name: "1k", about: "1 KiB bodies", served: plainHTTP, size: 1 << 10, requests: 10_000},
		{name: "100k", about: "100 KiB bodies", served: plainHTTP, size: 100 << 10, requests: 2_000},
		{name: "chunked", about: "16 KiB bodies in four chunks, no length", served: plainHTTP, size: 16 << 10, chunked: true, requests: 5_000},
		{name: "tls", about: "1 KiB bodies over TLS and HTTP/1", served: tlsHTTP1, size: 1 << 10, requests: 5_000},
		{name: "h2", about: "1 KiB bodies over TLS and HTTP/2", served: tlsHTTP2, size: 1 << 10, requests: 5_000},
		{name: "gzip", about: "16 KiB bodies, compressed", served: plainHTTP, size: 16 << 10, gzip: true, requests: 5_000},
		{name: "latency", about: "1 KiB bodies from one host that takes 5 ms", served: plainHTTP, size: 1 << 10, latency: 5 * time.Millisecond, requests: 5_000},
		{name: "hosts", about: "1 KiB bodies from 200 hosts that take 5 ms", served: manyHosts, size: 1 << 10, latency: 5 * time.Millisecond, requests: 5_000},
		{name: "inflight", about: "1 KiB bodies from 200 hosts, all requests in flight at once", served: manyHosts, size: 1 << 10, together: true, requests: 10_000},
	}
}

// urls returns n different URLs of the workload, in turn on all its hosts.
func (w workload) urls(reached endpoints, n int) []string {
	bases := reached[w.served]
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s/%s/%06d", bases[i%len(bases)], w.name, i)
	}
	return urls
}
