package codings_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

const text = `{"a": "text that is long enough to be worth a coding, a coding, a coding"}`

// zipped and the functions after it are codings: what a server does to a body.
func zipped(s string) string { return fetchtest.Zipped([]byte(s)) }

func zlibbed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func flated(s string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, -1)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// turned is the coding "turn": all bytes are turned by 13, and "." is the end.
func turned(s string) string { return turn(s, 13) + "." }

func turn(s string, by byte) string {
	b := []byte(s)
	for i := range b {
		b[i] += by
	}
	return string(b)
}

// withTurn undoes "turn".
func withTurn() fetch.Option {
	return fetch.WithDecoder("turn", func(r io.Reader) (io.Reader, error) {
		all, err := io.ReadAll(r)
		switch {
		case err != nil:
			return nil, err
		case !strings.HasSuffix(string(all), "."):
			return nil, io.ErrUnexpectedEOF
		}
		return strings.NewReader(turn(string(all[:len(all)-1]), 256-13)), nil
	})
}

// A way is one of the ways to fetch a URL with GET: it returns the Result and the body.
type way struct {
	name  string
	fetch func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string)
}

// ways are all ways for a plain server: lists and requests, own clients and others.
var ways = []way{
	{"FetchAll", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		return whole(fetchtest.GetOne(t, rawURL, opts...))
	}},
	{"DoAll", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		return whole(fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", rawURL, nil), opts...))
	}},
	{"FetchAll, a client", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		return whole(fetchtest.GetOne(t, rawURL, append(opts, withTransport(t))...))
	}},
	{"DoAll, a client", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		return whole(fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", rawURL, nil), append(opts, withTransport(t))...))
	}},
	{"FetchAll, a RoundTripper", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		transport := newTransport(t)
		return whole(fetchtest.GetOne(t, rawURL, append(opts, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			return transport.RoundTrip(req.Clone(req.Context()))
		}))...))
	}},
	{"FetchAll, a RequestFunc", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		shared := http.Header{"X-Token": {"abc"}}
		return whole(fetchtest.GetOne(t, rawURL, append(opts, fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header = shared
			return nil
		}))...))
	}},
	{"DoAll, a BodyFunc", func(t *testing.T, rawURL string, opts ...fetch.Option) (fetch.Result, string) {
		var body []byte
		var seen http.Header
		r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", rawURL, nil),
			append(opts, fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, b io.Reader) (err error) {
				seen = r.Header
				body, err = io.ReadAll(b)
				return err
			}))...)
		if r.Err != nil {
			body = nil
		}
		if got := seen.Get("Content-Encoding"); seen != nil && got != r.Header.Get("Content-Encoding") {
			t.Errorf("the BodyFunc saw the coding %q, the Result has %q", got, r.Header.Get("Content-Encoding"))
		}
		return r, string(body)
	}},
}

func whole(r fetch.Result) (fetch.Result, string) { return r, string(r.Body) }

func newTransport(t *testing.T) *http.Transport {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func withTransport(t *testing.T) fetch.Option {
	return fetch.WithClient(fetchtest.NewClient(newTransport(t)))
}

// A framing is how HTTP/1 says where a message ends.
type framing struct {
	name string
	send func(head, body string) string // a whole message
	cut  func(head, body string) string // one of which the last bytes are missing
}

var framings = []framing{
	{"length", func(head, body string) string {
		return fetchtest.WithLength(body, head)
	}, func(head, body string) string {
		return fmt.Sprintf("%s%sContent-Length: %d\r\n\r\n%s", fetchtest.StatusOK, head, len(body)+5, body)
	}},
	{"chunks", func(head, body string) string {
		return chunked(head, body) + "0\r\n\r\n"
	}, chunked},
	{"end of connection", func(head, body string) string {
		return fetchtest.StatusOK + head + "\r\n" + body
	}, nil},
}

// chunked is a message of chunks, three if it is long enough, without the last one.
func chunked(head, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%sTransfer-Encoding: chunked\r\n\r\n", fetchtest.StatusOK, head)
	for n := len(body)/3 + 1; body != ""; {
		n = min(n, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String()
}

// answering is a server that sends the same reply to all, and counts.
func answering(t *testing.T, reply string) (rawURL string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	return fetchtest.Listen(t, func(conn net.Conn, _ string) {
		requests.Add(1)
		io.WriteString(conn, reply)
	}), requests
}

// codingLines are the lines of a head that say how the body is coded.
func codingLines(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("Content-Encoding: " + line + "\r\n")
	}
	return b.String()
}
