package faults_test

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
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
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
func (p *program) serve(conn *fetchtest.MemoryConn) {
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
func (p *program) step(conn *fetchtest.MemoryConn) bool {
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
		conn.Cut(syscall.ECONNRESET)
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
			"http://a b/", "http://%zz/", "http://user:password@bad.example/", "http://bad.example:99999/", "http:///", "#", "",
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
	coded  bool // with a content coding, which net/http and we have different ideas of
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
			f.Add(slices.Concat([]byte{stepRedirect, status, location}, sendReply(fetchtest.WithLength("hello"))))
		}
	}
	for n := range byte(12) {
		f.Add(slices.Concat(slices.Repeat([]byte{stepRedirect, 0, 0}, int(n)), sendReply(fetchtest.WithLength("hello"))))
		f.Add(slices.Concat(slices.Repeat([]byte{stepInform, n}, int(n)), sendReply(fetchtest.WithLength("hello"))))
	}
	for status := range byte(255) {
		f.Add(slices.Concat([]byte{stepHead, status}, sendReply("Content-Length: 2\r\n\r\nok")))
	}
	f.Add(slices.Concat(sendReply(fetchtest.Chunked), []byte{stepChunk, 5, 5, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(fetchtest.Chunked), []byte{stepChunk, 5, 7, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(fetchtest.Chunked), []byte{stepChunk, 9, 7, stepWait, 40, stepChunk, 0, 0}))
	f.Add(slices.Concat(sendReply(fetchtest.StatusOK+"X: "), []byte{stepFlood, 255, 'y', stepFlood, 255, 'y'}))
	f.Add(slices.Concat(sendReply(fetchtest.StatusOK+"\r\n"), []byte{stepFlood, 255, 'y', stepWait, 60, stepFlood, 255, 'y'}))
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
	case want.coded && got.status == want.status:
		// The tests of the package codings are about that.
	case got.failed != want.failed:
		t.Errorf("got %+.300v, by net/http %+.300v", got, want)
	case !want.failed && (got.status != want.status || got.body != want.body):
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
			serving.Go(func() { p.serve(conn.(*fetchtest.MemoryConn)) })
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
	coded := resp.Uncompressed || resp.Header["Content-Encoding"] != nil
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ending{failed: true, status: resp.StatusCode, coded: coded}
	}
	return ending{status: resp.StatusCode, body: string(body), coded: coded}
}

func endingByFetch(t *testing.T, transport *http.Transport) ending {
	urls := []string{"http://good.example/1", "http://bad.example/", "http://good.example/2"}
	start := time.Now()
	results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithTimeout(programTimeout), fetch.WithMaxBody(0),
		fetch.WithMaxRedirects(9)) // as net/http has it
	if took := time.Since(start); took > programTimeout {
		t.Errorf("took %v", took)
	}
	fetchtest.CheckResults(t, urls, results)
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
	listeners map[string]*fetchtest.MemoryListener // by host and port
}

// listen must not be called once something dials.
func (n *memoryNetwork) listen(address string) net.Listener {
	l := fetchtest.NewMemoryListener(address, func() (client, server net.Conn) { return fetchtest.NewMemoryConns(address) })
	n.listeners[address] = l
	return l
}

// dial is for http.Transport.DialContext.
func (n *memoryNetwork) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l := n.listeners[address]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
	}
	return l.Dial(ctx, network, address)
}
