package h1

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// maxRequest is how long the head of a request may be. A longer one might not fit into the
// buffers of the kernel, and wait for a server that waits until its early answer is read.
const maxRequest = 16 << 10

// userAgent is that of net/http.
const userAgent = "Go-http-client/1.1"

// A Head is the head of a request. The zero Head is ready for use, and may be used for one
// request after the other.
type Head struct {
	bytes []byte
	names []string // of the header fields
}

// Write makes h the head of a request, as net/http writes it, and reports whether a Conn can send
// it. None can send
//
//   - a body, or its trailer;
//   - a head of more than 16 KiB, or with bytes that net/http would encode, drop or refuse;
//   - a target that is neither a path nor "*", or not of visible ASCII, and a host that is not
//     of letters, digits and the signs of names, addresses and ports;
//   - the fields Connection and Upgrade of the caller's, or the method CONNECT, which change
//     the use of the connection;
//   - a request with the Cancel channel that contexts have replaced.
func (h *Head) Write(req *http.Request) bool {
	if h.bytes == nil {
		h.bytes = make([]byte, 0, usualHead)
	}
	h.bytes, h.names = h.bytes[:0], h.names[:0]
	//lint:ignore SA1019 a request that has one goes the way that knows it
	if hasBody(req) || req.Cancel != nil || !h.line(req) || !h.fields(req) {
		return false
	}
	h.add("\r\n")
	return len(h.bytes) <= maxRequest
}

// Reset gives up a large buffer.
func (h *Head) Reset() {
	if cap(h.bytes) > keptHead {
		h.bytes = nil
	}
}

const (
	usualHead = 192     // how large a buffer is at first
	keptHead  = 1 << 10 // how large a buffer may be to be kept for the next request
)

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody || req.ContentLength != 0 ||
		len(req.TransferEncoding) > 0 || len(req.Trailer) > 0
}

// line adds the request line (RFC 9112, section 3).
func (h *Head) line(req *http.Request) bool {
	u, method := req.URL, cmp.Or(req.Method, http.MethodGet)
	path := cmp.Or(u.EscapedPath(), "/")
	if u.Opaque != "" || !isToken(method) || method == http.MethodConnect ||
		path[0] != '/' && path != "*" || !isVisible(path) || !isVisible(u.RawQuery) {
		return false
	}
	h.add(method, " ", path)
	if u.ForceQuery || u.RawQuery != "" {
		h.add("?", u.RawQuery)
	}
	h.add(" HTTP/1.1\r\n")
	return true
}

// fields adds the header fields.
func (h *Head) fields(req *http.Request) bool {
	host := cmp.Or(req.Host, req.URL.Host)
	if !isHost(host) {
		return false
	}
	h.field("Host", host)
	if agents, ok := req.Header["User-Agent"]; !ok {
		h.field("User-Agent", userAgent)
	} else if len(agents) > 0 && agents[0] != "" && !h.field("User-Agent", agents[0]) {
		return false
	}
	if req.Close {
		h.field("Connection", "close")
	}
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // RFC 9110, section 8.6
		h.field("Content-Length", "0")
	}
	return h.given(req.Header)
}

// given adds the fields that the caller gave, in the order of their names.
func (h *Head) given(header http.Header) bool {
	for name := range header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "Connection", "Upgrade":
			return false
		}
		if !isToken(name) {
			return false
		}
		h.names = append(h.names, name)
	}
	slices.Sort(h.names)
	for _, name := range h.names {
		for _, value := range header[name] {
			if !h.field(name, value) {
				return false
			}
		}
	}
	return true
}

// field adds a header field, and reports whether it may be sent.
func (h *Head) field(name, value string) bool {
	h.add(name, ": ", strings.Trim(value, " \t"), "\r\n")
	return isFieldValue(value)
}

func (h *Head) add(texts ...string) {
	for _, text := range texts {
		h.bytes = append(h.bytes, text...)
	}
}

// isHost reports whether s is a name or an address, with or without port, that goes out as it is.
func isHost(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return s != ""
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isFieldValue reports whether s may be the value of a header field. Bytes beyond ASCII may.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
