package fleet

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/batchhttp/fetch/internal/target"
)

// A Request is what a fleet keeps of a request until it is done. A zero Method is GET.
type Request struct {
	URL    string      `json:"url"`
	Method string      `json:"method,omitempty"`
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
}

// isPlain reports whether the request is a GET with nothing but a URL.
func (r *Request) isPlain() bool {
	return (r.Method == "" || r.Method == http.MethodGet) && len(r.Header) == 0 && len(r.Body) == 0
}

// isText reports whether JSON, which has characters only, leaves the request as it is.
func (r *Request) isText() bool {
	ok := utf8.ValidString(r.URL) && utf8.ValidString(r.Method)
	for key, values := range r.Header {
		ok = ok && utf8.ValidString(key) && !slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) })
	}
	return ok
}

// room returns how many bytes of a page the request takes at most.
func (r *Request) room() int {
	n := roomOf(r.URL) + roomOf(r.Method) + len(r.Body)*4/3
	for key, values := range r.Header {
		n += roomOf(key)
		for _, v := range values {
			n += roomOf(v)
		}
	}
	return n
}

// roomOf is room for a string, in JSON, where some characters are escaped, or in the base64 of a gob.
func roomOf(text string) int {
	n := len(text) + len(text)/2 + 8
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c == 0xe2 { // with U+2028 and U+2029
			n += 5
		}
	}
	return n
}

// queueOf returns where the URLs of a host wait: in a queue of its own, or, where it is too long for one
// and for every name in ASCII (RFC 1035, section 2.3.4), with those that have no host.
func queueOf(host string) string {
	if len(host) > maxHost {
		return ""
	}
	return host
}

// maxHost is twice what a name has in ASCII, for those in other scripts. A broker ends a connection on which
// a subject is longer than 4,096 bytes, and a host can be three times as long in there; and the shorter they
// are, the more have room in one answer that lists them.
const maxHost = 512

// A stored is a request with what has become of it so far.
type stored struct {
	Request
	Deliveries int       `json:"deliveries,omitempty"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	Hop        *hop      `json:"hop,omitempty"`
}

// A hop is a request that the redirect of another host's led to.
type hop struct {
	Origin    Request `json:"origin"`
	Redirects int     `json:"redirects"`
}

func (s *stored) isText() bool { return s.Request.isText() && (s.Hop == nil || s.Hop.Origin.isText()) }

// given returns the request as it was added.
func (s *stored) given() Request {
	if s.Hop != nil {
		return s.Hop.Origin
	}
	return s.Request
}

// hops returns how many redirects have led to the request.
func (s *stored) hops() int {
	if s.Hop == nil {
		return 0
	}
	return s.Hop.Redirects
}

// once reports whether the request may be dropped when its URL was seen before.
func (s *stored) once() bool { return s.isPlain() && s.Hop == nil && s.Deliveries == 0 }

// http returns the request for a Fetcher.
func (s *stored) http() (*http.Request, error) {
	u, err := target.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: s.Method, URL: u, Host: u.Host, Header: http.Header{}}
	for key, values := range s.Header {
		req.Header[key] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	if len(s.Body) > 0 {
		body := s.Body
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(body))
	}
	return req, nil
}

// pageText is the text of a page. What is most common takes least room.
type pageText struct {
	URLs     []string `json:"u,omitempty"`
	Requests []stored `json:"r,omitempty"`
	Odd      []byte   `json:"o,omitempty"` // the gob of those that JSON would change

	odd []stored
}

func (p *pageText) add(s stored) {
	switch {
	case !s.isText():
		p.odd = append(p.odd, s)
	case s.once() && s.NotBefore.IsZero():
		p.URLs = append(p.URLs, s.URL)
	default:
		p.Requests = append(p.Requests, s)
	}
}

func (p *pageText) count() int { return len(p.URLs) + len(p.Requests) + len(p.odd) }

func (p *pageText) encode() ([]byte, error) {
	if len(p.odd) > 0 {
		var err error
		if p.Odd, err = encodeGob(p.odd); err != nil {
			return nil, err
		}
	}
	return encodeJSON(p)
}

func encodeGob(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

// encodeJSON is json.Marshal, but leaves & as it is, which many URLs have, and which would be six bytes.
func encodeJSON(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// readPage returns the requests of a page in the order in which they count.
func readPage(data []byte) ([]stored, error) {
	var p pageText
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("a page that cannot be read: %w", err)
	}
	if len(p.Odd) > 0 {
		if err := gob.NewDecoder(bytes.NewReader(p.Odd)).Decode(&p.odd); err != nil {
			return nil, fmt.Errorf("a page that cannot be read: %w", err)
		}
	}
	all := make([]stored, 0, p.count())
	for _, u := range p.URLs {
		all = append(all, stored{Request: Request{URL: u}})
	}
	return slices.Concat(all, p.Requests, p.odd), nil
}
