package causes_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// proxyURL is of a proxy that makes no tunnel: it refuses with the status line, or fails in the
// way, that the name of the origin stands for. The own client uses it too, as that of the environment.
var proxyURL string

func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(refuse))
	proxyURL = proxy.URL
	os.Setenv("HTTPS_PROXY", proxy.URL)
	fetchtest.Main(m)
}

// statusLines are those of proxies, by the first label of the origin that is asked for.
var statusLines = map[string]string{
	"s300": "300 Multiple Choices", "s403": "403 Forbidden", "s407": "407 Proxy Authentication Required",
	"s429": "429 Too Many Requests", "s500": "500 Internal Server Error", "s502": "502 Bad Gateway",
	"s503": "503 Service Unavailable", "s504": "504 Gateway Timeout",
	"words": "502 " + fetchtest.Canary, "none": "502", "empty": "502 ", "number": "599 " + fetchtest.Canary,
	"ok204": "204 OK", "ok403": "403 OK", "ok503": "503 OK",
}

// failures are the ways, by the same label, in which proxies fail once they have read a CONNECT.
var failures = map[string]func(conn net.Conn){
	"closes":      func(net.Conn) {},
	"resets":      fetchtest.Reset,
	"half":        answer("HTTP/1.1 200 O"),
	"garbage":     answer(fetchtest.Canary + "\r\n\r\n"),
	"field":       answer("HTTP/1.1 200 OK\r\n" + fetchtest.Canary + "\r\n\r\n"),
	"length":      answer("HTTP/1.1 200 OK\r\nContent-Length: " + fetchtest.Canary + "\r\n\r\n"),
	"coding":      answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + fetchtest.Canary + "\r\n\r\n"),
	"tlscloses":   answer(tunnel, ""),
	"tlsresets":   func(conn net.Conn) { answer(tunnel, "")(conn); fetchtest.Reset(conn) },
	"tlsgarbage":  answer(tunnel, fetchtest.Canary),
	"tlshalf":     answer(tunnel, "\x16\x03\x03\x00\x50\x02"),
	"tlsresponse": answer(tunnel, "HTTP/1.1 400 "+fetchtest.Canary+"\r\n\r\n"),
}

const tunnel = "HTTP/1.1 200 OK\r\n\r\n"

// answer sends texts, each after the next bytes of the client.
func answer(texts ...string) func(net.Conn) {
	return func(conn net.Conn) {
		for i, text := range texts {
			if i > 0 {
				conn.Read(make([]byte, 4<<10))
			}
			io.WriteString(conn, text)
		}
	}
}

func refuse(w http.ResponseWriter, req *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	name, _, _ := strings.Cut(req.Host, ".")
	if fail := failures[name]; fail != nil {
		fail(conn)
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nX-Secret: %s\r\nContent-Length: 0\r\n\r\n", statusLines[name], fetchtest.Canary)
	io.Copy(io.Discard, conn)
}
