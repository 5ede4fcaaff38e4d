package fetchtest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
)

// A Snapshot holds the fields of a request that a caller can see.
type Snapshot struct {
	Request http.Request
	URL     url.URL
	Header  http.Header
}

// SnapshotOf returns the fields of req as they are now.
func SnapshotOf(req *http.Request) Snapshot {
	s := Snapshot{Request: *req, URL: *req.URL, Header: req.Header.Clone()}
	// Functions cannot be compared, and Body is what the caller knows is used up.
	s.Request.GetBody, s.Request.Body = nil, nil
	return s
}

// A SentRequest is a request as a transport got it.
type SentRequest struct {
	Method, URL, Host string
	Header            http.Header
	Body              string
}

func (s SentRequest) String() string {
	return fmt.Sprintf("%s %s (Host %q) %v %q", s.Method, s.URL, s.Host, s.Header, s.Body)
}

// A Recorder remembers the requests sent over it.
type Recorder struct {
	mu   sync.Mutex
	sent []SentRequest
}

// Over remembers the requests sent over rt.
func (r *Recorder) Over(rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		s := SentRequest{Method: cmp.Or(req.Method, "GET"), URL: req.URL.String(), Host: req.Host, Header: req.Header.Clone()}
		if req.Body != nil {
			body, err := io.ReadAll(req.Body)
			req.Body.Close()
			if err != nil {
				return nil, err
			}
			s.Body = string(body)
		}
		r.mu.Lock()
		r.sent = append(r.sent, s)
		r.mu.Unlock()
		return rt(req)
	}
}

// Take returns the requests sent since the last call.
func (r *Recorder) Take() []SentRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// GetOne fetches one URL.
func GetOne(t testing.TB, rawURL string, opts ...fetch.Option) fetch.Result {
	t.Helper()
	results := fetch.FetchAll(context.Background(), []string{rawURL}, opts...)
	CheckResults(t, []string{rawURL}, results)
	return results[0]
}

// SendOne sends one request.
func SendOne(t testing.TB, req *http.Request, opts ...fetch.Option) fetch.Result {
	t.Helper()
	rawURL := req.URL.String()
	results := NewFetcher(t, opts...).DoAll(context.Background(), []*http.Request{req})
	CheckResults(t, []string{rawURL}, results)
	return results[0]
}

// NewRequest returns a request, with the header fields given as key, value, key, value.
func NewRequest(t testing.TB, method, rawURL string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, rawURL, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}
