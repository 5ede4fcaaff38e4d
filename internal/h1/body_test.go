package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A countingOwner counts what it is told, from any goroutine.
type countingOwner struct{ clean, unclean atomic.Int32 }

func (o *countingOwner) Over(clean bool) {
	if clean {
		o.clean.Add(1)
	} else {
		o.unclean.Add(1)
	}
}

func (o *countingOwner) total() int32 { return o.clean.Load() + o.unclean.Load() }

// openBody returns the body of an answer to a request over sockets, of which the server has sent
// so much.
func openBody(t *testing.T, reply string) (body io.ReadCloser, o *countingOwner, server *net.TCPConn) {
	t.Helper()
	client, server := sockets(t)
	o = new(countingOwner)
	c := NewConn(NewSocket(client, nothing), o)
	req, head := newRequest(t, "GET")
	go answer(t, server, reply)
	resp, err := c.RoundTrip(req, head)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Body, o, server
}

const half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"

func TestCloseEndsARead(t *testing.T) {
	body, o, server := openBody(t, half)
	var reader sync.WaitGroup
	reading := make(chan struct{})
	reader.Go(func() {
		p := make([]byte, 5)
		io.ReadFull(body, p)
		close(reading)
		if _, err := io.ReadAll(body); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("read: %v", err)
		}
	})
	<-reading
	time.Sleep(time.Millisecond)
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	reader.Wait()
	if o.clean.Load() != 0 || o.unclean.Load() != 1 {
		t.Errorf("told %d, %d", o.clean.Load(), o.unclean.Load())
	}
	if _, err := body.Read(make([]byte, 1)); err == nil {
		t.Error("a read after Close")
	}
	if _, err := io.Copy(io.Discard, server); err != nil {
		t.Error(err)
	}
}

func TestABodyThatIsClosedEarlyIsUnclean(t *testing.T) {
	body, o, _ := openBody(t, half)
	for range 3 {
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
		t.Error(err)
	}
	if o.total() != 1 || o.clean.Load() != 0 {
		t.Errorf("told %d, %d", o.clean.Load(), o.unclean.Load())
	}
}

func TestABodyThatWasReadIsClean(t *testing.T) {
	for name, reply := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			body, o, _ := openBody(t, reply)
			if b, err := io.ReadAll(body); string(b) != "hello" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if o.clean.Load() != 1 {
				t.Error("not clean at its end")
			}
			if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("behind its end: %d, %v", n, err)
			}
			body.Close()
			body.Close()
			if _, err := body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
				t.Errorf("after Close: %v", err)
			}
			if o.total() != 1 {
				t.Errorf("told %d times", o.total())
			}
		})
	}
}

// An error stays, whatever comes after it.
func TestAnErrorOfABodyStays(t *testing.T) {
	body, o, server := openBody(t, half)
	server.Close()
	for range 3 {
		if _, err := io.ReadAll(body); err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
	}
	body.Close()
	if _, err := body.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if o.total() != 1 || o.clean.Load() != 0 {
		t.Errorf("told %d, %d", o.clean.Load(), o.unclean.Load())
	}
}

// Many close a body while many read it, at each moment. The connection is handed back once, and
// if it is clean then after all was read.
func TestReadsAndClosesAtOnce(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for i := range rounds {
		body, o, _ := openBody(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
		var all sync.WaitGroup
		var read atomic.Int32
		for range 2 {
			all.Go(func() {
				p := make([]byte, 3)
				for {
					n, err := body.Read(p)
					read.Add(int32(n))
					if err != nil {
						return
					}
				}
			})
			all.Go(func() {
				time.Sleep(time.Duration(i%20) * 3 * time.Microsecond)
				body.Close()
			})
		}
		all.Wait()
		if o.total() != 1 || o.clean.Load() == 1 && read.Load() != 10 {
			t.Fatalf("told %d, %d, after %d bytes", o.clean.Load(), o.unclean.Load(), read.Load())
		}
	}
}
