package transport_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Requests with a body and without go different ways, also to one origin. Nothing of either
// gets to the other, and nothing is left open.
func TestRequestsWithAndWithoutABody(t *testing.T) {
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			base, conns := w.serve(t, func(w http.ResponseWriter, req *http.Request) {
				body, _ := io.ReadAll(req.Body)
				fmt.Fprintf(w, "%s %s", req.URL.Path, body)
			})
			c := newClient(t, 8)
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() {
					for i := range 20 {
						path := fmt.Sprintf("/%d/%d", worker, i)
						method, body := "GET", ""
						if i%3 == 0 {
							method, body = "POST", strings.Repeat(path, 1000)
						}
						a := send(t.Context(), c, method, base+path, func(r *http.Request) {
							if body != "" {
								r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
							}
						})
						if a.err != nil || a.body != path+" "+body {
							t.Errorf("%s %s: %d, %.50q, %v", method, path, a.status, a.body, a.err)
						}
					}
				})
			}
			all.Wait()
			most := 16 // each way has as many as are in flight
			if w == http2 {
				most = 2
			}
			if n := conns.Opened(); n > most {
				t.Errorf("%d connections", n)
			}
			c.CloseIdle()
			if !conns.WaitForNone() {
				t.Error("connections are left open")
			}
		})
	}
}

// A body is closed, whatever becomes of its request.
func TestTheBodyOfARequestIsClosed(t *testing.T) {
	for name, base := range map[string]string{"http": "http://127.0.0.1:1", "https": "https://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, 1)
			closed := make(chan struct{})
			a := send(t.Context(), c, "POST", base, func(r *http.Request) {
				r.Body, r.ContentLength = closing{strings.NewReader("x"), closed}, 1
			})
			if a.err == nil {
				t.Error("no error")
			}
			select {
			case <-closed:
			case <-time.After(2 * time.Second):
				t.Error("not closed")
			}
		})
	}
}

type closing struct {
	io.Reader
	closed chan struct{}
}

func (c closing) Close() error {
	close(c.closed)
	return nil
}
