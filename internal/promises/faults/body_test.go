package faults_test

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestFaultsOfResponseBodies(t *testing.T) { runFaults(t, bodyFaults()) }

func bodyFaults() []fault {
	cut := []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}
	timeout := []error{fetch.ErrTimeout, context.DeadlineExceeded}
	protocolError := []error{fetch.ErrProtocol}
	tooLarge := []error{fetch.ErrBodyTooLarge}
	second := []fetch.Option{fetch.WithTimeout(time.Second)}
	limit := func(n int64) []fetch.Option { return []fetch.Option{fetch.WithMaxBody(n)} }
	bomb := fetchtest.Zipped(make([]byte, 4<<20))
	return []fault{
		{number: 45, name: "a length, cut", reply: fetchtest.StatusOK + "Content-Length: 100\r\n\r\n" + fetchtest.Canary, errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "a length, nothing", reply: fetchtest.StatusOK + "Content-Length: 100\r\n\r\n", errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "a length beyond what is presized, cut", reply: fetchtest.StatusOK + "Content-Length: 3000000\r\n\r\n" + fetchtest.Canary, errs: cut, code: 200, again: ifIdempotent},
		{number: 45, name: "the length of an error page, cut", reply: "HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n" + fetchtest.Canary, errs: cut, code: 404, again: ifIdempotent},
		{number: 45, name: "a body that a handler gives up", handler: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, fetchtest.Canary)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in a chunk", reply: fetchtest.Chunked + "a\r\nhello", errs: cut, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in a chunk's size", reply: fetchtest.Chunked + "5\r\nhello\r\n5", errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut between chunks", reply: fetchtest.Chunked + "5\r\nhello\r\n", errs: cut, code: 200, again: ifIdempotent},
		{number: 46, name: "cut after the last chunk", reply: fetchtest.Chunked + "5\r\nhello\r\n0\r\n", errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 46, name: "cut in the trailer", reply: fetchtest.Chunked + "5\r\nhello\r\n0\r\nX: y", errs: protocolError /* net/http cannot tell it from one too long */, code: 200},
		{number: 47, name: "a chunk size of letters", reply: fetchtest.Chunked + "xyz\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "a negative chunk size", reply: fetchtest.Chunked + "-5\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "a chunk size that overflows", reply: fetchtest.Chunked + "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 47, name: "the greatest chunk size", reply: fetchtest.Chunked + "ffffffffffffffff\r\nhello", errs: cut, code: 200, again: ifIdempotent},
		{number: 47, name: "a chunk without its end", reply: fetchtest.Chunked + "5\r\nhelloworld\r\n0\r\n\r\n", errs: protocolError, code: 200, again: garbled},
		{number: 48, name: "a chunk extension without end", reply: fetchtest.Chunked + "5;", then: flood("x"), errs: protocolError, code: 200},
		{number: 48, name: "chunk extensions without end", reply: fetchtest.Chunked, then: flood("1;" + strings.Repeat("x", 1000) + "\r\ny\r\n"), errs: protocolError, code: 200},
		{number: 49, name: "a length, reset", reply: fetchtest.StatusOK + "Content-Length: 100\r\n\r\n" + fetchtest.Canary, then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "chunks, reset", reply: fetchtest.Chunked + "5\r\nhello\r\n", then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "until the end, reset", reply: fetchtest.StatusOK + "\r\nhello", then: cutHard, errs: []error{fetch.ErrTruncated, syscall.ECONNRESET}, code: 200, again: ifIdempotent},
		{number: 49, name: "reset", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, "hello")
			cutHard(f.faultPeer)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 50, name: "a stall", reply: fetchtest.StatusOK + "Content-Length: 100\r\n\r\nhello", then: hold, frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, "hello")
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 51, name: "a drip", reply: fetchtest.StatusOK + "\r\n", then: drip, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 51, name: "a drip of chunks", reply: fetchtest.Chunked, then: func(p *faultPeer) {
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
		{number: 52, name: "a body without end", reply: fetchtest.StatusOK + "\r\n", then: flood("junk"), errs: tooLarge, code: 200},
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
		{number: 54, name: "a gzip bomb", handler: fetchtest.Zip(200, bomb), opts: limit(1 << 20), errs: tooLarge, code: 200},
		{number: 54, name: "a gzip bomb for an error page", handler: fetchtest.Zip(404, bomb), opts: limit(1 << 20), errs: tooLarge, code: 404},
		{number: 54, name: "a gzip bomb for a status error", handler: fetchtest.Zip(404, bomb), opts: append(limit(1<<20), fetch.WithStatusErrors()), errs: tooLarge, code: 404},
		{number: 55, name: "gzip, cut", handler: fetchtest.Zip(200, fetchtest.Zipped([]byte("hello"))[:20]), errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "gzip, cut by the connection", reply: fetchtest.StatusOK + "Content-Length: 100\r\nContent-Encoding: gzip\r\n\r\n" + fetchtest.Zipped([]byte("hello"))[:20], errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "gzip of which not even the header is whole", handler: fetchtest.Zip(200, fetchtest.Zipped([]byte("hello"))[:5]), errs: cut, code: 200, again: ifIdempotent},
		{number: 55, name: "no gzip at all", handler: fetchtest.Zip(200, "this is not gzip"), errs: []error{fetch.ErrProtocol, gzip.ErrHeader}, code: 200},
		{number: 55, name: "gzip and something else", handler: fetchtest.Zip(200, fetchtest.Zipped([]byte("hello"))+"and something else"), code: 200, body: "hello"},
		{number: 55, name: "a wrong checksum", handler: fetchtest.Zip(200, strings.Replace(fetchtest.Zipped([]byte("hello")), "\x86", "\x87", 1)), errs: []error{fetch.ErrProtocol, gzip.ErrChecksum}, code: 200},
		{number: 56, name: "two members", handler: fetchtest.Zip(200, fetchtest.Zipped([]byte("hel"))+fetchtest.Zipped([]byte("lo"))), code: 200, body: "hello"},
		{number: 56, name: "very many members of nothing", handler: fetchtest.Zip(200, strings.Repeat(fetchtest.Zipped(nil), 10_000)), code: 200},
		{number: 56, name: "members of nothing without end", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			members := []byte(strings.Repeat(fetchtest.Zipped(nil), 100))
			for err := error(nil); err == nil; _, err = w.Write(members) {
				time.Sleep(50 * time.Millisecond)
			}
		}, virtual: true, opts: second, errs: timeout, code: 200, again: ifIdempotent},
		{number: 57, name: "gzip twice", reply: fetchtest.WithLength(fetchtest.Zipped([]byte(fetchtest.Zipped([]byte("hello")))), "Content-Encoding: gzip, gzip\r\n"), code: 200, body: "hello"},
		{number: 57, name: "gzip twice, which it is not", reply: fetchtest.WithLength("hello", "Content-Encoding: gzip, gzip\r\n"), code: 200, errs: protocolError},
		{number: 57, name: "an encoding nobody asked for", reply: fetchtest.WithLength("hello", "Content-Encoding: br\r\n"), code: 200, body: "hello"},
		{number: 58, name: "gzip that the caller asks for", handler: fetchtest.Zip(200, bomb), opts: append(limit(1<<20), fetch.WithHeader("Accept-Encoding", "gzip")), code: 200, body: bomb},
		{number: 59, name: "until the end, which is a cut", reply: fetchtest.StatusOK + "\r\nhel", code: 200, body: "hel"},
		{number: 59, name: "until the end, which is a cut without goodbye", reply: fetchtest.StatusOK + "\r\nhel", then: func(p *faultPeer) { p.below.Close() }, code: 200, body: "hel"},
		{number: 60, name: "more than announced", reply: fetchtest.WithLength("hello") + "more", then: hold, code: 200, body: "hello"},
		{number: 60, name: "more than announced", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "content-length", "5")
			f.data(0, "hello more")
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 61, name: "a trailer without end", reply: fetchtest.Chunked + "0\r\n", then: flood("X: yyyyyyyyyyyyyyyy\r\n"), errs: protocolError, code: 200},
		{number: 61, name: "a trailer line without end", reply: fetchtest.Chunked + "0\r\nX: ", then: flood("y"), errs: protocolError, code: 200},
		{number: 63, name: "less than announced", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200", "content-length", "100")
			f.data(flagEndStream, fetchtest.Canary)
		}, errs: cut, code: 200, again: ifIdempotent},
		{number: 63, name: "the stream reset", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, fetchtest.Canary)
			f.reset(codeInternal)
		}, errs: []error{fetch.ErrTruncated}, code: 200, again: ifIdempotent},
		{number: 63, name: "the connection closed", frames: func(f *faultFrames) {
			f.headers(0, ":status", "200")
			f.data(0, fetchtest.Canary)
			f.close()
		}, errs: cut, code: 200, again: ifIdempotent},
	}
}

// ownTLS reports whether the Fetcher's own client trusts the certificates of the
// servers. That takes a process of its own: see TestTheOwnClientOnTLS.
func ownTLS() bool { return os.Getenv(fetchtest.OwnTLSVariable) != "" }

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{listeners: map[string]*fetchtest.MemoryListener{}}
}
