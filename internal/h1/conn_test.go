package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// wireCases are replies of which the lists of faults speak.
var wireCases = []string{
	"", "H", "HTTP/1.1", "HTTP/1.1 200 OK\r\n", "\r\n\r\n", "garbage\r\n\r\n", "hello, this is HTTP/0.9",
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforeign",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n000\r\n\r\nbehind",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloxx0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X, Y\r\n\r\n2\r\nhi\r\n0\r\nX: 1\r\nZ: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("y", 9000) + "\r\n\r\n",
	"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No\r\n\r\n",
	"HTTP/1.1 000 Zero\r\n\r\n", "HTTP/1.1 020 Low\r\n\r\n", "HTTP/1.1 -01 X\r\n\r\n", "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 2000 X\r\n\r\n",
	"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 200 OK\r\n\r\nok",
	"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/3.0 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n",
	"http/1.1 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1\t200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nConnection: foo, CLOSE\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\tc\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n folded: first\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "HTTP/1.1 200 OK\r\n: y\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "HTTP/1.1 200 \x1b[31m\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nX: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nset-cookie: e=f\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
}

var methods = []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"}

// cut cuts a reply in pieces, whose lengths seed has.
func cut(reply, seed []byte) (pieces [][]byte) {
	for _, n := range seed {
		n := min(1+int(n), len(reply))
		pieces = append(pieces, reply[:n:n])
		reply = reply[n:]
	}
	return append(pieces, reply)
}

// FuzzAnswer compares an exchange with http.ReadResponse, and with net/http's Transport.
func FuzzAnswer(f *testing.F) {
	log.SetOutput(io.Discard) // net/http logs what comes unasked
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	for _, reply := range wireCases {
		for i := range methods {
			f.Add(byte(i), []byte(reply), []byte(nil))
		}
		f.Add(byte(0), []byte(reply), bytes.Repeat([]byte{0}, 200))
		f.Add(byte(0), []byte(reply), []byte{16, 1, 1, 1, 20, 0, 2})
	}
	f.Fuzz(func(t *testing.T, method byte, reply, seed []byte) {
		if len(reply) > 1<<16 {
			t.Skip("longer ones are no more telling")
		}
		m := methods[int(method)%len(methods)]
		got := exchange(t, m, cut(reply, seed)...)
		want := exchangeByReading(t, m, cut(reply, seed))
		compare(t, got, want)
		checkOver(t, got, want)
		compareWithTransport(t, m, got, cut(reply, seed))
	})
}

// exchangeByReading is exchange with nothing but http.ReadResponse.
func exchangeByReading(t *testing.T, method string, pieces [][]byte) (o outcome) {
	o.wire = newScriptedConn(pieces...)
	close(o.wire.asked)
	reader := bufio.NewReader(o.wire)
	req, _ := newRequest(t, method)
	if _, o.err = reader.Peek(1); o.err != nil {
		return o
	}
	for {
		o.resp, o.err = http.ReadResponse(reader, req)
		if o.err != nil || o.resp.StatusCode == 101 || o.resp.StatusCode < 100 || o.resp.StatusCode > 199 {
			break
		}
	}
	if o.err == nil && o.resp.StatusCode != 101 {
		o.body, o.bodyErr = io.ReadAll(o.resp.Body)
	}
	if o.err == nil {
		o.owned = overs{o.bodyErr == nil && !o.resp.Close && o.resp.StatusCode > 199 && reader.Buffered() == 0}
	}
	return o
}

func compare(t *testing.T, got, want outcome) {
	t.Helper()
	if text(got.err) != text(want.err) {
		t.Fatalf("error %q, want %q", text(got.err), text(want.err))
	}
	if got.err != nil {
		return
	}
	if !bytes.Equal(got.body, want.body) || text(got.bodyErr) != text(want.bodyErr) {
		t.Errorf("body %.100q, %v; want %.100q, %v", got.body, got.bodyErr, want.body, want.bodyErr)
	}
	a, b := *got.resp, *want.resp
	a.Body, b.Body, a.Request, b.Request = nil, nil, nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got %+v, want %+v", a, b)
	}
}

// checkOver checks what the owner was told.
func checkOver(t *testing.T, got, want outcome) {
	t.Helper()
	if fmt.Sprint(got.owned) != fmt.Sprint(want.owned) {
		t.Errorf("the owner was told %v, want %v", got.owned, want.owned)
	}
	if got.conn.reader != nil {
		t.Error("the reader is kept")
	}
}

// compareWithTransport compares an outcome with that of net/http's Transport.
func compareWithTransport(t *testing.T, method string, got outcome, pieces [][]byte) {
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return newScriptedConn(pieces...), nil },
		MaxResponseHeaderBytes: maxHead, DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	req, _ := newRequest(t, method)
	resp, err := transport.RoundTrip(req)
	if (err != nil) != (got.err != nil) {
		t.Fatalf("error %v, by net/http %v", got.err, err)
	}
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if (err != nil) != (got.bodyErr != nil) || !bytes.Equal(body, got.body) {
		t.Errorf("body %.100q, %v; by net/http %.100q, %v", got.body, got.bodyErr, body, err)
	}
	if resp.StatusCode != got.resp.StatusCode || !reflect.DeepEqual(resp.Header, got.resp.Header) || !reflect.DeepEqual(resp.Trailer, got.resp.Trailer) ||
		resp.ContentLength != got.resp.ContentLength {
		t.Errorf("got %+v, by net/http %+v", got.resp, resp)
	}
}

// Each reply is cut at each byte, and ended at each byte.
func TestWhereAReplyIsCutDoesNotMatter(t *testing.T) {
	for _, reply := range wireCases {
		if len(reply) > 300 {
			continue
		}
		for i := range len(reply) {
			pieces := func() [][]byte { return [][]byte{[]byte(reply[:i]), []byte(reply[i:])} }
			compare(t, exchange(t, "GET", pieces()...), exchangeByReading(t, "GET", pieces()))
			ended := func() [][]byte { return [][]byte{[]byte(reply[:i])} }
			compare(t, exchange(t, "GET", ended()...), exchangeByReading(t, "GET", ended()))
			if t.Failed() {
				t.Fatalf("%q cut at %d", reply, i)
			}
		}
	}
}

// Where the error of a connection is that of the exchange, in the middle of a line it is not, as
// in http.ReadResponse.
func TestTheErrorOfAConnectionComesThrough(t *testing.T) {
	errBroken := errors.New("broken")
	const head, chunked = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, reply := range []string{"", head, head + "hell", chunked, chunked + "5\r\nhel", chunked + "5\r\nhello\r\n", "HTTP/1.1 200 OK\r\n\r\nhello"} {
		var owned overs
		wire := newScriptedConn([]byte(reply))
		wire.end = errBroken
		c := NewConn(NewSocket(wire, nothing), &owned)
		req, head := newRequest(t, "GET")
		resp, err := c.RoundTrip(req, head)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			if len(owned) != 1 || owned[0] {
				t.Errorf("%q: told %v", reply, owned)
			}
		} else if len(owned) != 0 {
			t.Errorf("%q: an owner heard of an exchange that failed", reply)
		}
		if !errors.Is(err, errBroken) || c.Answered() != (reply != "") || !c.Sent() {
			t.Errorf("%q: answered %v, sent %v, %v", reply, c.Answered(), c.Sent(), err)
		}
	}
}

// headOf returns a reply with a head of n bytes.
func headOf(n int, begin, end string) []byte {
	var b bytes.Buffer
	b.WriteString(begin)
	for b.Len()+len(end) < n {
		line := min(1000, n-b.Len()-len(end))
		if rest := n - b.Len() - len(end) - line; rest > 0 && rest < 10 {
			line -= 10
		}
		fmt.Fprintf(&b, "X: %s\r\n", strings.Repeat("y", line-len("X: \r\n")))
	}
	b.WriteString(end)
	return b.Bytes()
}

func TestAHeadHasAtMostOneMebibyte(t *testing.T) {
	const end = "Content-Length: 0\r\n\r\n"
	for _, begin := range []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000) + "HTTP/1.1 200 OK\r\n"} {
		for n, fits := range map[int]bool{maxHead - 1: true, maxHead: true, maxHead + 1: false, 2 * maxHead: false} {
			reply := headOf(n, begin, end)
			if len(reply) != n {
				t.Fatalf("%d bytes are %d", n, len(reply))
			}
			for _, cuts := range []int{0, 300} {
				pieces := func() [][]byte { return cut(reply, bytes.Repeat([]byte{255}, cuts)) }
				o := exchange(t, "GET", pieces()...)
				if (o.err == nil) != fits {
					t.Errorf("a head of %d bytes: %v", n, o.err)
				}
				if o.err != nil && text(o.err) != fmt.Sprintf("net/http: server response headers exceeded %d bytes", maxHead) {
					t.Error(o.err)
				}
				if begin == "HTTP/1.1 200 OK\r\n" { // net/http counts interim responses otherwise
					compareWithTransport(t, "GET", o, pieces())
				}
			}
		}
	}
	// The limit is not that of the body.
	body := strings.Repeat("b", 2*maxHead)
	if o := get(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)); string(o.body) != body || o.bodyErr != nil || !o.owned[0] {
		t.Errorf("%d bytes, %v", len(o.body), o.bodyErr)
	}
}

func TestInterimResponsesWithoutEndAreBounded(t *testing.T) {
	interim := []byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 1<<20/20))
	o := exchange(t, "GET", interim)
	if o.err == nil || !strings.Contains(o.err.Error(), "exceeded") {
		t.Error(o.err)
	}
	if read := len(interim) - o.wire.unread(); read != maxHead {
		t.Errorf("%d bytes were read", read)
	}
}

func TestASwitchOfProtocolsHasNoBody(t *testing.T) {
	o := get(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if o.err != nil || o.resp.StatusCode != 101 || o.resp.Body != http.NoBody || len(o.owned) != 1 || o.owned[0] {
		t.Errorf("%+v", o)
	}
}

// After a request with Close the connection is not used again, whatever the server says.
func TestAConnectionThatIsToBeClosedIsNotClean(t *testing.T) {
	var owned overs
	c := NewConn(NewSocket(newScriptedConn([]byte("HTTP/1.1 204 No Content\r\n\r\n")), nothing), &owned)
	req, head := newRequest(t, "GET")
	req.Close = true
	head.Write(req)
	if _, err := c.RoundTrip(req, head); err != nil || len(owned) != 1 || owned[0] {
		t.Errorf("%v, %v", err, owned)
	}
}

// An answer that comes in two exchanges is told apart by whether the connection has served.
func TestErrorsTellWhetherAConnectionHasServed(t *testing.T) {
	client, server := sockets(t)
	var owned overs
	c := NewConn(NewSocket(client, nothing), &owned)
	for i, reply := range []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 x\r\n\r\n"} {
		req, head := newRequest(t, "GET")
		go answer(t, server, reply)
		_, err := c.RoundTrip(req, head)
		if _, reused := errors.AsType[*reusedError](err); (err != nil) != (i == 1) || reused != (i == 1) {
			t.Errorf("exchange %d: %v, reused %v", i, err, reused)
		}
	}
	if len(owned) != 1 || !owned[0] {
		t.Errorf("told %v", owned)
	}
}

// A server answers before it reads, and resets the connection.
func TestAnAnswerCountsMoreThanAFailedWrite(t *testing.T) {
	client, server := sockets(t)
	var owned overs
	c := NewConn(NewSocket(client, nothing), &owned)
	io.WriteString(server, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
	time.Sleep(20 * time.Millisecond) // a reset may overtake bytes
	server.SetLinger(0)
	server.Close()
	time.Sleep(20 * time.Millisecond)
	req, head := newRequest(t, "GET")
	resp, err := c.RoundTrip(req, head)
	if runtime.GOOS != "linux" && err != nil {
		t.Skipf("the system forgets bytes when a reset comes: %v", err)
	}
	if err != nil || resp.StatusCode != 503 {
		t.Fatalf("%v, %v", resp, err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "busy" || err != nil || len(owned) != 1 || owned[0] {
		t.Errorf("%q, %v, told %v", b, err, owned)
	}
}
