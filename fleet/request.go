package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/batchhttp/fetch/internal/redirect"
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

// given returns the request as it was added.
func (s *stored) given() Request {
	if s.Hop != nil {
		return s.Hop.Origin
	}
	return s.Request
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
	if s.Hop != nil {
		req = req.WithContext(redirect.AsLeft(req.Context()))
	}
	return req, nil
}

// pageText is the text of a page. What is most common takes least room.
type pageText struct {
	URLs     []string `json:"u,omitempty"`
	Requests []stored `json:"r,omitempty"`
}

func (p *pageText) add(s stored) {
	if s.once() && s.NotBefore.IsZero() {
		p.URLs = append(p.URLs, s.URL)
	} else {
		p.Requests = append(p.Requests, s)
	}
}

func (p *pageText) count() int { return len(p.URLs) + len(p.Requests) }

func (p *pageText) encode() ([]byte, error) { return json.Marshal(p) }

// readPage returns the requests of a page in the order in which they count.
func readPage(data []byte) ([]stored, error) {
	var p pageText
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("a page that cannot be read: %w", err)
	}
	all := make([]stored, 0, p.count())
	for _, u := range p.URLs {
		all = append(all, stored{Request: Request{URL: u}})
	}
	return append(all, p.Requests...), nil
}
