package transport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/transport"
)

func TestALargeBodyTakesNoMemory(t *testing.T) {
	size := 100 << 20
	if testing.Short() {
		size = 10 << 20
	}
	chunk := make([]byte, 64<<10)
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			base, _ := w.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				for left := size; left > 0; left -= len(chunk) {
					w.Write(chunk)
				}
			})
			c := newClient(t, 1)
			before := fetchtest.LiveHeap()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", base, nil)
			resp, err := c.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.CopyN(io.Discard, resp.Body, int64(size/2)); err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			time.Sleep(50 * time.Millisecond) // the server fills what it can
			if used := int64(fetchtest.LiveHeap()) - int64(before); used > 8<<20 {
				t.Errorf("half a body takes %d bytes", used)
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size-size/2) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// Contexts, origins and exchanges that have ended leave nothing behind.
func TestNothingGrows(t *testing.T) {
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			base, _ := w.serve(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.URL.Path) })
			c := newClient(t, 1)
			lasting, cancel := context.WithCancel(t.Context())
			defer cancel()
			kept := transport.NewContext(lasting)
			run := func(n int) {
				for i := range n {
					ctx, end := context.WithTimeout(lasting, time.Minute)
					if i%2 == 0 {
						ctx = kept
					}
					if a := send(ctx, c, "GET", base+"/x"); a.err != nil {
						t.Fatal(a.err)
					}
					end()
					if i%20 == 0 { // nobody listens there
						send(ctx, c, "GET", fmt.Sprintf("http://127.0.1.%d:1/", i%250))
					}
				}
			}
			run(200)
			before := fetchtest.LiveHeap()
			run(1000)
			if grown := int64(fetchtest.LiveHeap()) - int64(before); grown > 200<<10 {
				t.Errorf("1000 requests leave %d bytes", grown)
			}
			if origins, idle, open := c.Counts(); origins != 1 || idle != 1 || open != 1 {
				t.Errorf("%d origins, %d connections are idle, %d open", origins, idle, open)
			}
		})
	}
}
