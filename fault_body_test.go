package fetch_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"

func TestFaultsOfResponseBodies(t *testing.T) { runFaults(t, bodyFaults()) }

func bodyFaults() []fault {
	cut := []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}
	timeout := []error{fetch.ErrTimeout, context.DeadlineExceeded}
	protocolError := []error{fetch.ErrProtocol}
	tooLarge := []error{fetch.ErrBodyTooLarge}
	second := []fetch.Option{fetch.WithTimeout(time.Second)}
	limit := func(n int64) []fetch.Option { return []fetch.Option{fetch.WithMaxBody(n)} }
	bomb := zipped(make([]byte, 4<<20))
	return []fault{
		{number: 45, name: "a length, cut", reply: ok + "Content-Length: 100\r\n\r\n" + canary, errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "a length, nothing", reply: ok + "Content-Length: 100\r\n\r\n", errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "a length beyond what is presized, cut", reply: ok + "Content-Length: 3000000\r\n\r\n" + canary, errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "the length of an error page, cut", reply: "HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n" + canary, errs: cut, code: 404, again: ifIdempotent},
		{number: 45, name: "a body that a handler gives up", handler: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, canary)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in a chunk", reply: chunked + "a\r\nhello", errs: cut, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in a chunk's size", reply: chunked + "5\r\nhello\r\n5", errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut between chunks", reply: chunked + "5\r\nhello\r\n", errs: cut, code: 200, again: ifIdempotent},
		{number: 46, name: "cut after the last chunk", reply: chunked + "5\r\nhello\r\n0\r\n", errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in the trailer", reply: chunked + "5\r\nhello\r\n0\r\nX: y", errs: protocolError /* net/http cannot tell it from one too long */, code: 200},
		{number: 47, name: "a chunk size of letters", reply: chunked + "xyz\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "a negative chunk size", reply: chunked + "-5\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "a chunk size that overflows", reply: chunked + "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "the greatest chunk size", reply: chunked + "ffffffffffffffff\r\nhello", errs: cut, code: 200, again: ifIdempotent},
		{number: 47, name: "a chunk without its end", reply: chunked + "5\r\nhelloworld\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 48, name: "a chunk extension without end", reply: chunked + "5;", then: flood("x"), errs: protocolError, code: 200},
		{number: 48, name: "chunk extensions without end", reply: chunked, then: flood("1;" + strings.Repeat("x", 1000) + "\r\ny\r\n"), errs: protocolError, code: 200},
		{number: 49, name: "a length, reset", reply: ok + "Content-Length: 100\r\n\r\n" + canary, then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "chunks, reset", reply: chunked + "5\r\nhello\r\n", then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "until the end, reset", reply: ok + "\r\nhello", then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "reset", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, "hello")
			cutHard(f.faultPeer)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 50, name: "a stall", reply: ok + "Content-Length: 100\r\n\r\nhello", then: hold, frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, "hello")
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 51, name: "a drip", reply: ok + "\r\n", then: drip, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 51, name: "a drip of chunks", reply: chunked, then: func(p *faultPeer) {
			for err := error(nil); err == nil; _, err = io.WriteString(p, "1\r\nx\r\n") {
				time.Sleep(50 * time.Millisecond)
			}
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 51, name: "a drip of empty frames", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			for range 19 { // till the second is nearly over: another request comes on this connection
				f.data(0, "")
				time.Sleep(50 * time.Millisecond)
			}
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 52, name: "a body without end", reply: ok + "\r\n", then: flood("junk"), errs: tooLarge, code: 200},
		{number: 52, name: "a body without end", on: []protocol{http2}, handler: func(w http.ResponseWriter, req *http.Request) {
			for err := error(nil); err == nil; _, err = w.Write(make([]byte, 1<<14)) {
			}
		}, opts: limit(1 << 20), errs: tooLarge, code: 200},
		{number: 52, name: "an error page without end", reply: "HTTP/1.1 404 Not Found\r\n\r\n", then: flood("junk"), opts: append(limit(1<<16), fetch.WithStatusErrors()), errs: tooLarge, code: 404},
		{number: 53, name: "just as long as the limit", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, opts: limit(5), code: 200, body: "hello"},
		{number: 53, name: "just as long as the limit, of unknown length", handler: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "hel")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "lo")
		}, opts: limit(5), code: 200, body: "hello"},
		{number: 53, name: "one more than the limit", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello!") }, opts: limit(5), code: 200, errs: tooLarge},
		{number: 54, name: "a gzip bomb", handler: zip(200, bomb), opts: limit(1 << 20), errs: tooLarge, code: 200},
		{number: 54, name: "a gzip bomb for an error page", handler: zip(404, bomb), opts: limit(1 << 20), errs: tooLarge, code: 404},
		{number: 54, name: "a gzip bomb for a status error", handler: zip(404, bomb), opts: append(limit(1<<20), fetch.WithStatusErrors()), errs: tooLarge, code: 404},
		{number: 55, name: "gzip, cut", handler: zip(200, zipped([]byte("hello"))[:20]), errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "gzip, cut by the connection", reply: ok + "Content-Length: 100\r\nContent-Encoding: gzip\r\n\r\n" + zipped([]byte("hello"))[:20], errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "gzip of which not even the header is whole", handler: zip(200, zipped([]byte("hello"))[:5]), errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "no gzip at all", handler: zip(200, "this is not gzip"), errs: []error{fetch.ErrProtocol, gzip.ErrHeader}, code: 200},
		{number: 55, name: "gzip and something else", handler: zip(200, zipped([]byte("hello"))+"and something else"), errs: []error{fetch.ErrProtocol, gzip.ErrHeader}, code: 200},
		{number: 55, name: "a wrong checksum", handler: zip(200, strings.Replace(zipped([]byte("hello")), "\x86", "\x87", 1)), errs: []error{fetch.ErrProtocol, gzip.ErrChecksum}, code: 200},
		{number: 56, name: "two members", handler: zip(200, zipped([]byte("hel"))+zipped([]byte("lo"))), code: 200, body: "hello"},
		{number: 56, name: "very many members of nothing", handler: zip(200, strings.Repeat(zipped(nil), 10_000)), code: 200},
		{number: 56, name: "members of nothing without end", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			members := []byte(strings.Repeat(zipped(nil), 100))
			for err := error(nil); err == nil; _, err = w.Write(members) {
				time.Sleep(50 * time.Millisecond)
			}
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 57, name: "gzip twice", reply: withLength("hello", "Content-Encoding: gzip, gzip\r\n"), code: 200, body: "hello"},
		{number: 57, name: "an encoding nobody asked for", reply: withLength("hello", "Content-Encoding: br\r\n"), code: 200, body: "hello"},
		{number: 58, name: "gzip that the caller asks for", handler: zip(200, bomb), opts: append(limit(1<<20), fetch.WithHeader("Accept-Encoding", "gzip")), code: 200, body: bomb},
		{number: 59, name: "until the end, which is a cut", reply: ok + "\r\nhel", code: 200, body: "hel"},
		{number: 59, name: "until the end, which is a cut without goodbye", reply: ok + "\r\nhel", then: func(p *faultPeer) { p.below.Close() }, code: 200, body: "hel"},
		{number: 60, name: "more than announced", reply: withLength("hello") + "more", then: hold, code: 200, body: "hello"},
		{number: 60, name: "more than announced", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "content-length", "5")
			f.data(0, "hello more")
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 61, name: "a trailer without end", reply: chunked + "0\r\n", then: flood("X: yyyyyyyyyyyyyyyy\r\n"), errs: protocolError, code: 200},
		{number: 61, name: "a trailer line without end", reply: chunked + "0\r\nX: ", then: flood("y"), errs: protocolError, code: 200},
		{number: 63, name: "less than announced", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "content-length", "100")
			f.data(flagEndStream, canary)
		}, errs: cut, code: 200, again: ifIdempotent},
		{number: 63, name: "the stream reset", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, canary)
			f.reset(codeInternal)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 63, name: "the connection closed", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, canary)
			f.close()
		}, errs: cut, code: 200, again: ifIdempotent},
	}
}

// zip answers with a body that says that it is gzip.
func zip(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}
