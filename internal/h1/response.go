package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// plain returns the response whose head is at hand, if that is a plain one, as most are. Its body
// is nil if it has one: newBody makes that. The response is nil, and nothing has been read, if http.ReadResponse is to say what the head means. A plain
// head
//
//   - is in the buffer as a whole, and its lines end with CRLF, without folds;
//   - is of HTTP/1.1, and final, with a body of a length that it tells once;
//   - has no field that changes the message or that net/http would change.
//
// The rules are those of http.ReadResponse, which a fuzz target compares; this takes a third of
// its time and half of its allocations.
func (c *Conn) plain(req *http.Request) *http.Response {
	buffered, _ := c.reader.Peek(c.reader.Buffered())
	end := bytes.Index(buffered, []byte("\r\n\r\n"))
	if end < 0 || req.Method == http.MethodHead {
		return nil
	}
	line, fields, _ := strings.Cut(string(buffered[:end+2]), "\r\n")
	resp := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: -1}
	if !readStatus(resp, line) || !readFields(resp, fields) || resp.ContentLength < 0 {
		return nil
	}
	c.reader.Discard(end + 4)
	if resp.ContentLength == 0 {
		resp.Body = http.NoBody
	}
	return resp
}

// readStatus reads a status line (RFC 9112, section 4), and reports whether it is plain.
func readStatus(resp *http.Response, line string) bool {
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < 3 || len(status) > 3 && status[3] != ' ' || !isFieldValue(status) {
		return false
	}
	code, ok := number(status[:3])
	resp.Status, resp.StatusCode = status, int(code)
	return ok && code >= 200 && code != http.StatusNoContent && code != http.StatusNotModified
}

// readFields reads lines of a header, and reports whether they are plain.
func readFields(resp *http.Response, lines string) bool {
	count := strings.Count(lines, "\n")
	values := make([]string, 0, count)
	resp.Header = make(http.Header, count)
	for lines != "" {
		var line string
		line, lines, _ = strings.Cut(lines, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if len(name) == len(line) || !isToken(name) || !isFieldValue(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !readField(resp, name, value) {
			return false
		}
		if others := resp.Header[name]; others != nil {
			resp.Header[name] = append(others, value)
			continue
		}
		values = append(values, value)
		resp.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return true
}

// readField reads a field that says something of the message.
func readField(resp *http.Response, name, value string) (ok bool) {
	switch name {
	case "Content-Length":
		if resp.ContentLength >= 0 {
			return false
		}
		resp.ContentLength, ok = number(value)
		return ok
	case "Connection":
		return value == "keep-alive"
	case "Transfer-Encoding", "Trailer", "Pragma":
		return false
	}
	return true
}

// number reads decimal digits.
func number(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// A counted body is that of a message whose length is known.
type counted struct {
	reader *bufio.Reader
	left   int64
}

func (b *counted) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}
