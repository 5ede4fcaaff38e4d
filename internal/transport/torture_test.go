package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/transport"
)

// A harm is done to an operation of a connection.
type harm string

const (
	fails harm = "fails"
	cuts  harm = "is cut short" // and the connection ends
	hangs harm = "hangs"        // until the connection is closed, or a write is too late
)

// A strike decides what is done to the n-th operation, which counts from 1; "" is nothing.
type strike func(n int, kind string) harm

// A torturer does harm to the operations of all connections of a client.
type torturer struct {
	decide strike

	mu    sync.Mutex
	kinds []string // of the operations
}

func (t *torturer) next(kind string) harm {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds = append(t.kinds, kind)
	return t.decide(len(t.kinds), kind)
}

func (t *torturer) dial(_ context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	if h := t.next("dial"); h != "" {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return &torturedConn{TCPConn: conn.(*net.TCPConn), torturer: t, closed: make(chan struct{})}, nil
}

type torturedConn struct {
	*net.TCPConn
	torturer *torturer
	once     sync.Once
	closed   chan struct{}
	writeBy  time.Time // of the goroutine that writes
}

var errTorn = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

func (c *torturedConn) Read(p []byte) (int, error) {
	switch c.torturer.next("read") {
	case fails:
		return 0, errTorn
	case cuts:
		n, err := c.TCPConn.Read(p[:1])
		c.TCPConn.CloseRead()
		return n, err
	case hangs:
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		case <-time.After(2 * tortureTimeout):
			// Nobody ends the read of a look, which comes after the system has told of bytes.
			return 0, errTorn
		}
	}
	return c.TCPConn.Read(p)
}

func (c *torturedConn) Write(p []byte) (int, error) {
	switch c.torturer.next("write") {
	case fails:
		return 0, errTorn
	case cuts:
		n, _ := c.TCPConn.Write(p[:len(p)/2])
		return n, errTorn
	case hangs:
		var late <-chan time.Time
		if !c.writeBy.IsZero() {
			late = time.After(time.Until(c.writeBy))
		}
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
	return c.TCPConn.Write(p)
}

func (c *torturedConn) Close() error {
	h := c.torturer.next("close")
	c.once.Do(func() { close(c.closed) })
	err := c.TCPConn.Close()
	if h != "" {
		return errTorn
	}
	return err
}

func (c *torturedConn) SetDeadline(at time.Time) error {
	return c.deadline(at, c.TCPConn.SetDeadline)
}

func (c *torturedConn) SetReadDeadline(at time.Time) error {
	return c.deadline(at, c.TCPConn.SetReadDeadline)
}

func (c *torturedConn) SetWriteDeadline(at time.Time) error {
	c.writeBy = at
	return c.deadline(at, c.TCPConn.SetWriteDeadline)
}

func (c *torturedConn) deadline(at time.Time, set func(time.Time) error) error {
	if c.torturer.next("set deadline") != "" {
		return errTorn
	}
	return set(at)
}

// A rack is a server that counts the requests for each path, and answers with the path.
type rack struct {
	base string
	mu   sync.Mutex
	seen map[string]int
}

func newRack(t testing.TB, w wire) *rack {
	r := &rack{seen: map[string]int{}}
	r.base, _ = w.serve(t, func(w http.ResponseWriter, req *http.Request) {
		path := req.URL.Path
		r.mu.Lock()
		r.seen[path]++
		r.mu.Unlock()
		switch {
		case strings.HasSuffix(path, "chunks"):
			w.Header().Set("Trailer", "X-Path")
			io.WriteString(w, path[:len(path)/2])
			w.(http.Flusher).Flush()
			io.WriteString(w, path[len(path)/2:])
			w.Header().Set("X-Path", path)
			return
		case strings.HasSuffix(path, "close"):
			w.Header().Set("Connection", "close")
		case strings.HasSuffix(path, "none"):
			w.WriteHeader(http.StatusNoContent)
			return
		}
		io.WriteString(w, path)
	})
	return r
}

var tortured = []struct{ method, path string }{
	{"GET", "1"}, {"GET", "2chunks"}, {"POST", "3"}, {"HEAD", "4"}, {"DELETE", "5none"}, {"GET", "6close"}, {"GET", "7"}, {"POST", "8chunks"}, {"GET", "9"},
}

// checkTortured checks an answer, and how often the request came.
func (r *rack) check(t *testing.T, method, path string, a answer) {
	t.Helper()
	r.mu.Lock()
	seen := r.seen[path]
	delete(r.seen, path)
	r.mu.Unlock()
	most := 2
	if method == "POST" {
		most = 1
	}
	if seen > most || a.err == nil && seen == 0 {
		t.Errorf("%s %s was sent %d times: %v", method, path, seen, a.err)
	}
	want := path
	if method == "HEAD" || strings.HasSuffix(path, "none") {
		want = ""
	}
	if a.err == nil && (a.body != want || strings.HasSuffix(path, "chunks") && a.trailer.Get("X-Path") != path) {
		t.Errorf("%s %s got %q, %v", method, path, a.body, a.trailer)
	}
}

// run sends the requests one after the other, and returns how many failed.
func (r *rack) run(t *testing.T, name string, timeout time.Duration, s strike) (_ *torturer, failures []error) {
	t.Helper()
	c := transport.New(transport.Config{Concurrency: 4})
	torturer := &torturer{decide: s}
	c.WrapDials(torturer.dial)
	for _, q := range tortured {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		start := time.Now()
		path := "/" + name + "/" + q.path
		a := send(ctx, c, q.method, r.base+path)
		if took := time.Since(start); took > timeout+2*time.Second {
			t.Errorf("%s: %s %s took %v", name, q.method, path, took)
		}
		cancel()
		if a.err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", path, a.err))
		}
		r.check(t, q.method, path, a)
	}
	closeClient(t, c)
	return torturer, failures
}

const tortureTimeout = 100 * time.Millisecond

func TestTortureWithEachOperationFailing(t *testing.T) {
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			r := newRack(t, w)
			before := fetchtest.ResourcesInUse()
			sound, failed := r.run(t, "sound", 10*time.Second, func(int, string) harm { return "" })
			if len(failed) != 0 {
				t.Fatalf("without any harm: %v", failed)
			}
			runs := newCrew()
			for i, kind := range sound.kinds {
				for _, h := range []harm{fails, cuts, hangs} {
					if h == hangs && (testing.Short() || kind == "close" || kind == "set deadline" || kind == "dial") {
						continue
					}
					runs.do(func() { r.strikeOnce(t, i+1, h) })
				}
			}
			runs.all.Wait()
			before.Check(t)
			t.Logf("%d operations", len(sound.kinds))
		})
	}
}

// strikeOnce runs the requests with harm to one operation.
func (r *rack) strikeOnce(t *testing.T, operation int, h harm) {
	timeout := 10 * time.Second
	if h == hangs {
		timeout = tortureTimeout
	}
	struck := ""
	name := fmt.Sprintf("%d%s", operation, strings.ReplaceAll(string(h), " ", ""))
	_, failed := r.run(t, name, timeout, func(n int, kind string) harm {
		if n != operation {
			return ""
		}
		struck = kind
		return h
	})
	if h == hangs {
		// Each request ends on time, but on a busy machine others may take longer. Over HTTP/2 the
		// next ones hang too, until net/http's pings notice after half a minute.
		return
	}
	if len(failed) > 1 || (struck == "close" || struck == "set deadline") && len(failed) > 0 {
		t.Errorf("operation %d, %s, %s: %v", operation, struck, h, failed)
	}
}

// A crew does a few things at a time.
type crew struct {
	all   sync.WaitGroup
	slots chan struct{}
}

func newCrew() *crew { return &crew{slots: make(chan struct{}, 8)} }

func (c *crew) do(f func()) {
	c.slots <- struct{}{}
	c.all.Go(func() {
		defer func() { <-c.slots }()
		f()
	})
}

// Several requests at a time, and several operations that fail.
func TestTortureWithSeveralOperationsFailing(t *testing.T) {
	seeds := 10
	if testing.Short() {
		seeds = 6
	}
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			r := newRack(t, w)
			before := fetchtest.ResourcesInUse()
			runs := newCrew()
			for seed := range seeds {
				runs.do(func() { r.strikeOften(t, seed) })
			}
			runs.all.Wait()
			before.Check(t)
		})
	}
}

// strikeOften has eight workers send the requests, with harm to a thirtieth of the operations.
func (r *rack) strikeOften(t *testing.T, seed int) {
	random := rand.New(rand.NewPCG(1, uint64(seed)))
	c := transport.New(transport.Config{Concurrency: 8})
	c.WrapDials((&torturer{decide: func(int, string) harm { // under a lock
		if random.IntN(30) != 0 {
			return ""
		}
		return []harm{fails, cuts, fails, cuts, hangs}[random.IntN(5)]
	}}).dial)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i, q := range tortured {
				parent, cancel := context.WithTimeout(t.Context(), tortureTimeout)
				path := fmt.Sprintf("/%d/%d/%d/%s", seed, worker, i, q.path)
				r.check(t, q.method, path, send(transport.NewContext(parent), c, q.method, r.base+path))
				cancel()
			}
		})
	}
	all.Wait()
	closeClient(t, c)
}

// What is torn has the error of the connection.
func TestTornConnectionsTellWhy(t *testing.T) {
	r := newRack(t, plain)
	for i, kind := range []string{"dial", "write", "read"} {
		c := newClient(t, 1)
		c.WrapDials((&torturer{decide: func(_ int, k string) harm {
			if k == kind {
				return fails
			}
			return ""
		}}).dial)
		if a := get(t, c, r.base+"/x"); !errors.Is(a.err, []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNRESET}[i]) {
			t.Errorf("%s: %v", kind, a.err)
		}
	}
}
