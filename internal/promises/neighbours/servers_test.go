package neighbours_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// An unclean is an answer with bytes behind it that are none.
type unclean struct {
	name   string
	method string                                 // if not GET
	answer func(w io.Writer, path string)         // to the path
	fine   func(r fetch.Result, body string) bool // what its own URL may come to
}

func hasStatus(code int) func(fetch.Result, string) bool {
	return func(r fetch.Result, _ string) bool { return r.Err == nil && r.StatusCode == code && len(r.Body) == 0 }
}

func hasBody(r fetch.Result, body string) bool { return r.OK() && string(r.Body) == body }

var uncleans = []unclean{
	{name: "204 with a body", fine: hasStatus(204), answer: func(w io.Writer, path string) {
		io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\nforeign "+path)
	}},
	{name: "304 with a body", fine: hasStatus(304), answer: func(w io.Writer, path string) {
		io.WriteString(w, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\nforeign "+path)
	}},
	{name: "HEAD answered with a body", method: "HEAD", fine: hasStatus(200), answer: func(w io.Writer, path string) {
		io.WriteString(w, fetchtest.WithLength("foreign "+path))
	}},
	{name: "more than the length", fine: hasBody, answer: func(w io.Writer, path string) {
		io.WriteString(w, fetchtest.WithLength(path)+"foreign")
	}},
	{name: "a second answer", fine: hasBody, answer: func(w io.Writer, path string) {
		io.WriteString(w, fetchtest.WithLength(path)+fetchtest.WithLength("foreign"))
	}},
	{name: "bytes behind the last chunk", fine: hasBody, answer: func(w io.Writer, path string) {
		fmt.Fprintf(w, "%s%x\r\n%s\r\n0\r\n\r\nforeign", fetchtest.Chunked, len(path), path)
	}},
	{name: "204, and bytes later", fine: hasStatus(204), answer: func(w io.Writer, path string) {
		io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		time.Sleep(200 * time.Microsecond)
		io.WriteString(w, "late")
	}},
}

// serve answers each request on a connection, with the unclean answer where the path begins
// with /unclean, and otherwise with the path.
func (u *unclean) serve(t testing.TB) string {
	return "http://" + fetchtest.ListenRaw(t, func(conn net.Conn) {
		for reader := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if strings.HasPrefix(req.URL.Path, "/unclean") {
				u.answer(conn, req.URL.Path)
			} else {
				io.WriteString(conn, fetchtest.WithLength(req.URL.Path))
			}
		}
	})
}

// quiet keeps the lines off the log that net/http writes there about bytes nobody asked for.
func quiet(t testing.TB) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
}

// nothingIsLogged fails the test if a line comes to the process's log, where net/http writes the
// bytes of a server that nobody asked for.
func nothingIsLogged(t testing.TB) {
	var lines lockedBuffer
	log.SetOutput(&lines)
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		if text := lines.String(); text != "" {
			t.Errorf("logged: %.300s", text)
		}
	})
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
