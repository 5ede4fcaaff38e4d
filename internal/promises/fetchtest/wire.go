package fetchtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Listen runs serve for each connection to a loopback socket, once the head of
// a request has come, and closes the connection when it returns. It returns a URL.
func Listen(t testing.TB, serve func(conn net.Conn, head string)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		conns.Wait()
	})
	conns.Go(func() { // among those waited for, or one could be added when the wait has begun
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second)) // no test waits that long
				var head []byte
				for buf := make([]byte, 4096); !bytes.Contains(head, []byte("\r\n\r\n")); {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					head = append(head, buf[:n]...)
				}
				serve(conn, string(head))
			})
		}
	})
	return "http://" + listener.Addr().String()
}

// UntilClosed waits until the client closes the connection.
func UntilClosed(conn net.Conn) { io.Copy(io.Discard, conn) }

// Reset makes the closing of conn an RST. What was written before is given
// time to arrive, as an RST may overtake it.
func Reset(conn net.Conn) {
	time.Sleep(30 * time.Millisecond)
	conn.(*net.TCPConn).SetLinger(0)
}

// Zipped returns b as gzip has it.
func Zipped(b []byte) string {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.String()
}

// WithLength returns a whole reply with the body and its length.
func WithLength(body string, header ...string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), strings.Join(header, ""), body)
}

const (
	// StatusOK is the first line of a reply.
	StatusOK = "HTTP/1.1 200 OK\r\n"
	// Chunked is the head of a reply with a body in chunks.
	Chunked = StatusOK + "Transfer-Encoding: chunked\r\n\r\n"
)

// Zip answers with a body that says that it is gzip.
func Zip(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// ListenRaw runs serve for each connection to a loopback socket, at once, and closes the
// connection when it returns, or when the test ends. It returns the address.
func ListenRaw(t testing.TB, serve func(conn net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		listener.Close()
		cancel()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			conns.Go(func() {
				defer stop()
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second)) // no test waits that long
				serve(conn)
			})
		}
	})
	return listener.Addr().String()
}
