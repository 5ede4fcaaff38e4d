package redirects_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestTheBodyOfARedirectDoesNotHoldTheHop(t *testing.T) {
	for name, body := range map[string]func(ctx context.Context) (io.ReadCloser, int64){
		"it stalls": func(ctx context.Context) (io.ReadCloser, int64) { return fetchtest.NewStalledBody(ctx, "ab"), 100 },
		"it stalls at unknown length": func(ctx context.Context) (io.ReadCloser, int64) {
			return fetchtest.NewStalledBody(ctx, "ab"), -1
		},
		"it stalls far from its end": func(ctx context.Context) (io.ReadCloser, int64) {
			return fetchtest.NewStalledBody(ctx, "ab"), 1 << 40
		},
		"it drips": func(ctx context.Context) (io.ReadCloser, int64) {
			return io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) {
				return copy(p[:1], "x"), fetchtest.SleepCtx(ctx, 20*time.Millisecond)
			})), -1
		},
		"it fails": func(context.Context) (io.ReadCloser, int64) {
			return io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) { return 0, io.ErrUnexpectedEOF })), 100
		},
		"it is cut": func(context.Context) (io.ReadCloser, int64) { return io.NopCloser(strings.NewReader("ab")), 100 },
		"there is none": func(context.Context) (io.ReadCloser, int64) {
			return nil, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/end" {
						return fetchtest.Respond(req, 200, "end"), nil
					}
					resp := fetchtest.Respond(req, 302, "", "Location", "/end")
					resp.Body, resp.ContentLength = body(req.Context())
					return resp, nil
				}))
				if r.Err != nil || string(r.Body) != "end" {
					t.Errorf("got %q, %v", r.Body, r.Err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("the hop took %v", took)
				}
			})
		})
	}
}

func TestAnEndlessBodyOfARedirectIsNotRead(t *testing.T) {
	var read, closed int
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithMaxBody(10), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/end" {
			return fetchtest.Respond(req, 200, "end"), nil
		}
		resp := fetchtest.Respond(req, 302, "", "Location", "/end")
		resp.ContentLength = -1
		resp.Body = &fetchtest.HookedBody{ReadCloser: io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) {
			read += len(p)
			return len(p), nil
		})), OnClose: func() { closed++ }}
		return resp, nil
	}))
	if r.Err != nil || string(r.Body) != "end" {
		t.Errorf("got %q, %v", r.Body, r.Err)
	}
	if read > 512<<10 || closed == 0 {
		t.Errorf("%d bytes were read, closed %d times", read, closed)
	}
}

// The same on the wire, where the connection must be given up with it.
func TestAStalledRedirectIsLeftUnread(t *testing.T) {
	target, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "end") })
	closed := make(chan error, 1)
	stalled := fetchtest.Listen(t, func(conn net.Conn, head string) {
		fmt.Fprintf(conn, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 100\r\n\r\nab", target.URL)
		_, err := conn.Read(make([]byte, 1))
		closed <- err
	})
	start := time.Now()
	r := fetchtest.GetOne(t, stalled)
	if r.Err != nil || string(r.Body) != "end" {
		t.Errorf("got %q, %v", r.Body, r.Err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if err := <-closed; err == nil {
		t.Error("the connection was used again")
	}
}
