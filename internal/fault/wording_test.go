package fault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A provocation makes net/http return an error with a wording.
type provocation struct {
	reply   string            // HTTP/1, and then the connection is closed
	frames  func(w io.Writer) // HTTP/2 without TLS, once the head of the request has come
	request func(*http.Request)
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// many is longer than the header that the test's Transport takes.
var many = strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 40)

var provocations = map[string]provocation{
	"malformed HTTP response":                                      {reply: "canary\r\n\r\n"},
	"malformed HTTP status code":                                   {reply: "HTTP/1.1 canary OK\r\n\r\n"},
	"malformed HTTP version":                                       {reply: "HTTP/canary 200 OK\r\n\r\n"},
	"malformed MIME header":                                        {reply: "HTTP/1.1 200 OK\r\ncanary\r\n\r\n"},
	"bad Content-Length":                                           {reply: "HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n"},
	"invalid empty Content-Length":                                 {reply: "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n"},
	"unsupported transfer encoding":                                {reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n"},
	"too many transfer encodings":                                  {reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: canary\r\n\r\n"},
	"http: message cannot contain multiple Content-Length headers": {reply: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
	"bad trailer key":                                              {reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n"},
	"malformed chunked encoding":                                   {reply: chunkedHead + "2\r\nabcanary\r\n0\r\n\r\n"},
	"chunked encoding contains too much non-data":                  {reply: chunkedHead + strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\ny\r\n", 40)},
	"invalid byte in chunk length":                                 {reply: chunkedHead + "canary\r\n"},
	"empty hex number for chunk length":                            {reply: chunkedHead + ";x\r\n"},
	"http chunk length too large":                                  {reply: chunkedHead + "fffffffffffffffff\r\n"},
	"chunked line ends with bare LF":                               {reply: chunkedHead + "1\nx\r\n"},
	"invalid CR in chunked line":                                   {reply: chunkedHead + "1;a\rb\r\n"},
	"header line too long":                                         {reply: chunkedHead + "1;" + strings.Repeat("x", 10_000)},
	"http: unexpected EOF reading trailer":                         {reply: chunkedHead + "0\r\n"},
	"http: suspiciously long trailer after chunked body":           {reply: chunkedHead + "0\r\nX: " + strings.Repeat("y", 10_000) + "\r\n\r\n"},
	"net/http: server response headers exceeded":                   {reply: "HTTP/1.1 200 OK\r\n" + many},
	"net/http: invalid header":                                     {request: func(req *http.Request) { req.Header["canary\n"] = []string{"x"} }},
	"net/http: invalid trailer":                                    {request: func(req *http.Request) { req.Trailer = http.Header{"canary\n": {"x"}} }},
	"http: ContentLength=": {request: func(req *http.Request) {
		req.Method, req.Body, req.ContentLength = "POST", io.NopCloser(strings.NewReader("x")), 5
	}},
	"http: Request.ContentLength=":                                               {request: func(req *http.Request) { req.Method, req.ContentLength = "POST", 5 }},
	"invalid Trailer key":                                                        {request: func(req *http.Request) { sendWithTrailer(req, "Content-Length") }},
	"invalid Upgrade request header":                                             refusedByHTTP2(func(req *http.Request) { req.Header.Set("Upgrade", "canary") }),
	"invalid Transfer-Encoding request header":                                   refusedByHTTP2(func(req *http.Request) { req.Header.Set("Transfer-Encoding", "canary") }),
	"invalid Connection request header":                                          refusedByHTTP2(func(req *http.Request) { req.Header.Set("Connection", "canary") }),
	"invalid request :path":                                                      refusedByHTTP2(func(req *http.Request) { req.URL.Opaque = "//canary.example/" }),
	"http2: Transport received GOAWAY from server":                               {frames: func(w io.Writer) { goAway(w, 0, 2) }},
	"http2: server sent GOAWAY and closed the connection":                        {frames: func(w io.Writer) { goAway(w, 1, 0) }},
	"connection error: ":                                                         {frames: func(w io.Writer) { frame(w, 0, 0, 0, "x") }},
	"http2: failed reading the frame payload":                                    {frames: func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n") }},
	"malformed response from server: missing status pseudo header":               {frames: func(w io.Writer) { head(w, "x", "y") }},
	"malformed response from server: malformed non-numeric status pseudo header": {frames: func(w io.Writer) { head(w, ":status", "canary") }},
	"1xx informational response with END_STREAM flag":                            {frames: func(w io.Writer) { head(w, ":status", "103") }},
	"invalid header field value for":                                             {frames: func(w io.Writer) { head(w, ":status", "200", "canary", "\x00") }},
	"invalid header field name":                                                  {frames: func(w io.Writer) { head(w, ":status", "200", "CANARY", "x") }},
	"invalid pseudo-header":                                                      {frames: func(w io.Writer) { head(w, ":canary", "x") }},
	"duplicate pseudo-header":                                                    {frames: func(w io.Writer) { head(w, ":status", "200", ":status", "200") }},
	"http2: response header list larger than advertised limit": {frames: func(w io.Writer) {
		head(w, append([]string{":status", "200"}, slices.Repeat([]string{"x", strings.Repeat("y", 100)}, 150)...)...)
	}},
	"net/http: server replied with more than declared Content-Length": {frames: func(w io.Writer) {
		frame(w, 1, 4, 1, literal(":status", "200", "content-length", "1"))
		frame(w, 0, 1, 1, "canary")
	}},
}

// refusedByHTTP2 is a request that net/http does not send over HTTP/2.
func refusedByHTTP2(request func(*http.Request)) provocation {
	return provocation{request: request, frames: func(io.Writer) {}}
}

func sendWithTrailer(req *http.Request, key string) {
	req.Method, req.Body, req.ContentLength = "POST", io.NopCloser(strings.NewReader("x")), -1
	req.Trailer = http.Header{key: nil}
}

// unprovoked has the wordings that a test cannot provoke at will, and why. That the source of
// net/http still has them is tested.
var unprovoked = map[string]string{
	"http: server closed idle connection":                         "only when the server closes in the instant in which a request takes the connection",
	"net/http: Transport failed to read from server":              "likewise; mostly with an error that has a type",
	"http: CloseIdleConnections called":                           "likewise, when the program closes",
	"http: idle connection timeout":                               "likewise, when its time is over",
	"http: persistConn.readLoop exiting":                          "likewise",
	"net/http: cannot rewind body after connection loss":          "likewise, with a body that is gone",
	"http2: client connection lost":                               "takes the time of a ping: number 88 of internal/promises/faults does it in virtual time",
	"http2: client conn is closed":                                "only when the connection closes in the instant in which a request takes it",
	"http2: client connection force closed":                       "only for the users of ClientConn",
	"http2: client conn could not be established":                 "only when a dial of another request fails in that instant",
	"http2: client conn not usable":                               "only when others take the last streams in that instant",
	"http2: Transport received Server's graceful shutdown GOAWAY": "net/http sends such a request again itself",
	"http2: Transport: cannot retry err":                          "only with a body that is gone, in such an instant",
	"http: invalid header":                                        "is the same, of the users of ClientConn",
	"http: invalid trailer":                                       "likewise",
	"message too large":                                           "the limit of the Transport for headers comes first",
	"header list too large":                                       "the limit for frames comes first",
	"http2: frame too large":                                      "is that of a frame that looks like HTTP/1, or is a connection error",
	"http2: unexpected ALPN protocol":                             "net/http speaks HTTP/2 only where it was agreed on",
	"http2: could not negotiate protocol mutually":                "likewise",
	"tls: server selected unadvertised ALPN protocol":             "crypto/tls has no server that does",
	"http: server gave HTTP response to HTTPS client":             "only http.Client has it, inside a RoundTripper of others",
	"refusing to use HTTP_PROXY value in CGI environment":         "only in a program of CGI: internal/promises/causes runs one",
	"http2: request body larger than specified content length":    "the case without HTTP/2 is provoked",
	"request header list larger than peer's advertised limit":     "is the caller's request, and a limit of the server",
}

// ours are the wordings that are not net/http's.
var ours = []string{"the server hands the request back on every connection", "H3_"}

func isOurs(text string) bool {
	return slices.ContainsFunc(ours, func(begin string) bool { return strings.HasPrefix(text, begin) })
}

func TestEveryWordingIsThatOfNetHTTP(t *testing.T) {
	for _, w := range wordings {
		if isOurs(w.text) {
			continue
		}
		p, ok := provocations[w.text]
		if reason := unprovoked[w.text]; ok == (reason != "") {
			t.Errorf("%q must have either a provocation or a reason why it has none", w.text)
		}
		if !ok {
			continue
		}
		t.Run(w.text, func(t *testing.T) {
			err := provoke(t, p)
			if err == nil {
				t.Fatal("there is no error")
			}
			if found, _ := wordingOf(err); found == nil || found.text != w.text {
				t.Errorf("net/http says %q", err)
			}
			if shown := New(nil, err).Error(); strings.Contains(strings.ToLower(shown), "canary") {
				t.Errorf("it is shown as %q", shown)
			}
		})
	}
}

// A text that the source does not have any more can never be found again.
func TestTheSourceOfNetHTTPHasEveryWording(t *testing.T) {
	source := sourceOfNetHTTP(t)
	for _, w := range wordings {
		if !isOurs(w.text) && !bytes.Contains(source, []byte(w.text)) {
			t.Errorf("net/http does not say %q", w.text)
		}
	}
}

func sourceOfNetHTTP(t *testing.T) []byte {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("there is no go command to ask for the source: ", err)
	}
	var source []byte
	for _, folder := range []string{"net/http", "net/textproto", "crypto/tls", "vendor/golang.org/x/net/http/httpproxy"} {
		err := filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src", folder), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := os.ReadFile(name)
			source = append(source, text...)
			return err
		})
		if err != nil {
			t.Skip("this Go has no source: ", err)
		}
	}
	return source
}

// provoke sends a request to a server that does as p says, and returns the error.
func provoke(t *testing.T, p provocation) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	transport := &http.Transport{MaxResponseHeaderBytes: 10_000}
	if p.frames != nil {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.request != nil {
		p.request(req)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (p *provocation) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if p.frames != nil {
		serveFrames(conn, p.frames)
		return
	}
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		io.WriteString(conn, p.reply)
	}
}

// serveFrames reads up to the head of a request, calls f, and reads on to the end.
func serveFrames(conn net.Conn, f func(io.Writer)) {
	const headers = 1
	if _, err := io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	frame(conn, 4, 0, 0, "") // SETTINGS
	for begin := make([]byte, 9); ; {
		if _, err := io.ReadFull(conn, begin); err != nil {
			return
		}
		length := int64(begin[0])<<16 | int64(begin[1])<<8 | int64(begin[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if begin[3] == headers {
			break
		}
	}
	f(conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.CloseWrite() // a close with something unread would be a reset
	}
	io.Copy(io.Discard, conn)
}

// frame writes a frame of HTTP/2 (RFC 9113, section 4.1).
func frame(w io.Writer, kind, flags byte, stream byte, payload string) {
	n := len(payload)
	fmt.Fprintf(w, "%s%s", []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}, payload)
}

func goAway(w io.Writer, last, code byte) {
	frame(w, 7, 0, 0, string([]byte{0, 0, 0, last, 0, 0, 0, code})+"canary")
}

// head writes the head of a response that has no body.
func head(w io.Writer, fields ...string) {
	const endStream, endHeaders = 1, 4
	frame(w, 1, endStream|endHeaders, 1, literal(fields...))
}

// literal returns header fields as HPACK has them without any compression.
func literal(fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "\x00%c%s%c%s", len(fields[i]), fields[i], len(fields[i+1]), fields[i+1])
	}
	return b.String()
}

// Others put words of their own around those of net/http, and keep the error or not.
func TestWordingsAreFoundInTheWordsOfOthers(t *testing.T) {
	inner := errors.New(`malformed HTTP response "canary"`)
	for _, err := range []error{
		inner, fmt.Errorf("gave up: %w", inner), fmt.Errorf("gave up: %v", inner), errors.Join(errors.New("gave up"), inner),
		fmt.Errorf("%w; then %w", inner, errors.New("canary")), fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", inner),
	} {
		sorted := OfSend(err, Way{})
		if text := sorted.Error(); !errors.Is(sorted, ErrProtocol) || strings.Contains(text, "canary") || !strings.Contains(text, "malformed HTTP response") {
			t.Errorf("%q is shown as %q", err, text)
		}
		if !errors.Is(sorted, err) || !IsGarbled(sorted) {
			t.Errorf("%q: the cause is lost", err)
		}
	}
}

// Short texts are not looked for within others' words.
func TestCommonWordsAreNoWordings(t *testing.T) {
	for _, text := range []string{
		"pool: connection error: none is free", "the message too large for the queue", "circuit breaker is open", "SHA3_256 mismatch", "",
	} {
		if err := OfSend(errors.New(text), Way{}); errors.Is(err, ErrProtocol) || err.Error() != text {
			t.Errorf("%q is shown as %q", text, err)
		}
	}
}

// An error of net/http in words that are not known may be a release's new ones, and is not shown.
func TestUnknownWordsOfNetHTTPAreNotShown(t *testing.T) {
	unknown := errors.New(`odd answer "canary"`)
	err := OfSend(unknown, Way{NetHTTP: true, Connected: true})
	if !errors.Is(err, ErrProtocol) || !errors.Is(err, unknown) || strings.Contains(err.Error(), "canary") {
		t.Errorf("it is %v", err)
	}
	if err := OfRead(unknown, 1); !errors.Is(err, ErrTruncated) || !errors.Is(err, unknown) || strings.Contains(err.Error(), "canary") {
		t.Errorf("in a body it is %v", err)
	}
}
