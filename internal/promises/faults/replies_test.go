package faults_test

import (
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// replies are bytes that a server may send, with the result of each. The connection
// is closed after the reply, or kept open where that is said.
var replies = []struct {
	name  string
	reply string
	then  func(conn net.Conn)
	errs  []error // all of which the error must match; none: no error
	body  string  // when there is no error
	code  int     // 0: not looked at
}{
	{name: "a length", reply: fetchtest.WithLength("hello"), body: "hello", code: 200},
	{name: "no body", reply: fetchtest.StatusOK + "Content-Length: 0\r\n\r\n", code: 200},
	{name: "chunks", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", body: "hello", code: 200},
	{name: "chunks with a trailer", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", body: "hello"},
	{name: "chunks and a length", reply: fetchtest.StatusOK + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body: "hello"},
	{name: "until the connection closes", reply: fetchtest.StatusOK + "\r\nhello", body: "hello", code: 200},
	{name: "HTTP/1.0", reply: "HTTP/1.0 200 OK\r\n\r\nhello", body: "hello", code: 200},
	{name: "more than announced", reply: fetchtest.WithLength("hello") + "more", body: "hello"},
	{name: "the same length twice", reply: fetchtest.StatusOK + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
	{name: "204 with a body", reply: "HTTP/1.1 204 No Content\r\n\r\njunk", code: 204},
	{name: "204 with a length", reply: "HTTP/1.1 204 No Content\r\nContent-Length: 9223372036854775807\r\n\r\n", then: fetchtest.UntilClosed, code: 204},
	{name: "304 with a length", reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9223372036854775807\r\n\r\n", then: fetchtest.UntilClosed, code: 304},
	{name: "100 first", reply: "HTTP/1.1 100 Continue\r\n\r\n" + fetchtest.WithLength("hello"), body: "hello", code: 200},
	{name: "103 first", reply: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + fetchtest.WithLength("hello"), body: "hello", code: 200},
	{name: "a status nobody knows", reply: "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", body: "ok", code: 999},
	{name: "a reason full of escapes", reply: "HTTP/1.1 404 \x1b[31m\r\nContent-Length: 2\r\n\r\nok", body: "ok", code: 404},

	{name: "a length, cut", reply: fetchtest.StatusOK + "Content-Length: 10\r\n\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "a length, cut at once", reply: fetchtest.StatusOK + "Content-Length: 10\r\n\r\n", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "a long length, cut", reply: fetchtest.StatusOK + "Content-Length: 3000000\r\n\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut in one", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\na\r\nhello", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut between two", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "chunks, cut after the last", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", errs: []error{fetch.ErrTruncated}, code: 200},
	{name: "a length, reset", reply: fetchtest.StatusOK + "Content-Length: 10\r\n\r\nhello", then: fetchtest.Reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "reset after the head", reply: fetchtest.StatusOK + "Content-Length: 10\r\n\r\n", then: fetchtest.Reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "until the connection closes, reset", reply: fetchtest.StatusOK + "\r\nhello", then: fetchtest.Reset, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200},
	{name: "a chunk of no size", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},
	{name: "a chunk of absurd size", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},
	{name: "a chunk without its end", reply: fetchtest.StatusOK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n", errs: []error{fetch.ErrProtocol}, code: 200},

	{name: "a huge length", reply: fetchtest.StatusOK + "Content-Length: 9223372036854775807\r\n\r\nab", then: fetchtest.UntilClosed, errs: []error{fetch.ErrBodyTooLarge}, code: 200},
	{name: "a length of one too many", reply: fetchtest.StatusOK + "Content-Length: 10485761\r\n\r\nab", then: fetchtest.UntilClosed, errs: []error{fetch.ErrBodyTooLarge}, code: 200},
	{name: "a negative length", reply: fetchtest.StatusOK + "Content-Length: -1\r\n\r\nab", errs: []error{fetch.ErrProtocol}},
	{name: "a length that overflows", reply: fetchtest.StatusOK + "Content-Length: 99999999999999999999\r\n\r\nab", errs: []error{fetch.ErrProtocol}},
	{name: "two lengths", reply: fetchtest.StatusOK + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", errs: []error{fetch.ErrProtocol}},
	{name: "an unknown transfer encoding", reply: fetchtest.StatusOK + "Transfer-Encoding: gzip\r\n\r\n", errs: []error{fetch.ErrProtocol}},

	{name: "101, kept open", reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", then: fetchtest.UntilClosed, errs: []error{fetch.ErrProtocol}, code: 101},
	{name: "status 000", reply: "HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status 000, kept open", reply: "HTTP/1.1 000 None\r\nContent-Length: 100\r\n\r\nok", then: fetchtest.UntilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "status 020", reply: "HTTP/1.1 020 Low\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status 20", reply: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "status -01", reply: "HTTP/1.1 -01 OK\r\nContent-Length: 2\r\n\r\nok", errs: []error{fetch.ErrProtocol}},
	{name: "another protocol", reply: "SSH-2.0-OpenSSH_9\x1b[31m\r\n", then: fetchtest.UntilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "HTTP/0.9", reply: "<html>hello</html>\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a line without colon", reply: fetchtest.StatusOK + "what\r\n\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a NUL in a header", reply: fetchtest.StatusOK + "X: a\x00b\r\n\r\n", errs: []error{fetch.ErrProtocol}},
	{name: "a head too large", reply: fetchtest.StatusOK + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 3000), then: fetchtest.UntilClosed, errs: []error{fetch.ErrProtocol}},
	{name: "a header line without end", reply: fetchtest.StatusOK + "X: " + strings.Repeat("y", 3_000_000), then: fetchtest.UntilClosed, errs: []error{fetch.ErrProtocol}},

	{name: "gzip", reply: fetchtest.WithLength(fetchtest.Zipped([]byte("hello")), "Content-Encoding: gzip\r\n"), body: "hello", code: 200},
	{name: "gzip of two members", reply: fetchtest.WithLength(fetchtest.Zipped([]byte("hel"))+fetchtest.Zipped([]byte("lo")), "Content-Encoding: gzip\r\n"), body: "hello"},
	{name: "gzip, cut", reply: fetchtest.WithLength(fetchtest.Zipped([]byte("hello"))[:20], "Content-Encoding: gzip\r\n"), errs: []error{io.ErrUnexpectedEOF}, code: 200},
	{name: "gzip, cut by the connection", reply: fetchtest.StatusOK + "Content-Length: 100\r\nContent-Encoding: gzip\r\n\r\n" + fetchtest.Zipped([]byte("hello"))[:20], errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200},
	{name: "gzip with a wrong checksum", reply: fetchtest.WithLength(strings.Replace(fetchtest.Zipped([]byte("hello")), "\x86", "\x87", 1), "Content-Encoding: gzip\r\n"), errs: []error{gzip.ErrChecksum}, code: 200},
	{name: "no gzip at all", reply: fetchtest.WithLength("hello, this is plain", "Content-Encoding: gzip\r\n"), errs: []error{gzip.ErrHeader}, code: 200},
	{name: "an encoding nobody asked for", reply: fetchtest.WithLength("hello", "Content-Encoding: br\r\n"), body: "hello"},
}

func TestWhatComesOverTheWireEndsItsOwnURLOnly(t *testing.T) {
	defer fetchtest.CheckNoLeaks(t)
	var urls []string
	for _, test := range replies {
		urls = append(urls, fetchtest.Listen(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, test.reply)
			if test.then != nil {
				test.then(conn)
			}
		}))
	}
	good, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "good") })
	urls = append(urls, good.URL)

	start := time.Now()
	results := fetch.FetchAll(t.Context(), urls)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v: something waited", took)
	}
	fetchtest.CheckResults(t, urls, results)
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
		"reset":                     func(conn net.Conn, _ string) { fetchtest.Reset(conn) },
		"closed in the status line": func(conn net.Conn, _ string) { io.WriteString(conn, "HTTP/1.") },
		"closed in a header":        func(conn net.Conn, _ string) { io.WriteString(conn, fetchtest.StatusOK+"Content-Le") },
		"closed after 100":          func(conn net.Conn, _ string) { io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			r := fetchtest.GetOne(t, fetchtest.Listen(t, serve))
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
	target := fetchtest.Listen(t, func(conn net.Conn, _ string) {
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		fetchtest.UntilClosed(conn)
		close(closed)
	})
	// The injected transport stays open, so that the connection must have been
	// closed for its own sake.
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	r := fetchtest.GetOne(t, target, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithTimeout(0))
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
		r := fetchtest.GetOne(t, server.URL+path, fetch.WithClient(server.Client()))
		if !errors.Is(r.Err, fetch.ErrTruncated) || r.StatusCode != 200 || r.Proto != "HTTP/2.0" {
			t.Errorf("%s: got %d, %s, %v", path, r.StatusCode, r.Proto, r.Err)
		}
	}
}
