package fetch_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// listen runs serve for each connection to a loopback socket, once the head of
// a request has come, and closes the connection when it returns. It returns a URL.
func listen(t testing.TB, serve func(conn net.Conn, head string)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		conns.Wait()
	})
	conns.Go(func() { // among those waited for, or one could be added when the wait has begun
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second)) // no test waits that long
				var head []byte
				for buf := make([]byte, 4096); !bytes.Contains(head, []byte("\r\n\r\n")); {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					head = append(head, buf[:n]...)
				}
				serve(conn, string(head))
			})
		}
	})
	return "http://" + listener.Addr().String()
}

// untilClosed waits until the client closes the connection.
func untilClosed(conn net.Conn) { io.Copy(io.Discard, conn) }

// reset makes the closing of conn an RST. What was written before is given
// time to arrive, as an RST may overtake it.
func reset(conn net.Conn) {
	time.Sleep(30 * time.Millisecond)
	conn.(*net.TCPConn).SetLinger(0)
}

func zipped(b []byte) string {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.String()
}

// withLength returns a whole reply with the body and its length.
func withLength(body string, header ...string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), strings.Join(header, ""), body)
}

const ok = "HTTP/1.1 200 OK\r\n"

// What a server may send on the wire, and what becomes of it. The connection
// is closed after the reply, or kept open where that is said.
var replies = []struct {
	name  string
	reply string
	then  func(conn net.Conn)
	errs  []error // all of which the error must match; none: no error
	body  string  // when there is no error
	code  int     // 0: not looked at
}{
	{name: "a length", reply: withLength("hello"), body: "hello", code: 200},
	{name: "no body", reply: ok + "Content-Length: 0\r\n\r\n", code: 200},
	{name: "chunks", reply: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", body: "hello", code: 200},
	{name: "chunks with a trailer", reply: ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", body: "hello"},
	{name: "chunks and a length", reply: ok + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body: "hello"},
	{name: "until the connection closes", reply: ok + "\r\nhello", body: "hello", code: 200},
	{name: "HTTP/1.0", reply: "HTTP/1.0 200 OK\r\n\r\nhello", body: "hello", code: 200},
	{name: "more than announced", reply: withLength("hello") + "more", body: "hello"},
	{name: "the same length twice", reply: ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
	{name: "204 with a body", reply: "HTTP/1.1 204 No Content\r\n\r\njunk", code: 204},
	{name: "204 with a length", reply: "HTTP/1.1 204 No Content\r\nContent-Length: 9223372036854775807\r\n\r\n", then: untilClosed, code: 204},
	{name: "304 with a length", reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9223372036854775807\r\n\r\n", then: untilClosed, code: 304},
	{name: "100 first", reply: "HTTP/1.1 100 Continue\r\n\r\n" + withLength("hello"), body: "hello", code: 200},
	{name: "103 first", reply: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + withLength("hello"), body: "hello", code: 200},
	{name: "a status nobody knows", reply: "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", body: "ok", code: 999},
	{name: "a reason full of escapes", reply: "HTTP/1.1 404 \x1b[31m\r\nContent-Length: 2\r\n\r\nok", body: "ok", code: 404},

	{name: "a length, cut", reply: ok + "Content-Length: 10\r\n\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "a length, cut at once", reply: ok + "Content-Length: 10\r\n\r\n", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "a long length, cut", reply: ok + "Content-Length: 3000000\r\n\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut in one", reply: ok + "Transfer-Encoding: chunked\r\n\r\na\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut between two", reply: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut after the last", reply: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", errs: []error{fetch.ErrTruncated}, code: 200},
	{name: "a length, reset", reply: ok + "Content-Length: 10\r\n\r\nhello", then: reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "reset after the head", reply: ok + "Content-Length: 10\r\n\r\n", then: reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "until the connection closes, reset", reply: ok + "\r\nhello", then: reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "a chunk of no size", reply: ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},
	{name: "a chunk of absurd size", reply: ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},
	{name: "a chunk without its end", reply: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},

	{name: "a huge length", reply: ok + "Content-Length: 9223372036854775807\r\n\r\nab", then: untilClosed, errs: []error{fetch.ErrBodyTooLarge}, code: 200},
	{name: "a length of one too many", reply: ok + "Content-Length: 10485761\r\n\r\nab", then: untilClosed, errs: []error{fetch.ErrBodyTooLarge}, code: 200},
	{name: "a negative length", reply: ok + "Content-Length: -1\r\n\r\nab", errs: []error{fetch.ErrProtocol}},
	{name: "a length that overflows", reply: ok + "Content-Length: 99999999999999999999\r\n\r\nab", errs: []error{fetch.ErrProtocol}},
	{name: "two lengths", reply: ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", errs: []error{fetch.ErrProtocol}},
	{name: "an unknown transfer encoding", reply: ok + "Transfer-Encoding: gzip\r\n\r\n", errs: []error{fetch.ErrProtocol}},

	{name: "101, kept open", reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", then: untilClosed, errs: []error{fetch.ErrProtocol}, code: 101},
	{name: "status 000", reply: "HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status 000, kept open", reply: "HTTP/1.1 000 None\r\nContent-Length: 100\r\n\r\nok", then: untilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "status 020", reply: "HTTP/1.1 020 Low\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status 20", reply: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status -01", reply: "HTTP/1.1 -01 OK\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "another protocol", reply: "SSH-2.0-OpenSSH_9\x1b[31m\r\n", then: untilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "HTTP/0.9", reply: "<html>hello</html>\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a line without colon", reply: ok + "what\r\n\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a NUL in a header", reply: ok + "X: a\x00b\r\n\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a head too large", reply: ok + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 3000), then: untilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "a header line without end", reply: ok + "X: " + strings.Repeat("y", 3_000_000), then: untilClosed, errs: []error{fetch.ErrProtocol}},

	{name: "gzip", reply: withLength(zipped([]byte("hello")), "Content-Encoding: gzip\r\n"), body: "hello", code: 200},
	{name: "gzip of two members", reply: withLength(zipped([]byte("hel"))+zipped([]byte("lo")), "Content-Encoding: gzip\r\n"), body: "hello"},
	{name: "gzip, cut", reply: withLength(zipped([]byte("hello"))[:20], "Content-Encoding: gzip\r\n"), errs: []error{io.ErrUnexpectedEOF}, code: 200},
	{name: "gzip, cut by the connection", reply: ok + "Content-Length: 100\r\nContent-Encoding: gzip\r\n\r\n" + zipped([]byte("hello"))[:20], errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "gzip with a wrong checksum", reply: withLength(strings.Replace(zipped([]byte("hello")), "\x86", "\x87", 1), "Content-Encoding: gzip\r\n"), errs: []error{gzip.ErrChecksum}, code: 200},
	{name: "no gzip at all", reply: withLength("hello, this is plain", "Content-Encoding: gzip\r\n"), errs: []error{gzip.ErrHeader}, code: 200},
	{name: "an encoding nobody asked for", reply: withLength("hello", "Content-Encoding: br\r\n"), body: "hello"},
}

func TestWhatComesOverTheWireEndsItsOwnURLOnly(t *testing.T) {
	defer checkNoLeaks(t)
	var urls []string
	for _, test := range replies {
		urls = append(urls, listen(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, test.reply)
			if test.then != nil {
				test.then(conn)
			}
		}))
	}
	good, _ := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "good") })
	urls = append(urls, good.URL)

	start := time.Now()
	results := fetch.FetchAll(t.Context(), urls)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v: something waited", took)
	}
	checkResults(t, urls, results)
	if last := results[len(replies)]; last.Err != nil || string(last.Body) != "good" {
		t.Errorf("the good server: %q, %v", last.Body, last.Err)
	}
	for i, test := range replies {
		t.Run(test.name, func(t *testing.T) {
			r := results[i]
			if (r.Err != nil) != (test.errs != nil) || string(r.Body) != test.body {
				t.Errorf("got %q, %v", r.Body, r.Err)
			}
			for _, want := range test.errs {
				if !errors.Is(r.Err, want) {
					t.Errorf("error %v is not %v", r.Err, want)
				}
			}
			if r.Err != nil && !errors.Is(r.Err, fetch.ErrTruncated) && !errors.Is(r.Err, fetch.ErrBodyTooLarge) && !errors.Is(r.Err, fetch.ErrProtocol) {
				t.Errorf("error %v has no name", r.Err)
			}
			if test.code != 0 && (r.StatusCode != test.code || r.Proto == "" || r.Header == nil || r.FinalURL != r.URL) {
				t.Errorf("got status %d, %q, %v, from %q", r.StatusCode, r.Proto, r.Header, r.FinalURL)
			}
		})
	}
}

func TestNoAnswerIsAnErrorOfTheConnection(t *testing.T) {
	for name, serve := range map[string]func(conn net.Conn, head string){
		"closed":                    func(net.Conn, string) {},
		"reset":                     func(conn net.Conn, _ string) { reset(conn) },
		"closed in the status line": func(conn net.Conn, _ string) { io.WriteString(conn, "HTTP/1.") },
		"closed in a header":        func(conn net.Conn, _ string) { io.WriteString(conn, ok+"Content-Le") },
		"closed after 100":          func(conn net.Conn, _ string) { io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			r := getOne(t, listen(t, serve))
			if r.Err == nil || r.StatusCode != 0 || r.Header != nil || r.FinalURL != "" || r.Attempts != 1 {
				t.Fatalf("got %+v", r)
			}
			if errors.Is(r.Err, fetch.ErrTruncated) || errors.Is(r.Err, fetch.ErrTimeout) {
				t.Errorf("error is %v", r.Err)
			}
			if cause := map[string]error{"reset": syscall.ECONNRESET, "closed": io.EOF}[name]; cause != nil && !errors.Is(r.Err, cause) {
				t.Errorf("error %v is not %v", r.Err, cause)
			}
		})
	}
}

func TestAStatus101IsClosedUnread(t *testing.T) {
	closed := make(chan struct{})
	target := listen(t, func(conn net.Conn, _ string) {
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		untilClosed(conn)
		close(closed)
	})
	// The injected transport stays open, so that the connection must have been
	// closed for its own sake.
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	r := getOne(t, target, fetch.WithClient(newClient(transport)), fetch.WithTimeout(0))
	if !errors.Is(r.Err, fetch.ErrProtocol) || r.StatusCode != 101 {
		t.Errorf("got %d, %v", r.StatusCode, r.Err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open")
	}
}

func TestAnAbortedHTTP2StreamIsATruncatedBody(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		io.WriteString(w, "hello")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, path := range []string{"/length", "/unknown"} {
		r := getOne(t, server.URL+path, fetch.WithClient(server.Client()))
		if !errors.Is(r.Err, fetch.ErrTruncated) || r.StatusCode != 200 || r.Proto != "HTTP/2.0" {
			t.Errorf("%s: got %d, %s, %v", path, r.StatusCode, r.Proto, r.Err)
		}
	}
}

func TestABodyMayBeAsLongAsTheLimitAndNoLonger(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		var size int
		fmt.Sscanf(req.URL.RawQuery, "%d", &size)
		body := bytes.Repeat([]byte("x"), size)
		switch req.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", fmt.Sprint(size))
		case "/chunks":
			http.NewResponseController(w).Flush()
		case "/close":
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			io.WriteString(conn, ok+"\r\n"+string(body))
			return
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, zipped(body))
			return
		case "/error":
			w.WriteHeader(500)
		}
		w.Write(body)
	})
	for _, kind := range []string{"length", "chunks", "close", "gzip", "error"} {
		for _, size := range []int{0, 1, 1000, 1 << 16, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
			t.Run(fmt.Sprintf("%s of %d", kind, size), func(t *testing.T) {
				rawURL := fmt.Sprintf("%s/%s?%d", server.URL, kind, size)
				if size > 0 {
					r := getOne(t, rawURL, fetch.WithMaxBody(int64(size)))
					if r.Err != nil || len(r.Body) != size {
						t.Errorf("with a limit of its size: %d bytes, %v", len(r.Body), r.Err)
					}
				}
				if size > 1 {
					r := getOne(t, rawURL, fetch.WithMaxBody(int64(size-1)))
					if !errors.Is(r.Err, fetch.ErrBodyTooLarge) || r.StatusCode == 0 || r.Header == nil {
						t.Errorf("with a limit of one less: %d, %d bytes, %v", r.StatusCode, len(r.Body), r.Err)
					}
				}
				if r := getOne(t, rawURL, fetch.WithMaxBody(0)); r.Err != nil || len(r.Body) != size {
					t.Errorf("without a limit: %d bytes, %v", len(r.Body), r.Err)
				}
			})
		}
	}
}

// allocated returns how much memory f asks for.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestABodyCannotFillMemory(t *testing.T) {
	bomb := strings.Repeat(zipped(make([]byte, 1<<20)), 64) // members of a gzip file add up
	block := make([]byte, 1<<16)
	for _, test := range []struct {
		name  string
		limit int64
		serve func(conn net.Conn)
		err   error
		most  uint64
	}{
		{"a gzip bomb", 1 << 20, func(conn net.Conn) {
			io.WriteString(conn, withLength(bomb, "Content-Encoding: gzip\r\n"))
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"a gzip bomb on an error page", 1 << 20, func(conn net.Conn) {
			fmt.Fprintf(conn, "HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(bomb), bomb)
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"an endless body", 1 << 20, func(conn net.Conn) {
			io.WriteString(conn, ok+"\r\n")
			for err := error(nil); err == nil; _, err = conn.Write(block) {
			}
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"a length that is not meant, within the limit", 1 << 40, func(conn net.Conn) {
			io.WriteString(conn, ok+"Content-Length: 1000000000000\r\n\r\nab")
		}, fetch.ErrTruncated, 4 << 20},
		{"a length that is not meant, without limit", 0, func(conn net.Conn) {
			io.WriteString(conn, ok+"Content-Length: 9223372036854775807\r\n\r\nab")
		}, fetch.ErrTruncated, 4 << 20},
		{"a length beyond the limit", 1 << 40, func(conn net.Conn) {
			io.WriteString(conn, ok+"Content-Length: 9223372036854775807\r\n\r\nab")
			untilClosed(conn)
		}, fetch.ErrBodyTooLarge, 4 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := listen(t, func(conn net.Conn, _ string) { test.serve(conn) })
			var r fetch.Result
			got := allocated(func() { r = getOne(t, target, fetch.WithMaxBody(test.limit)) })
			if !errors.Is(r.Err, test.err) {
				t.Errorf("error is %v", r.Err)
			}
			if got > test.most {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

func TestNoLengthIsBelievedWhereNoBodyFollows(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		status int
	}{"HEAD": {"HEAD", 200}, "204": {"GET", 204}, "304": {"GET", 304}, "HEAD of an error": {"HEAD", 500}} {
		for _, length := range []int64{1000, 1 << 20, math.MaxInt64} {
			t.Run(fmt.Sprintf("%s, %d", name, length), func(t *testing.T) {
				var r fetch.Result
				req := newRequest(t, test.method, "http://a.example/", nil)
				got := allocated(func() {
					r = sendOne(t, req, over(func(req *http.Request) (*http.Response, error) {
						resp := respond(req, test.status, "")
						resp.ContentLength = length
						return resp, nil
					}))
				})
				if r.Err != nil || len(r.Body) != 0 || r.StatusCode != test.status {
					t.Errorf("got %d, %d bytes, %v", r.StatusCode, len(r.Body), r.Err)
				}
				if got > 512<<10 {
					t.Errorf("%d bytes were allocated", got)
				}
			})
		}
	}
}

func TestAnEncodingThatTheCallerAskedForIsLeftAlone(t *testing.T) {
	body := zipped([]byte("hello"))
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, body)
	})
	r := getOne(t, server.URL, fetch.WithHeader("Accept-Encoding", "gzip"))
	if r.Err != nil || string(r.Body) != body || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, %v, %v", r.Body, r.Header, r.Err)
	}
}

// strange returns a transport that gives every URL but those of
// good.example a response that change has had its way with.
func strange(change func(ctx context.Context, resp *http.Response) (*http.Response, error)) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp := respond(req, 200, "hello")
		if req.URL.Host == "good.example" {
			return resp, nil
		}
		return change(req.Context(), resp)
	}
}

// A strangeBody has a Read of its own.
type strangeBody struct {
	io.Reader
	close error
}

func (b strangeBody) Close() error { return b.close }

func TestAStrangeRoundTripperHarmsItsOwnURLOnly(t *testing.T) {
	reads := func(f readerFunc) func(context.Context, *http.Response) (*http.Response, error) {
		return func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body, resp.ContentLength = strangeBody{Reader: f}, -1
			return resp, nil
		}
	}
	odd := errors.New("odd")
	for _, test := range []struct {
		name   string
		change func(context.Context, *http.Response) (*http.Response, error)
		want   string // "hello", "nothing" or, when empty, an error; "either" is hello or an error
		errs   []error
	}{
		{name: "no response and no error", change: func(context.Context, *http.Response) (*http.Response, error) { return nil, nil }},
		{name: "a response and an error", change: func(_ context.Context, resp *http.Response) (*http.Response, error) { return resp, odd },
			errs: []error{odd}},
		{name: "no body", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body, resp.ContentLength = nil, 0
			return resp, nil
		}, want: "nothing"},
		{name: "no body but a length", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = nil
			return resp, nil
		}},
		{name: "no header", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Header = nil
			return resp, nil
		}, want: "hello"},
		{name: "a redirect without header", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Header, resp.StatusCode = nil, 302
			return resp, nil
		}, want: "hello"},
		{name: "no request in the response", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Request = nil
			return resp, nil
		}, want: "hello"},
		{name: "a negative status", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = -5
			return resp, nil
		}, errs: []error{fetch.ErrProtocol}},
		{name: "a negative number of bytes", change: reads(func(p []byte) (int, error) { return -1, nil })},
		{name: "a very negative number of bytes", change: reads(func(p []byte) (int, error) { return math.MinInt, nil })},
		{name: "more bytes than fit", change: reads(func(p []byte) (int, error) { return len(p) + 1, nil })},
		{name: "more bytes than fit and the end", change: reads(func(p []byte) (int, error) { return math.MaxInt, io.EOF })},
		{name: "nothing for ever", change: reads(func(p []byte) (int, error) { return 0, nil })},
		{name: "nothing for ever, with a length", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = strangeBody{Reader: readerFunc(func(p []byte) (int, error) { return 0, nil })}
			return resp, nil
		}},
		{name: "a failing body", change: reads(func(p []byte) (int, error) { return 0, odd }), errs: []error{odd}},
		{name: "bytes and an error", change: reads(func(p []byte) (int, error) { return copy(p, "hello"), odd }), errs: []error{odd}},
		{name: "bytes and the end", change: reads(func(p []byte) (int, error) { return copy(p, "hello"), io.EOF }), want: "hello"},
		{name: "a length too long", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength++
			return resp, nil
		}, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		{name: "a length much too long", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength += 5 << 20
			return resp, nil
		}, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		// Either is sound; a body cut to the length is not.
		{name: "a length too short", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength--
			return resp, nil
		}, want: "either"},
		{name: "a length of zero", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength = 0
			return resp, nil
		}, want: "hello"},
		{name: "a length of less than nothing", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength = math.MinInt64
			return resp, nil
		}, want: "hello"},
		{name: "a Close that fails", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = strangeBody{resp.Body, odd}
			return resp, nil
		}, want: "hello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				urls := []string{"http://good.example/1", "http://bad.example/", "http://good.example/2"}
				results := fetch.FetchAll(t.Context(), urls, over(strange(test.change)))
				checkResults(t, urls, results)
				checkTook(t, "the batch", time.Since(start), 0)
				for _, i := range []int{0, 2} {
					if r := results[i]; r.Err != nil || string(r.Body) != "hello" {
						t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
					}
				}
				r := results[1]
				got := cmp.Or(string(r.Body), "nothing")
				if r.Err != nil {
					got = "an error"
				}
				if want := cmp.Or(test.want, "an error"); got != want && (want != "either" || got != "hello" && got != "an error") {
					t.Errorf("got %s, want %s: %q, %v", got, want, r.Body, r.Err)
				}
				for _, want := range test.errs {
					if !errors.Is(r.Err, want) {
						t.Errorf("error %v is not %v", r.Err, want)
					}
				}
			})
		})
	}
}

func TestAStallInTheBodyIsATimeout(t *testing.T) {
	for name, body := range map[string]func(ctx context.Context) io.ReadCloser{
		"silence": func(ctx context.Context) io.ReadCloser { return newStalledBody(ctx, "ab") },
		"a drip": func(ctx context.Context) io.ReadCloser {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				return copy(p[:1], "x"), sleepCtx(ctx, 100*time.Millisecond)
			}))
		},
	} {
		for _, length := range []int64{-1, 1000, 5 << 20} {
			t.Run(fmt.Sprintf("%s, length %d", name, length), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					r := getOne(t, "http://a.example/", fetch.WithTimeout(3*time.Second), over(func(req *http.Request) (*http.Response, error) {
						resp := respond(req, 200, "")
						resp.Body, resp.ContentLength = body(req.Context()), length
						return resp, nil
					}))
					if !errors.Is(r.Err, fetch.ErrTimeout) || errors.Is(r.Err, fetch.ErrTruncated) || r.StatusCode != 200 {
						t.Errorf("got %d, %v", r.StatusCode, r.Err)
					}
					checkTook(t, "the attempt", time.Since(start), 3*time.Second)
					checkTook(t, "it says it", r.Took, 3*time.Second)
				})
			})
		}
	}
	t.Run("on the wire", func(t *testing.T) {
		target := listen(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, ok+"Content-Length: 100\r\n\r\nab")
			untilClosed(conn)
		})
		start := time.Now()
		r := getOne(t, target, fetch.WithTimeout(200*time.Millisecond))
		if took := time.Since(start); !errors.Is(r.Err, fetch.ErrTimeout) || took > 2*time.Second {
			t.Errorf("after %v: %v", took, r.Err)
		}
	})
}

func TestBodyFuncGetsTheBodyAndTheResultSoFar(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	urls := []string{"http://a.example/0", "http://a.example/1"}
	var mu sync.Mutex
	got := map[int]string{}
	results := newFetcher(t, over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/1" {
			return respond(req, 302, "moved", "Location", "/2"), nil
		}
		return respond(req, 404, "body of "+req.URL.Path, "X-Y", "z"), nil
	}), fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, body io.Reader) error {
		all, err := io.ReadAll(body)
		mu.Lock()
		defer mu.Unlock()
		got[r.Index] = string(all)
		if r.URL != urls[r.Index] || r.StatusCode != 404 || r.Header.Get("X-Y") != "z" || r.Proto != "HTTP/1.1" ||
			r.FinalURL != []string{urls[0], "http://a.example/2"}[r.Index] || r.Redirects != r.Index || r.Attempts != 1 {
			t.Errorf("f got %+v", r)
		}
		if ctx.Value(key{}) != "value" || ctx.Err() != nil {
			t.Errorf("f got context %v", ctx)
		}
		return err
	})).FetchAll(ctx, urls)
	checkResults(t, urls, results)
	for i, r := range results {
		if r.Err != nil || r.Body != nil || r.StatusCode != 404 {
			t.Errorf("%s: %d, %q, %v", r.URL, r.StatusCode, r.Body, r.Err)
		}
		if want := []string{"body of /0", "body of /2"}[i]; got[i] != want {
			t.Errorf("%s: f read %q", r.URL, got[i])
		}
	}
}

func TestHowBodyFuncEndsAURL(t *testing.T) {
	mine := errors.New("disk full")
	long := strings.Repeat("x", 11<<20)
	readAll := func(_ context.Context, _ fetch.Result, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	careless := func(_ context.Context, _ fetch.Result, body io.Reader) error {
		io.Copy(io.Discard, body)
		return nil
	}
	for _, test := range []struct {
		name string
		body string
		cut  bool
		opts []fetch.Option
		f    func(context.Context, fetch.Result, io.Reader) error
		errs []error
	}{
		{name: "it reads all", body: "hello", f: readAll},
		{name: "it reads nothing", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return nil }},
		{name: "it reads a part", body: long, f: func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.ReadFull(body, make([]byte, 10))
			return err
		}},
		{name: "it fails", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return fmt.Errorf("saving: %w", mine) }, errs: []error{mine}},
		{name: "it fails having read all", body: "hello", f: func(ctx context.Context, r fetch.Result, body io.Reader) error {
			readAll(ctx, r, body)
			return mine
		}, errs: []error{mine}},
		{name: "it returns the end of the body", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return io.EOF }, errs: []error{io.EOF}},
		{name: "more than the default limit", body: long, f: readAll},
		{name: "as much as a limit", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(5)}, f: readAll},
		{name: "more than a limit", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(4)}, f: readAll, errs: []error{fetch.ErrBodyTooLarge}},
		{name: "more than a limit, not caring", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(4)}, f: careless, errs: []error{fetch.ErrBodyTooLarge}},
		{name: "a cut body", body: "hello", cut: true, f: readAll, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		{name: "a cut body, not caring", body: "hello", cut: true, f: careless, errs: []error{fetch.ErrTruncated}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := listen(t, func(conn net.Conn, _ string) {
				length := len(test.body)
				if test.cut {
					length++
				}
				fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", ok, length, test.body)
			})
			r := getOne(t, target, append(test.opts, fetch.WithBodyFunc(test.f))...)
			if (r.Err != nil) != (test.errs != nil) || r.Body != nil || r.StatusCode != 200 || r.Attempts != 1 {
				t.Errorf("got %d, %d bytes, %v", r.StatusCode, len(r.Body), r.Err)
			}
			for _, want := range test.errs {
				if !errors.Is(r.Err, want) {
					t.Errorf("error %v is not %v", r.Err, want)
				}
			}
		})
	}
}

func TestBodyFuncIsNotCalledForAnErrorStatus(t *testing.T) {
	var called atomic.Int32
	count := fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { called.Add(1); return nil })
	answer := over(func(req *http.Request) (*http.Response, error) { return respond(req, 404, "not here", "X", "y"), nil })

	r := getOne(t, "http://a.example/", answer, count, fetch.WithStatusErrors())
	status, ok := errors.AsType[*fetch.StatusError](r.Err)
	if !ok || status.StatusCode != 404 || string(r.Body) != "not here" || r.Header.Get("X") != "y" || called.Load() != 0 {
		t.Errorf("got %q, %v; f was called %d times", r.Body, r.Err, called.Load())
	}
	r = getOne(t, "http://a.example/", answer, count)
	if r.Err != nil || r.Body != nil || called.Load() != 1 {
		t.Errorf("without WithStatusErrors: %q, %v; f was called %d times", r.Body, r.Err, called.Load())
	}
}

func TestBodyFuncRunsInTheSlotAndUnderTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := numbered("http://a.example", 3)
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, over(answerAfter(time.Second)), fetch.WithConcurrency(1),
			fetch.WithTimeout(5*time.Second),
			fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, _ io.Reader) error {
				if r.Index == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return sleepCtx(ctx, time.Second)
			}))
		checkResults(t, urls, results)
		if results[0].Err != nil || !errors.Is(results[1].Err, fetch.ErrTimeout) || results[2].Err != nil {
			t.Errorf("got %v", fetch.JoinErrors(results))
		}
		checkTook(t, "the batch", time.Since(start), (2+5+2)*time.Second)
	})
}

func TestTheBodyIsDeadOnceBodyFuncHasReturned(t *testing.T) {
	var kept io.Reader
	r := getOne(t, "http://a.example/", over(func(req *http.Request) (*http.Response, error) {
		return respond(req, 200, "hello"), nil
	}), fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
		kept = body
		_, err := io.ReadFull(body, make([]byte, 1))
		return err
	}))
	if r.Err != nil {
		t.Error(r.Err)
	}
	if n, err := kept.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestEveryBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, closed atomic.Int32
		answer := func(req *http.Request) (*http.Response, error) {
			resp := respond(req, 200, "hello")
			switch req.URL.Path {
			case "/redirect":
				resp = respond(req, 302, "moved", "Location", "/")
			case "/lost":
				resp = respond(req, 302, "moved", "Location", "ftp://x/")
			case "/switch":
				resp.StatusCode = 101
			case "/zero":
				resp.StatusCode = 0
			case "/error":
				resp.StatusCode = 500
			case "/nothing":
				resp.StatusCode, resp.ContentLength = 204, 0
			case "/large":
				resp.ContentLength = 1 << 40
			case "/endless":
				resp.Body, resp.ContentLength = io.NopCloser(readerFunc(func(p []byte) (int, error) { return len(p), nil })), -1
			case "/cut":
				resp.ContentLength = 100
			case "/stall":
				resp.Body = newStalledBody(req.Context(), "he")
			case "/slow":
				if err := sleepCtx(req.Context(), time.Hour); err != nil {
					return nil, err
				}
			}
			given.Add(1)
			var once sync.Once
			resp.Body = &hookedBody{resp.Body, func() { once.Do(func() { closed.Add(1) }) }}
			return resp, nil
		}
		var urls []string
		for _, path := range []string{"", "redirect", "lost", "switch", "zero", "error", "nothing", "large", "endless", "cut", "stall", "slow"} {
			urls = append(urls, "http://a.example/"+path)
		}
		for name, opts := range map[string][]fetch.Option{
			"plain":         nil,
			"status errors": {fetch.WithStatusErrors()},
			"a body func": {fetch.WithMaxBody(1000), fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
				_, err := io.Copy(io.Discard, body)
				return err
			})},
			"a body func that does not read": {fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return nil })},
			"a body func that fails":         {fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return io.EOF })},
			"no redirects":                   {fetch.WithMaxRedirects(0)},
			"one at a time":                  {fetch.WithConcurrency(1)},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			checkResults(t, urls, fetch.FetchAll(ctx, urls, append(opts, over(answer), fetch.WithTimeout(10*time.Second))...))
			cancel()
			if given.Load() != closed.Load() {
				t.Errorf("%s: %d bodies, %d closed", name, given.Load(), closed.Load())
			}
		}
		for range fetch.Stream(t.Context(), slices.Values(urls), over(answer)) {
			break
		}
		if given.Load() != closed.Load() {
			t.Errorf("after a break: %d bodies, %d closed", given.Load(), closed.Load())
		}
	})
}

func TestAConnectionIsUsedAgainOnceItsBodyWasRead(t *testing.T) {
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, zipped(make([]byte, 100_000)))
		case "/204":
			w.WriteHeader(204)
		case "/500":
			w.WriteHeader(500)
			w.Write(make([]byte, 64<<10))
		case "/chunks":
			for range 3 {
				w.Write(make([]byte, 10_000))
				http.NewResponseController(w).Flush()
			}
		case "/large":
			w.Header().Set("Content-Length", fmt.Sprint(3<<20))
			w.Write(make([]byte, 3<<20))
		}
	})
	var urls []string
	for _, path := range []string{"", "gzip", "204", "500", "chunks", "large"} {
		urls = append(urls, server.URL+"/"+path, server.URL+"/"+path)
	}
	for name, opts := range map[string][]fetch.Option{
		"buffered":      nil,
		"status errors": {fetch.WithStatusErrors()},
		"a body func": {fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.Copy(io.Discard, body)
			return err
		})},
	} {
		_, _, before := conns.counts()
		results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithConcurrency(1))...)
		checkResults(t, urls, results)
		if _, _, after := conns.counts(); after-before != 1 {
			t.Errorf("%s: %d connections for %d requests in turn: %v", name, after-before, len(urls), fetch.JoinErrors(results))
		}
		if !conns.waitForNone() {
			t.Errorf("%s: a connection is still open", name)
		}
	}
}
