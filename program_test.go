package fetch_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// A program is what a server does, as a string of bytes. Each request takes the
// program up where the last one has left it, and ends when a step closes the connection.
//
// A step is a byte, taken modulo the number of kinds, and what it needs:
//
//	send n n b…   the bytes
//	wait n        n times 100 ms
//	hold          wait until the client closes the connection, but at most 30 s
//	cut           close it
//	reset         reset it
//	inform n      an informational response, 100 to 199
//	head s        a status line, the status s times 4 from 0 to 1020
//	chunk n m     a chunk that says n bytes and has m
//	flood n b     n times 256 bytes b
//	redirect s l  a whole redirect of one of some statuses to one of some places
type program struct {
	turn   chan struct{} // has one element: whoever takes that may serve
	bytes  []byte
	served int  // requests
	slow   bool // whether it has waited
}

const (
	stepSend = iota
	stepWait
	stepHold
	stepCut
	stepReset
	stepInform
	stepHead
	stepChunk
	stepFlood
	stepRedirect
	stepKinds
)

// sendReply is a program that sends a reply and takes the steps that follow.
func sendReply(reply string, then ...byte) []byte {
	return slices.Concat([]byte{stepSend, byte(len(reply) >> 8), byte(len(reply))}, []byte(reply), then)
}

func (p *program) next() byte {
	if len(p.bytes) == 0 {
		return 0
	}
	b := p.bytes[0]
	p.bytes = p.bytes[1:]
	return b
}

func (p *program) take(n int) []byte {
	n = min(n, len(p.bytes))
	taken := p.bytes[:n]
	p.bytes = p.bytes[n:]
	return taken
}

// serve answers one request.
func (p *program) serve(conn *memoryConn) {
	defer conn.Close()
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		return
	}
	<-p.turn // a request may come while an earlier one is still being answered
	defer func() { p.turn <- struct{}{} }()
	p.served++
	for len(p.bytes) > 0 && p.step(conn) {
	}
}

// step takes a step and reports whether the connection is still open.
func (p *program) step(conn *memoryConn) bool {
	var err error
	switch p.next() % stepKinds {
	case stepSend:
		n := int(p.next())<<8 | int(p.next())
		_, err = conn.Write(p.take(n))
	case stepWait:
		p.slow = true
		time.Sleep(time.Duration(p.next()) * 100 * time.Millisecond)
	case stepHold:
		p.slow = true
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		io.Copy(io.Discard, conn)
		return false
	case stepCut:
		return false
	case stepReset:
		conn.cut(syscall.ECONNRESET)
		return false
	case stepInform:
		_, err = fmt.Fprintf(conn, "HTTP/1.1 %d Informational\r\nLink: <x>\r\n\r\n", 100+int(p.next())%100)
	case stepHead:
		_, err = fmt.Fprintf(conn, "HTTP/1.1 %03d Any\r\n", int(p.next())*4)
	case stepChunk:
		said, n := p.next(), int(p.next())
		_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", said, strings.Repeat("x", n))
	case stepFlood:
		n, b := int(p.next()), p.next()
		_, err = conn.Write(slices.Repeat([]byte{b}, n*256))
	case stepRedirect:
		status := []int{301, 302, 303, 307, 308}[p.next()%5]
		location := []string{
			"/next", "?next", "http://good.example/", "http://bad.example:80/x", "//bad.example", "https://bad.example/", "http://nowhere.example/", "ftp://bad.example/",
			"http://a b/", "%zz", "http://user:password@bad.example/", "http://bad.example:99999/", "http:///", "#", "",
		}[p.next()%15]
		fmt.Fprintf(conn, "HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 5\r\n\r\nmoved", status, location)
		return false
	}
	return err == nil
}

// An ending is what came of a program.
type ending struct {
	failed bool
	status int
	body   string
}

// FuzzProgram has a server run a program, and compares what becomes of it with plain
// net/http. Its seeds are what the tables of faults have servers send.
func FuzzProgram(f *testing.F) {
	log.SetOutput(io.Discard) // net/http logs what comes unasked
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	seed := func(reply string) {
		if len(reply) > 4000 {
			return
		}
		f.Add(sendReply(reply))
		f.Add(sendReply(reply, stepHold))
		f.Add(sendReply(reply, stepReset))
		// The same in two parts, and again after a redirect.
		f.Add(slices.Concat(sendReply(reply[:len(reply)/2], stepWait, 1), sendReply(reply[len(reply)/2:])))
		f.Add(slices.Concat([]byte{stepRedirect, 1, 0}, sendReply(reply)))
	}
	for _, r := range replies {
		seed(r.reply)
	}
	for _, faults := range [][]fault{headFaults(), bodyFaults()} {
		for _, fault := range faults {
			if fault.reply != "" {
				seed(fault.reply)
			}
		}
	}
	f.Add([]byte{})
	f.Add([]byte{stepCut})
	f.Add([]byte{stepReset})
	f.Add([]byte{stepHold})
	for status := range byte(5) {
		for location := range byte(15) {
			f.Add(slices.Concat([]byte{stepRedirect, status, location}, sendReply(withLength("hello"))))
		}
	}
	for n := range byte(12) {
		f.Add(slices.Concat(slices.Repeat([]byte{stepRedirect, 0, 0}, int(n)), sendReply(withLength("hello"))))
		f.Add(slices.Concat(slices.Repeat([]byte{stepInform, n}, int(n)), sendReply(withLength("hello"))))
	}
	for status := range byte(255) {
		f.Add(slices.Concat([]byte{stepHead, status}, sendReply("Content-Length: 2\r\n\r\nok")))
	}
	f.Add(slices.Concat(sendReply(chunked), []byte{stepChunk, 5, 5, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(chunked), []byte{stepChunk, 5, 7, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(chunked), []byte{stepChunk, 9, 7, stepWait, 40, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(ok+"X: "), []byte{stepFlood, 255, 'y', stepFlood, 255, 'y'}))
	f.Add(slices.Concat(sendReply(ok+"\r\n"), []byte{stepFlood, 255, 'y', stepWait, 60, stepFlood, 255, 'y'}))
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 5000 {
			t.Skip("longer ones are no more telling")
		}
		synctest.Test(t, func(t *testing.T) { compareEndings(t, steps) })
	})
}

// programTimeout is never a moment at which a program does something.
const programTimeout = 5*time.Second + 50*time.Millisecond

func compareEndings(t *testing.T, steps []byte) {
	var want, got ending
	p := runOn(steps, func(transport *http.Transport) { want = endingByNetHTTP(transport) })
	runOn(steps, func(transport *http.Transport) { got = endingByFetch(t, transport) })
	switch {
	case want.status == http.StatusSwitchingProtocols || !want.failed && want.status < 100:
		// Its body would be whatever comes on the connection, or makes no sense.
		if !got.failed {
			t.Errorf("status %d is no failure", want.status)
		}
	case p.served > 1 && p.slow:
		// net/http waits for the body of a redirect, which is not done here.
	case got.failed != want.failed:
		t.Errorf("got %+.300v, by net/http %+.300v", got, want)
	case !want.failed && got != want:
		t.Errorf("got %+.300v, by net/http %+.300v", got, want)
	}
}

// runOn calls f with a transport to a server that runs the program, and to one that is well.
func runOn(steps []byte, f func(*http.Transport)) *program {
	p := &program{turn: make(chan struct{}, 1), bytes: slices.Clone(steps)}
	p.turn <- struct{}{}
	network := newMemoryNetwork()
	bad, good := network.listen("bad.example:80"), network.listen("good.example:80")
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := bad.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn.(*memoryConn)) })
		}
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "good") })}
	serving.Go(func() { server.Serve(good) })
	transport := &http.Transport{DialContext: network.dial, MaxResponseHeaderBytes: 64 << 10}
	f(transport)
	transport.CloseIdleConnections()
	bad.Close()
	server.Close()
	serving.Wait()
	return p
}

func endingByNetHTTP(transport *http.Transport) ending {
	client := &http.Client{Transport: transport, Timeout: programTimeout}
	resp, err := client.Get("http://bad.example/")
	if err != nil {
		return ending{failed: true}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return ending{status: resp.StatusCode} // no timeout ends the reading of such a body
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ending{failed: true, status: resp.StatusCode}
	}
	return ending{status: resp.StatusCode, body: string(body)}
}

func endingByFetch(t *testing.T, transport *http.Transport) ending {
	urls := []string{"http://good.example/1", "http://bad.example/", "http://good.example/2"}
	start := time.Now()
	results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(newClient(transport)), fetch.WithTimeout(programTimeout), fetch.WithMaxBody(0),
		fetch.WithMaxRedirects(9)) // as net/http has it
	if took := time.Since(start); took > programTimeout {
		t.Errorf("took %v", took)
	}
	checkResults(t, urls, results)
	for _, i := range []int{0, 2} {
		if r := results[i]; !r.OK() || string(r.Body) != "good" {
			t.Errorf("a URL that is well got %d, %q, %v", r.StatusCode, r.Body, r.Err)
		}
	}
	r := results[1]
	return ending{failed: r.Err != nil, status: r.StatusCode, body: string(r.Body)}
}

// A memoryNetwork connects without sockets, so that it works in virtual time.
type memoryNetwork struct {
	listeners map[string]*memoryListener // by host and port
}

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{listeners: map[string]*memoryListener{}}
}

// listen must not be called once something dials.
func (n *memoryNetwork) listen(address string) net.Listener {
	l := newMemoryListener(address, func() (client, server net.Conn) { return newMemoryConns(address) })
	n.listeners[address] = l
	return l
}

// dial is for http.Transport.DialContext.
func (n *memoryNetwork) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l := n.listeners[address]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
	}
	return l.dial(ctx, network, address)
}

// A memoryListener takes connections in memory, which unlike sockets let the
// time of a synctest bubble go on.
type memoryListener struct {
	address string
	connect func() (client, server net.Conn)
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newMemoryListener(address string, connect func() (client, server net.Conn)) *memoryListener {
	return &memoryListener{address: address, connect: connect, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// servePipes serves handler, over HTTP/1 and HTTP/2 without TLS, until the test ends. Its
// connections have no buffers: a write lasts until the other end has read it.
func servePipes(t testing.TB, handler http.Handler) *memoryListener {
	l := newMemoryListener("pipe:80", net.Pipe)
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() {
		server.Close()
		time.Sleep(time.Minute) // for handlers that sleep
	})
	return l
}

// dial connects to the listener, whatever the address. It is for http.Transport.DialContext.
func (l *memoryListener) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	client, server := l.connect()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryAddr(l.address) }

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }

// A memoryConn is one end of a connection. Unlike those of net.Pipe it has buffers,
// as sockets have, and can be reset.
type memoryConn struct {
	address string
	in, out *memoryQueue
}

func newMemoryConns(address string) (client, server *memoryConn) {
	a, b := newMemoryQueue(), newMemoryQueue()
	return &memoryConn{address, a, b}, &memoryConn{address, b, a}
}

func (c *memoryConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memoryConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memoryConn) LocalAddr() net.Addr         { return memoryAddr(c.address) }
func (c *memoryConn) RemoteAddr() net.Addr        { return memoryAddr(c.address) }

// Close lets the other end read what is there, and then the end.
func (c *memoryConn) Close() error {
	c.cut(io.EOF)
	return nil
}

// cut closes the connection, of which the other end then reads err.
func (c *memoryConn) cut(err error) {
	c.in.change(func() {
		c.in.bytes = nil
		c.in.end(net.ErrClosed, syscall.EPIPE)
	})
	c.out.change(func() { c.out.end(err, net.ErrClosed) })
}

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	c.SetWriteDeadline(t)
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.readBy = t })
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.writeBy = t })
	return nil
}

// A memoryQueue is one direction of a connection.
type memoryQueue struct {
	mu              sync.Mutex
	bytes           []byte
	readErr         error // when bytes are read; nil: there may be more
	writeErr        error
	readBy, writeBy time.Time
	changed         chan struct{} // closed at each change
}

// memoryBuffer is how much a queue takes.
const memoryBuffer = 64 << 10

func newMemoryQueue() *memoryQueue { return &memoryQueue{changed: make(chan struct{})} }

// change makes a change of which those who wait hear.
func (q *memoryQueue) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	q.wakeLocked()
}

func (q *memoryQueue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *memoryQueue) end(readErr, writeErr error) {
	if q.readErr == nil || q.readErr == io.EOF {
		q.readErr = readErr
	}
	if q.writeErr == nil {
		q.writeErr = writeErr
	}
}

func (q *memoryQueue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case len(q.bytes) > 0 || len(p) == 0:
			n := copy(p, q.bytes)
			q.bytes = q.bytes[n:]
			q.wakeLocked()
			return n, nil
		case q.readErr != nil:
			return 0, q.readErr
		}
		if err := q.waitLocked(q.readBy); err != nil {
			return 0, err
		}
	}
}

func (q *memoryQueue) write(p []byte) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.writeErr != nil {
			return n, q.writeErr
		}
		room := min(memoryBuffer-len(q.bytes), len(p)-n)
		if room > 0 {
			q.bytes = append(q.bytes, p[n:n+room]...)
			n += room
			q.wakeLocked()
		}
		if n == len(p) {
			return n, nil
		}
		if err := q.waitLocked(q.writeBy); err != nil {
			return n, err
		}
	}
}

// waitLocked waits for a change, until a deadline if there is one.
func (q *memoryQueue) waitLocked(deadline time.Time) error {
	changed := q.changed
	q.mu.Unlock()
	defer q.mu.Lock()
	if deadline.IsZero() {
		<-changed
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}
