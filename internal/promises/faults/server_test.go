package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A faultServer behaves as a fault says.
type faultServer struct {
	fault     *fault
	protocol  protocol
	injected  bool           // net/http's Transport sends the requests, also where the own client could
	memory    *memoryNetwork // nil: the real one
	listener  net.Listener
	host      string // with the port, where that is needed
	base      string // URL
	proxyHost string
	good      string // URL of a server that is well
	other     string // URL of one that redirects lead to, and that must not get a secret
	closeIdle func() // of the client
	closers   []func()
	serving   sync.WaitGroup

	mu       sync.Mutex
	requests int
	open     map[net.Conn]bool
}

func newFaultServer(t *testing.T, f *fault, p protocol) *faultServer {
	s := &faultServer{fault: f, protocol: p, open: map[net.Conn]bool{}}
	if f.virtual {
		s.memory = newMemoryNetwork()
	}
	goodListener, goodHost := s.listen(t, "good.example", "80")
	s.serve(goodListener, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "good") }, nil)
	otherListener, otherHost := s.listen(t, "other.example", "80")
	s.serve(otherListener, refuseSecrets(t), nil)
	s.runProxy(t)
	s.good, s.other = "http://"+goodHost, "http://"+otherHost
	scheme, port := "http", "80"
	if p != http1 {
		scheme, port = "https", "443"
	}
	s.listener, s.host = s.listen(t, "bad.example", port)
	s.base = scheme + "://" + s.host
	switch {
	case f.handler != nil && p == http1:
		s.serve(s, s.handle, nil)
	case f.handler != nil:
		s.serve(s, s.handle, s.tlsConfig())
	case f.reply != "" || f.wire != nil || f.frames != nil || f.accepted != nil:
		s.closers = append(s.closers, func() { s.listener.Close() })
		s.acceptAll(s, s.converse)
	default:
		s.listener.Close()
	}
	return s
}

// listen returns a listener and its host: with the name in memory, otherwise on loopback.
func (s *faultServer) listen(t *testing.T, name, port string) (l net.Listener, host string) {
	if s.memory != nil {
		return s.memory.listen(name + ":" + port), name
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, l.Addr().String()
}

func (s *faultServer) serve(l net.Listener, handler http.HandlerFunc, secure *tls.Config) {
	server := &http.Server{Handler: handler, TLSConfig: secure, ErrorLog: log.New(io.Discard, "", 0)}
	s.closers = append(s.closers, func() { server.Close() })
	s.serving.Go(func() {
		if secure == nil {
			server.Serve(l)
		} else {
			server.ServeTLS(l, "", "")
		}
	})
}

// runProxy runs the proxy, or keeps a port on which there is none.
func (s *faultServer) runProxy(t *testing.T) {
	l, host := s.listen(t, "proxy.example", "80")
	s.proxyHost = host
	if s.fault.proxy == nil {
		l.Close()
		return
	}
	s.closers = append(s.closers, func() { l.Close() })
	s.acceptAll(l, func(conn net.Conn) { s.fault.proxy(&faultPeer{Conn: conn, server: s}) })
}

// acceptAll serves each connection on a goroutine of its own.
func (s *faultServer) acceptAll(l net.Listener, converse func(net.Conn)) {
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute)) // which ends what holds a connection
				converse(conn)
			})
		}
	})
}

// refuseSecrets is a server that fails the test if a request has a secret in it. It
// redirects to where the query says, if it does.
func refuseSecrets(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		dump, err := httputil.DumpRequest(req, true)
		if err != nil || bytes.Contains(dump, []byte(fetchtest.Canary)) || req.Header.Get("Authorization") != "" {
			t.Errorf("another origin got, with error %v:\n%s", err, dump)
		}
		if back := req.URL.Query().Get("back"); back != "" {
			http.Redirect(w, req, back, http.StatusFound)
			return
		}
		io.WriteString(w, "other")
	}
}

func (s *faultServer) tlsConfig() *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}, NextProtos: []string{"http/1.1"}}
	if s.protocol == http2 {
		c.NextProtos = []string{"h2"}
	}
	if s.fault.tls != nil {
		s.fault.tls(c)
	}
	return c
}

// close ends the servers.
func (s *faultServer) close() {
	for _, closer := range s.closers {
		closer()
	}
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
	s.serving.Wait()
}

// Accept, Close and Addr make the server the listener of an http.Server, to
// count its connections.
func (s *faultServer) Accept() (net.Conn, error) {
	conn, err := s.listener.Accept()
	if err != nil {
		return nil, err
	}
	counted := &countedConn{conn, s}
	s.mu.Lock()
	s.open[counted] = true
	s.mu.Unlock()
	return counted, nil
}

func (s *faultServer) Close() error   { return s.listener.Close() }
func (s *faultServer) Addr() net.Addr { return s.listener.Addr() }

type countedConn struct {
	net.Conn
	server *faultServer
}

func (c *countedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.open, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// waitForNone reports whether all connections are closed, within 2 s: the
// server hears of it a moment after the client has done it.
func (s *faultServer) waitForNone() bool {
	for range 400 {
		s.closeIdle() // again and again, as one of HTTP/2 is not idle at once
		s.mu.Lock()
		open := len(s.open)
		s.mu.Unlock()
		if open == 0 {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// count counts a request and returns its number since the last takeRequests, from 1.
func (s *faultServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return s.requests
}

func (s *faultServer) takeRequests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.requests
	s.requests = 0
	return n
}

func (s *faultServer) handle(w http.ResponseWriter, req *http.Request) {
	s.count()
	s.fault.handler(w, req.WithContext(context.WithValue(req.Context(), serverKey{}, s)))
}

type serverKey struct{}

// serverOf returns the server, to its handler.
func serverOf(req *http.Request) *faultServer { return req.Context().Value(serverKey{}).(*faultServer) }

func (s *faultServer) converse(conn net.Conn) {
	p := &faultPeer{Conn: conn, below: conn.(*countedConn).Conn, server: s}
	if s.fault.accepted != nil {
		s.fault.accepted(p)
		return
	}
	if s.protocol != http1 {
		secured := tls.Server(conn, s.tlsConfig())
		defer secured.Close()
		if secured.Handshake() != nil {
			return
		}
		p.Conn = secured
	}
	p.reader = bufio.NewReader(p.Conn)
	if s.protocol == http2 {
		(&faultFrames{faultPeer: p}).serve()
		return
	}
	if p.next() == nil {
		return
	}
	if s.fault.wire != nil {
		s.fault.wire(p)
		return
	}
	io.WriteString(p, s.fault.reply)
	if s.fault.then != nil {
		s.fault.then(p)
	}
}

// A faultPeer is the server's side of a connection.
type faultPeer struct {
	net.Conn          // on TLS: what that makes of it
	below    net.Conn // without TLS
	reader   *bufio.Reader
	server   *faultServer
	number   int // of the last request read
	last     *http.Request
}

// next reads a request, with its body; nil if none comes.
func (p *faultPeer) next() *http.Request {
	req, err := http.ReadRequest(p.reader)
	if err != nil {
		return nil
	}
	p.number, p.last = p.server.count(), req
	if p.server.fault.early {
		return req
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil
	}
	return req
}

// hold keeps the connection open until the client closes it.
func hold(p *faultPeer) { io.Copy(io.Discard, p.Conn) }

// cutHard resets the connection.
func cutHard(p *faultPeer) {
	fetchtest.Reset(p.below)
	p.below.Close() // before TLS can say goodbye
}

// drip sends a byte every 50 ms, for ever.
func drip(p *faultPeer) {
	for err := error(nil); err == nil; _, err = io.WriteString(p, "x") {
		time.Sleep(50 * time.Millisecond)
	}
}

// flood sends the same again and again, for ever.
func flood(s string) func(*faultPeer) {
	block := []byte(strings.Repeat(s, 1+(16<<10)/len(s)))
	return func(p *faultPeer) {
		for err := error(nil); err == nil; _, err = p.Write(block) {
		}
	}
}

// transport returns the client's Transport; nil means the Fetcher's own.
func (s *faultServer) transport() *http.Transport {
	f := s.fault
	if !s.injected && s.memory == nil && f.client == nil && (s.protocol == http1 || ownTLS()) {
		return nil
	}
	transport := &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: fetchtest.Certificates().Pool},
		ForceAttemptHTTP2:      s.protocol == http2,
		MaxResponseHeaderBytes: 1 << 20,
	}
	if s.memory != nil {
		transport.DialContext = s.memory.dial
	}
	if f.client != nil {
		f.client(s, transport)
	}
	return transport
}

// fetch sends a request to the server, in a batch with two that are well.
func (s *faultServer) fetch(t *testing.T, method string) fetch.Result {
	t.Helper()
	opts := []fetch.Option{
		fetch.WithRetries(1), fetch.WithBackoff(0, 0), fetch.WithTimeout(20 * time.Second),
		fetch.WithHeader("X-Api-Key", fetchtest.Canary), fetch.WithHeader("X-Api-Key", "2"+fetchtest.Canary), fetch.WithHeader("Cookie", "c="+fetchtest.Canary),
	}
	s.closeIdle = func() {} // the own client of FetchAll closes all that it has opened
	if transport := s.transport(); transport != nil {
		s.closeIdle = transport.CloseIdleConnections
		opts = append(opts, fetch.WithClient(fetchtest.NewClient(transport)))
	}
	opts = append(opts, s.fault.opts...)
	urls := []string{s.good + "/1", s.target(), s.good + "/2"}
	var results []fetch.Result
	if method == http.MethodGet {
		results = fetch.FetchAll(t.Context(), urls, opts...)
	} else {
		results = s.post(t, urls, opts)
	}
	fetchtest.CheckResults(t, urls, results)
	for _, i := range []int{0, 2} {
		if r := results[i]; !r.OK() || string(r.Body) != "good" || r.Attempts != 1 {
			t.Errorf("%s: a URL that is well got %d, %q, %v in %d attempts", method, r.StatusCode, r.Body, r.Err, r.Attempts)
		}
	}
	fetchtest.CheckNoSecret(t, results)
	return results[1]
}

func (s *faultServer) post(t *testing.T, urls []string, opts []fetch.Option) []fetch.Result {
	reqs := []*http.Request{
		fetchtest.NewRequest(t, http.MethodGet, urls[0], nil),
		fetchtest.NewRequest(t, http.MethodPost, urls[1], strings.NewReader("secret="+fetchtest.Canary+strings.Repeat("x", s.fault.upload))),
		fetchtest.NewRequest(t, http.MethodGet, urls[2], nil),
	}
	f := fetchtest.NewFetcher(t, opts...)
	if s.transport() == nil {
		s.closeIdle = f.Close
	}
	return f.DoAll(t.Context(), reqs)
}

// target returns the URL to fetch. It has a secret wherever that can be.
func (s *faultServer) target() string {
	if s.fault.target != nil {
		return s.fault.target(s.base)
	}
	return strings.Replace(s.base, "://", "://"+fetchtest.Canary+":"+fetchtest.Canary+"@", 1) + "/?key=" + fetchtest.Canary + "#" + fetchtest.Canary
}
