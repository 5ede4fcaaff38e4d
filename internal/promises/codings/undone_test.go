package codings_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A message is a body in some codings, and what is to become of it.
type message struct {
	number int // of the row in the list of tried messages; 0: of the same kind as one of these
	name   string
	lines  []string // of Content-Encoding
	body   string
	opts   []fetch.Option

	want   string // the body
	left   string // of the codings, in the Header
	as     bool   // it is left as it was, with its Content-Length
	errs   []error
	retry  bool // the error is one that another attempt can mend
	status int  // 0: 200
}

var (
	protocolError = []error{fetch.ErrProtocol}
	truncated     = []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}
	tooLarge      = []error{fetch.ErrBodyTooLarge}
	badGzip       = []error{fetch.ErrProtocol, gzip.ErrHeader}
)

func messages() []message {
	turn := []fetch.Option{withTurn()}
	all := []message{
		{number: 1, name: "two lines", lines: []string{"gzip", "gzip"}, body: zipped(zipped(text)), want: text},
		{name: "two lines of two codings", lines: []string{"deflate", "gzip"}, body: zipped(zlibbed(text)), want: text},
		{name: "three lines, one of them empty", lines: []string{"deflate", "", "gzip, gzip"}, body: zipped(zipped(zlibbed(text))), want: text},
		{name: "two lines, of which the first is not known", lines: []string{"br", "gzip"}, body: zipped(text), want: text, left: "br"},
		{name: "two lines, of which the last is not known", lines: []string{"gzip", "br"}, body: zipped(text), want: zipped(text), left: "gzip|br", as: true},
		{number: 2, name: "one line of two", lines: []string{"gzip, gzip"}, body: zipped(zipped(text)), want: text},
		{name: "three layers", lines: []string{"gzip, gzip, gzip"}, body: zipped(zipped(zipped(text))), want: text},
		{name: "five layers", lines: []string{"deflate, gzip,gzip ,gzip\t,\tx-gzip"}, body: zipped(zipped(zipped(zipped(flated(text))))), want: text},
		{name: "six layers", lines: []string{"gzip, gzip, gzip, gzip, gzip, gzip"}, body: zipped(zipped(zipped(zipped(zipped(zipped(text)))))), errs: protocolError, left: "gzip, gzip, gzip, gzip, gzip, gzip", as: true},
		{name: "a thousand layers", lines: []string{strings.Repeat("gzip,", 1000)}, body: text, errs: protocolError, left: strings.Repeat("gzip,", 1000), as: true},
		{name: "a thousand times nothing", lines: []string{strings.Repeat("identity,", 1000) + "gzip"}, body: zipped(text), want: text},
		{name: "empty elements", lines: []string{",, gzip ,\t, gzip,"}, body: zipped(zipped(text)), want: text},
		{name: "a list of nothing", lines: []string{" , ,"}, body: text, want: text, left: ", ,", as: true},
		{name: "an empty line", lines: []string{""}, body: text, want: text, as: true},
		{name: "gzip", lines: []string{"gzip"}, body: zipped(text), want: text},
		{name: "upper case", lines: []string{"GZIP"}, body: zipped(text), want: text},
		{name: "mixed case and blanks", lines: []string{"  GZip\t, Deflate  "}, body: zlibbed(zipped(text)), want: text},
		{number: 3, name: "x-gzip", lines: []string{"x-gzip"}, body: zipped(text), want: text},
		{name: "X-GZIP, gzip", lines: []string{"X-GZIP, gzip"}, body: zipped(zipped(text)), want: text},
		{number: 4, name: "deflate that is zlib", lines: []string{"deflate"}, body: zlibbed(text), want: text},
		{number: 4, name: "deflate that is raw", lines: []string{"deflate"}, body: flated(text), want: text},
		{name: "deflate that is raw, of nothing", lines: []string{"deflate"}, body: flated(""), want: ""},
		{name: "deflate that is zlib, of nothing", lines: []string{"deflate"}, body: zlibbed(""), want: ""},
		{name: "raw deflate in gzip", lines: []string{"deflate, gzip"}, body: zipped(flated(text)), want: text},
		{name: "gzip in raw deflate", lines: []string{"gzip, deflate"}, body: flated(zipped(text)), want: text},
		{name: "deflate with a wrong checksum", lines: []string{"deflate"}, body: zlibbed(text)[:len(zlibbed(text))-1] + "x", errs: protocolError},
		{name: "deflate that is zlib, cut", lines: []string{"deflate"}, body: zlibbed(text)[:20], errs: truncated, retry: true},
		{name: "deflate, one byte of it", lines: []string{"deflate"}, body: zlibbed(text)[:1], errs: truncated, retry: true},
		{name: "deflate and bytes behind", lines: []string{"deflate"}, body: zlibbed(text) + "\n \n", want: text},
		{name: "raw deflate and bytes behind", lines: []string{"deflate"}, body: flated(text) + "\n \n", want: text},
		{name: "deflate that is none", lines: []string{"deflate"}, body: text, errs: protocolError},
		{name: "deflate that is none, short", lines: []string{"deflate"}, body: "{}", errs: protocolError},
		{name: "deflate with a dictionary", lines: []string{"deflate"}, body: "\x78\xbb\x00\x00\x00\x02abc", errs: protocolError},
		{number: 5, name: "br without a decoder", lines: []string{"br"}, body: text, want: text, left: "br", as: true},
		{number: 5, name: "zstd without a decoder", lines: []string{"zstd"}, body: text, want: text, left: "zstd", as: true},
		{number: 5, name: "aws-chunked, gzip", lines: []string{"aws-chunked, gzip"}, body: zipped(text), want: text, left: "aws-chunked"},
		{name: "AWS-Chunked, and gzip twice", lines: []string{"AWS-Chunked,gzip", "gzip"}, body: zipped(zipped(text)), want: text, left: "AWS-Chunked"},
		{name: "two that are not known and gzip", lines: []string{"a,b", "gzip"}, body: zipped(text), want: text, left: "a, b"},
		{name: "gzip below one that is not known", lines: []string{"gzip, br, gzip"}, body: zipped(text), want: text, left: "gzip, br"},
		{name: "identity", lines: []string{"identity"}, body: text, want: text, as: true},
		{name: "gzip, identity", lines: []string{"gzip, identity"}, body: zipped(text), want: text},
		{name: "Identity, gzip", lines: []string{"Identity, gzip"}, body: zipped(text), want: text},
		{name: "br, identity", lines: []string{"br, identity"}, body: text, want: text, left: "br", as: true},
		{name: "no token", lines: []string{"gzip;q=1"}, body: text, want: text, left: "gzip;q=1", as: true},
		{name: "a charset", lines: []string{"utf-8"}, body: text, want: text, left: "utf-8", as: true},
		{number: 6, name: "gzip and blanks", lines: []string{"gzip"}, body: zipped(text) + "\n \n", want: text},
		{name: "gzip and zeros", lines: []string{"gzip"}, body: zipped(text) + strings.Repeat("\x00", 512), want: text},
		{name: "gzip and junk", lines: []string{"gzip"}, body: zipped(text) + "and something else, which is longer than any header of gzip", want: text},
		{name: "gzip and junk of one byte", lines: []string{"gzip"}, body: zipped(text) + "\x1f", want: text},
		{name: "gzip and much junk", lines: []string{"gzip"}, body: zipped(text) + strings.Repeat("junk", 50_000), want: text},
		{name: "gzip of nothing and junk", lines: []string{"gzip"}, body: zipped("") + "\n", want: ""},
		{name: "gzip and something like gzip", lines: []string{"gzip"}, body: zipped(text) + "\x1f\x8b\x07", want: text},
		{name: "gzip in gzip, with junk behind each", lines: []string{"gzip, gzip"}, body: zipped(zipped(text)+"\n\n") + "\x00\x00", want: text},
		{number: 7, name: "gzip and an empty member", lines: []string{"gzip"}, body: zipped(text) + zipped(""), want: text},
		{name: "members", lines: []string{"gzip"}, body: zipped(text[:10]) + zipped("") + zipped(text[10:]), want: text},
		{name: "members and junk", lines: []string{"gzip"}, body: zipped(text[:10]) + zipped(text[10:]) + "\n", want: text},
		{name: "members, the last cut", lines: []string{"gzip"}, body: zipped(text[:10]) + zipped(text[10:])[:15], errs: truncated, retry: true},
		{name: "members, the last cut early", lines: []string{"gzip"}, body: zipped(text) + zipped(text)[:2], errs: truncated, retry: true},
		{name: "members, the last with a wrong checksum", lines: []string{"gzip"}, body: zipped(text[:10]) + damaged(zipped(text[10:])), errs: []error{fetch.ErrProtocol, gzip.ErrChecksum}},
		{number: 8, name: "no gzip, {}", lines: []string{"gzip"}, body: "{}", errs: badGzip},
		{name: "no gzip, in gzip", lines: []string{"gzip, gzip"}, body: zipped("{}"), errs: badGzip},
		{name: "no gzip, text", lines: []string{"gzip"}, body: text, errs: badGzip},
		{name: "no gzip, but it begins so", lines: []string{"gzip"}, body: "\x1f\x8b{}", errs: badGzip},
		{name: "no gzip, on an error page", lines: []string{"gzip"}, body: "not found", errs: badGzip, status: 404},
		{name: "nothing", lines: []string{"gzip"}, body: "", want: ""},
		{name: "nothing, twice", lines: []string{"gzip, gzip"}, body: "", want: ""},
		{name: "nothing, in gzip", lines: []string{"gzip, gzip"}, body: zipped(""), want: ""},
		{name: "nothing, in deflate", lines: []string{"deflate"}, body: "", want: ""},
		{name: "nothing, in a coding of the caller's", lines: []string{"turn"}, body: "", want: "", opts: turn},
		{number: 9, name: "gzip without its checksum, the message whole", lines: []string{"gzip"}, body: zipped(text)[:len(zipped(text))-8], errs: truncated, retry: true},
		{name: "gzip with half its checksum", lines: []string{"gzip"}, body: zipped(text)[:len(zipped(text))-6], errs: truncated, retry: true},
		{name: "gzip, one byte of it", lines: []string{"gzip"}, body: "\x1f", errs: truncated, retry: true},
		{name: "gzip, cut, in gzip", lines: []string{"gzip, gzip"}, body: zipped(zipped(text)[:20]), errs: truncated, retry: true},
		{name: "a wrong checksum", lines: []string{"gzip"}, body: damaged(zipped(text)), errs: []error{fetch.ErrProtocol, gzip.ErrChecksum}},
		{name: "just as long as the limit", lines: []string{"gzip"}, body: zipped(text), opts: limit(len(text)), want: text},
		{name: "as long as the limit, and blanks", lines: []string{"gzip"}, body: zipped(text) + "\n \n", opts: limit(len(text)), want: text},
		{name: "longer than the limit", lines: []string{"gzip"}, body: zipped(text), opts: limit(len(text) - 1), errs: tooLarge},
		{name: "longer than the limit, in gzip", lines: []string{"gzip, gzip"}, body: zipped(zipped(text)), opts: limit(len(text) - 1), errs: tooLarge},
		{name: "an error page", lines: []string{"gzip"}, body: zipped("not found"), want: "not found", status: 404},
		{name: "a coding of the caller's", lines: []string{"turn"}, body: turned(text), opts: turn, want: text},
		{name: "a coding of the caller's in capitals", lines: []string{"TURN"}, body: turned(text), opts: turn, want: text},
		{name: "a coding of the caller's in gzip", lines: []string{"turn, gzip"}, body: zipped(turned(text)), opts: turn, want: text},
		{name: "gzip in a coding of the caller's", lines: []string{"gzip", "turn"}, body: turned(zipped(text)), opts: turn, want: text},
		{name: "a coding of the caller's twice", lines: []string{"turn, turn"}, body: turned(turned(text)), opts: turn, want: text},
		{name: "a coding of the caller's, cut", lines: []string{"turn"}, body: turned(text)[:20], opts: turn, errs: truncated, retry: true},
	}
	for n := range 10 {
		body := text[:n]
		if n > 0 {
			all = append(all, message{name: fmt.Sprintf("no gzip, %d bytes", n), lines: []string{"gzip"}, body: body, errs: badGzip})
		}
	}
	return all
}

func limit(n int) []fetch.Option { return []fetch.Option{fetch.WithMaxBody(int64(n))} }

// damaged returns a gzip with another checksum.
func damaged(s string) string {
	b := []byte(s)
	b[len(b)-8] ^= 1
	return string(b)
}

// head returns the header lines that belong to a message.
func (m *message) head() string { return "X-Kept: yes\r\n" + codingLines(m.lines) }

func (m *message) retries() []fetch.Option {
	return append([]fetch.Option{fetch.WithRetries(2), fetchtest.WithoutBackOff}, m.opts...)
}

// check checks what became of a message.
func (m *message) check(t *testing.T, r fetch.Result, body string, requests int32) {
	t.Helper()
	if want := max(m.status, 200); r.StatusCode != want {
		t.Errorf("status %d, want %d", r.StatusCode, want)
	}
	if body != m.want {
		t.Errorf("body %.200q, want %q", body, m.want)
	}
	if (r.Err != nil) != (m.errs != nil) {
		t.Errorf("error %v", r.Err)
	}
	for _, want := range m.errs {
		if !errors.Is(r.Err, want) {
			t.Errorf("error %v, want %v", r.Err, want)
		}
	}
	if got := strings.Join(r.Header["Content-Encoding"], "|"); got != m.left {
		t.Errorf("Content-Encoding %.200q, want %.200q", got, m.left)
	}
	if r.Header.Get("X-Kept") != "yes" || !m.as && r.Header["Content-Length"] != nil {
		t.Errorf("header %v", r.Header)
	}
	want := int32(1)
	if m.retry {
		want = 3
	}
	if requests != want {
		t.Errorf("%d requests were sent, want %d", requests, want)
	}
}

// Every message is decoded, or says that it is not, however it is asked for and framed.
func TestWhatBecomesOfCodings(t *testing.T) {
	for _, m := range messages() {
		for _, framing := range framings {
			if m.as && framing.name != "length" {
				continue
			}
			t.Run(fmt.Sprintf("%d %s/%s", m.number, m.name, framing.name), func(t *testing.T) {
				reply := framing.send(m.head(), m.body)
				if m.status != 0 {
					reply = strings.Replace(reply, "200 OK", fmt.Sprint(m.status, " Status"), 1)
				}
				for _, way := range ways {
					rawURL, requests := answering(t, reply)
					r, body := way.fetch(t, rawURL, m.retries()...)
					t.Run(way.name, func(t *testing.T) {
						m.check(t, r, body, requests.Load())
						if m.as && m.errs == nil && r.Header.Get("Content-Length") != fmt.Sprint(len(m.body)) {
							t.Errorf("the length is gone: %v", r.Header)
						}
					})
				}
			})
		}
	}
}

// A message that was cut is a truncated body, whatever coding it is in and however far that had
// come.
func TestAMessageThatIsCutIsTruncated(t *testing.T) {
	for _, m := range messages() {
		if m.as || m.body == "" || slices.Contains(m.errs, fetch.ErrProtocol) {
			continue // an error of the coding is found before the cut
		}
		for _, framing := range framings {
			if framing.cut == nil {
				continue
			}
			t.Run(m.name+"/"+framing.name, func(t *testing.T) {
				m := m
				m.want, m.status = "", 0
				if !slices.Contains(m.errs, fetch.ErrBodyTooLarge) { // or that is found before it
					m.errs = []error{fetch.ErrTruncated}
				}
				m.retry = m.errs[0] == fetch.ErrTruncated
				for _, way := range ways {
					rawURL, requests := answering(t, framing.cut(m.head(), m.body))
					r, body := way.fetch(t, rawURL, m.retries()...)
					t.Run(way.name, func(t *testing.T) { m.check(t, r, body, requests.Load()) })
				}
			})
		}
	}
}

// On HTTP/2 an error of a coding must not be taken for one of the stream.
func TestCodingsOnHTTP2(t *testing.T) {
	for _, m := range messages() {
		if len(m.lines) != 1 {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			var requests atomic.Int32
			server, config := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("X-Kept", "yes")
				w.Header().Set("Content-Encoding", strings.Trim(m.lines[0], " "))
				if m.status != 0 {
					w.WriteHeader(m.status)
				}
				io.WriteString(w, m.body)
			})
			transport := newTransport(t)
			transport.TLSClientConfig, transport.ForceAttemptHTTP2 = config, true
			r := fetchtest.GetOne(t, server.URL, append(m.retries(), fetch.WithClient(fetchtest.NewClient(transport)))...)
			if r.Proto != "HTTP/2.0" {
				t.Errorf("it was over %s", r.Proto)
			}
			m.check(t, r, string(r.Body), requests.Load())
		})
	}
}
