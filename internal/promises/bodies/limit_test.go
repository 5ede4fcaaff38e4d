package bodies_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestABodyMayBeAsLongAsTheLimitAndNoLonger(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
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
			io.WriteString(conn, fetchtest.StatusOK+"\r\n"+string(body))
			return
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, fetchtest.Zipped(body))
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
					r := fetchtest.GetOne(t, rawURL, fetch.WithMaxBody(int64(size)))
					if r.Err != nil || len(r.Body) != size {
						t.Errorf("with a limit of its size: %d bytes, %v", len(r.Body), r.Err)
					}
				}
				if size > 1 {
					r := fetchtest.GetOne(t, rawURL, fetch.WithMaxBody(int64(size-1)))
					if !errors.Is(r.Err, fetch.ErrBodyTooLarge) || r.StatusCode == 0 || r.Header == nil {
						t.Errorf("with a limit of one less: %d, %d bytes, %v", r.StatusCode, len(r.Body), r.Err)
					}
				}
				if r := fetchtest.GetOne(t, rawURL, fetch.WithMaxBody(0)); r.Err != nil || len(r.Body) != size {
					t.Errorf("without a limit: %d bytes, %v", len(r.Body), r.Err)
				}
			})
		}
	}
}

func TestABodyCannotFillMemory(t *testing.T) {
	bomb := strings.Repeat(fetchtest.Zipped(make([]byte, 1<<20)), 64) // members of a gzip file add up
	block := make([]byte, 1<<16)
	for _, test := range []struct {
		name  string
		limit int64
		serve func(conn net.Conn)
		err   error
		most  uint64
	}{
		{"a gzip bomb", 1 << 20, func(conn net.Conn) {
			io.WriteString(conn, fetchtest.WithLength(bomb, "Content-Encoding: gzip\r\n"))
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"a gzip bomb on an error page", 1 << 20, func(conn net.Conn) {
			fmt.Fprintf(conn, "HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(bomb), bomb)
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"an endless body", 1 << 20, func(conn net.Conn) {
			io.WriteString(conn, fetchtest.StatusOK+"\r\n")
			for err := error(nil); err == nil; _, err = conn.Write(block) {
			}
		}, fetch.ErrBodyTooLarge, 8 << 20},
		{"a length that is not meant, within the limit", 1 << 40, func(conn net.Conn) {
			io.WriteString(conn, fetchtest.StatusOK+"Content-Length: 1000000000000\r\n\r\nab")
		}, fetch.ErrTruncated, 4 << 20},
		{"a length that is not meant, without limit", 0, func(conn net.Conn) {
			io.WriteString(conn, fetchtest.StatusOK+"Content-Length: 9223372036854775807\r\n\r\nab")
		}, fetch.ErrTruncated, 4 << 20},
		{"a length beyond the limit", 1 << 40, func(conn net.Conn) {
			io.WriteString(conn, fetchtest.StatusOK+"Content-Length: 9223372036854775807\r\n\r\nab")
			fetchtest.UntilClosed(conn)
		}, fetch.ErrBodyTooLarge, 4 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := fetchtest.Listen(t, func(conn net.Conn, _ string) { test.serve(conn) })
			var r fetch.Result
			got := fetchtest.Allocated(func() { r = fetchtest.GetOne(t, target, fetch.WithMaxBody(test.limit)) })
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
				req := fetchtest.NewRequest(t, test.method, "http://a.example/", nil)
				got := fetchtest.Allocated(func() {
					r = fetchtest.SendOne(t, req, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						resp := fetchtest.Respond(req, test.status, "")
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
	body := fetchtest.Zipped([]byte("hello"))
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, body)
	})
	r := fetchtest.GetOne(t, server.URL, fetch.WithHeader("Accept-Encoding", "gzip"))
	if r.Err != nil || string(r.Body) != body || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, %v, %v", r.Body, r.Header, r.Err)
	}
}
