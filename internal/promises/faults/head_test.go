package faults_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestFaultsOfResponseHeads(t *testing.T) { runFaults(t, headFaults()) }

func headFaults() []fault {
	timeout := []error{fetch.ErrTimeout, context.DeadlineExceeded}
	protocolError := []error{fetch.ErrProtocol}
	second := []fetch.Option{fetch.WithTimeout(time.Second)}
	return []fault{
		{number: 29, name: "silence", wire: hold, frames: (*faultFrames).keepSilent, virtual: true, opts: second, errs: timeout, again: ifIdempotent},
		{number: 29, name: "silence, the transport's timeout", wire: hold, frames: (*faultFrames).keepSilent, virtual: true,
			client: func(_ *faultServer, c *http.Transport) { c.ResponseHeaderTimeout = time.Second }, errs: timeout, again: ifIdempotent},
		{number: 30, name: "a head that drips", reply: fetchtest.StatusOK + "X: ", then: drip, virtual: true, opts: second, errs: timeout, again: ifIdempotent},
		{number: 30, name: "a head that drips, the transport's timeout", reply: fetchtest.StatusOK + "X: ", then: drip, virtual: true,
			client: func(_ *faultServer, c *http.Transport) { c.ResponseHeaderTimeout = time.Second }, errs: timeout, again: ifIdempotent},

		{number: 31, name: "header without end", reply: fetchtest.StatusOK, then: flood("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"), errs: protocolError},
		{number: 31, name: "a line without end", reply: fetchtest.StatusOK + "X: ", then: flood("y"), errs: protocolError},
		{number: 31, name: "a status line without end", reply: "HTTP/1.1 200 ", then: flood("y"), errs: protocolError},
		{number: 31, name: "103s without end", reply: "HTTP/1.1 103 Early Hints\r\n\r\n", then: flood("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), errs: protocolError},
		{number: 31, name: "103s without end", frames: func(f *faultFrames) {
			block := headerBlock(":status", "103", "link", strings.Repeat("x", 1000))
			for f.write(frameHeaders, flagEndHeaders, f.stream, block) == nil {
			}
		}, errs: protocolError},
		{number: 32, name: "a header block of 12 MB", frames: func(f *faultFrames) {
			f.write(frameHeaders, 0, f.stream, headerBlock(":status", "200"))
			block := headerBlock("x", strings.Repeat("y", 16000))
			for i := 0; i < 750 && f.write(frameContinuation, 0, f.stream, block) == nil; i++ {
			}
			f.write(frameContinuation, flagEndHeaders, f.stream, nil)
		}, errs: protocolError},
		{number: 32, name: "continuations of nothing without end", frames: func(f *faultFrames) {
			f.write(frameHeaders, 0, f.stream, headerBlock(":status", "200"))
			for f.write(frameContinuation, 0, f.stream, headerBlock("x", strings.Repeat("y", 100))) == nil {
			}
		}, errs: protocolError},
		{number: 33, name: "a hundred thousand cookies", handler: func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100_000 {
				w.Header().Add("Set-Cookie", fmt.Sprintf("c%d=x", i))
			}
		}, errs: protocolError},

		{number: 34, name: "rubbish", reply: "rubbish \x1b[31m\r\n\r\n", then: hold, errs: protocolError, again: garbled},
		{number: 34, name: "HTTP/0.9", reply: "<html>hello</html>\r\n", errs: protocolError, again: garbled},
		{number: 34, name: "a cut status line", reply: "HTTP/1.", errs: protocolError, again: garbled},
		{number: 34, name: "a cut status line after the version", reply: "HTTP/1.1 20", errs: protocolError, again: garbled},
		{number: 34, name: "cut after the status line", reply: fetchtest.StatusOK, errs: []error{io.ErrUnexpectedEOF}, again: ifIdempotent},
		{number: 34, name: "a cut header line", reply: fetchtest.StatusOK + "Content-Le", errs: protocolError, again: garbled},
		{number: 34, name: "a cut head", reply: fetchtest.StatusOK + "Content-Length: 5\r\n", errs: []error{io.ErrUnexpectedEOF}, again: ifIdempotent},
		{number: 35, name: "status 000", reply: "HTTP/1.1 000 None\r\nContent-Length: 100\r\n\r\nok", then: hold, errs: protocolError},
		{number: 35, name: "status 099", reply: "HTTP/1.1 099 None\r\nContent-Length: 2\r\n\r\nok", errs: protocolError, code: 99},
		{number: 35, name: "status 20", reply: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", errs: protocolError},
		{number: 35, name: "status -01", reply: "HTTP/1.1 -01 OK\r\nContent-Length: 2\r\n\r\nok", errs: protocolError},
		{number: 35, name: "status 999", reply: "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", code: 999, body: "ok"},
		{number: 35, name: "status 999", frames: func(f *faultFrames) {
			f.headers(0, ":status", "999")
			f.data(flagEndStream, "ok")
		}, code: 999, body: "ok"},
		{number: 35, name: "status 000", frames: func(f *faultFrames) {
			f.headers(0, ":status", "000")
		}, errs: protocolError},
		{number: 35, name: "no status", frames: func(f *faultFrames) {
			f.headers(0, "x", "y")
		}, errs: protocolError},

		{number: 36, name: "a negative length", reply: fetchtest.StatusOK + "Content-Length: -1\r\n\r\nab", errs: protocolError},
		{number: 36, name: "a length with a sign", reply: fetchtest.StatusOK + "Content-Length: +2\r\n\r\nab", errs: protocolError},
		{number: 36, name: "a length that overflows", reply: fetchtest.StatusOK + "Content-Length: 99999999999999999999\r\n\r\nab", errs: protocolError},
		{number: 36, name: "two lengths", reply: fetchtest.StatusOK + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", errs: protocolError},
		{number: 36, name: "the same length twice", reply: fetchtest.StatusOK + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", code: 200, body: "hello"},
		{number: 37, name: "the longest length", reply: fetchtest.StatusOK + "Content-Length: 9223372036854775807\r\n\r\nab", errs: []error{fetch.ErrBodyTooLarge}, code: 200},
		{number: 37, name: "the longest length", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "content-length", "9223372036854775807")
			f.data(0, "ab")
		}, errs: []error{fetch.ErrBodyTooLarge}, code: 200},
		{number: 37, name: "the longest length without a limit", reply: fetchtest.StatusOK + "Content-Length: 9223372036854775807\r\n\r\nab", opts: []fetch.Option{fetch.WithMaxBody(0)},
			errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 200, again: ifIdempotent},
		{number: 38, name: "a length and chunks", reply: fetchtest.StatusOK + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", code: 200, body: "hello"},
		{number: 39, name: "an unknown transfer encoding", reply: fetchtest.StatusOK + "Transfer-Encoding: gzip\r\n\r\n", errs: protocolError},
		{number: 39, name: "the transfer encoding identity", reply: fetchtest.StatusOK + "Transfer-Encoding: identity\r\n\r\n", errs: protocolError},
		{number: 39, name: "two transfer encodings", reply: fetchtest.StatusOK + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", errs: protocolError},
		{number: 40, name: "a NUL in a header", reply: fetchtest.StatusOK + "X: a\x00b\r\n\r\n", errs: protocolError},
		{number: 40, name: "a bare CR in a header", reply: fetchtest.StatusOK + "X: a\rb\r\n\r\n", errs: protocolError},
		{number: 40, name: "a header without name", reply: fetchtest.StatusOK + ": x\r\n\r\n", errs: protocolError},
		{number: 40, name: "a header without colon", reply: fetchtest.StatusOK + "what\r\n\r\n", errs: protocolError},
		{number: 40, name: "a space before the colon", reply: fetchtest.StatusOK + "X : y\r\nContent-Length: 2\r\n\r\nok", code: 200, body: "ok"},
		{number: 40, name: "a folded line", reply: fetchtest.StatusOK + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", code: 200, body: "ok"},
		{number: 40, name: "bare line feeds", reply: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", code: 200, body: "ok"},
		{number: 40, name: "an upper-case name", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "X-Upper", "y")
		}, errs: protocolError},
		{number: 40, name: "a NUL in a header", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "x", "a\x00b")
		}, errs: protocolError},
		{number: 41, name: "101", reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", then: hold, errs: protocolError, code: 101},
		{number: 41, name: "101 and junk for ever", reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", then: flood("junk"), errs: protocolError, code: 101},
		{number: 41, name: "101", frames: func(f *faultFrames) {
			f.headers(0, ":status", "101")
		}, errs: timeout, virtual: true, opts: second, again: ifIdempotent},
		{number: 42, name: "100 and the end", reply: "HTTP/1.1 100 Continue\r\n\r\n", errs: []error{io.ErrUnexpectedEOF}, again: ifIdempotent},
		{number: 43, name: "204 with a body", reply: "HTTP/1.1 204 No Content\r\n\r\njunk", code: 204},
		{number: 43, name: "304 with a body", reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\njunk", then: hold, code: 304},
		{number: 43, name: "204 with a body", frames: func(f *faultFrames) {
			f.headers(0, ":status", "204")
			f.data(flagEndStream, "junk")
		}, code: 204},
		{number: 44, name: "a reason full of escapes", reply: "HTTP/1.1 404 \x1b[31m\u202e\r\nContent-Length: 9\r\n\r\nhello", opts: []fetch.Option{fetch.WithStatusErrors()},
			errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}, code: 404, again: ifIdempotent},
		{number: 44, name: "a status line full of escapes", reply: "HTTP/1.1 \x1b[31m\u202e \x1b\r\n\r\n", errs: protocolError},
		{number: 44, name: "a header full of escapes", reply: fetchtest.StatusOK + "\x1b[31m\u202e\r\n\r\n", errs: protocolError},
	}
}

// However many cookies come, the Jar keeps few, and nothing hangs.
func TestCookiesWithoutNumberAreBounded(t *testing.T) {
	target := fetchtest.Listen(t, func(conn net.Conn, _ string) {
		io.WriteString(conn, fetchtest.StatusOK+"Content-Length: 2\r\n")
		for i := range 100_000 {
			fmt.Fprintf(conn, "Set-Cookie: c%d=x\r\n", i)
		}
		io.WriteString(conn, "\r\nok")
	})
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{MaxResponseHeaderBytes: 10 << 20}
	defer transport.CloseIdleConnections()
	r := fetchtest.GetOne(t, target, fetch.WithClient(&http.Client{Transport: transport, Jar: jar}))
	if r.Err != nil || string(r.Body) != "ok" {
		t.Errorf("got %q, %v", r.Body, r.Err)
	}
}
