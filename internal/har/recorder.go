// Package har records requests as an HTTP Archive (HAR 1.2), which the network panels of browsers
// and many other viewers show. It is the body of the module github.com/batchhttp/fetch/har: here,
// the programs of the root module can use it too.
package har

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/batchhttp/fetch"
)

// A Recorder records the requests that go through the RoundTrippers that Wrap returns. The zero
// Recorder is ready for use. It is safe for concurrent use, and keeps an entry of a few hundred
// bytes for each request.
type Recorder struct {
	mu      sync.Mutex
	entries []entry
	ends    map[asked]time.Time // of the last request
}

// asked is one URL of one batch.
type asked struct {
	index  int
	url    string
	queued time.Time
}

// Wrap returns a RoundTripper that records the requests through next, with the values of headers,
// cookies and queries or without: an archive is often sent to others.
func (r *Recorder) Wrap(next http.RoundTripper, values bool) http.RoundTripper {
	return &roundTripper{r, next, values}
}

// A roundTripper records requests.
type roundTripper struct {
	recorder *Recorder
	next     http.RoundTripper
	values   bool
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := t.recorder.begin(req, t.values)
	resp, err := t.next.RoundTrip(req.WithContext(x.trace(req.Context())))
	if err != nil {
		x.fail(err)
		return resp, err
	}
	if resp != nil { // a RoundTripper that returns neither is not to be judged here
		x.receive(resp)
	}
	return resp, err
}

// begin begins to record a request. It has waited since its URL was accepted, or since the request
// before for the same URL ended.
func (r *Recorder) begin(req *http.Request, values bool) *exchange {
	x := &exchange{recorder: r, request: req, values: values}
	now := time.Now()
	x.times[queued], x.times[begun] = now, now
	if x.info, x.known = fetch.InfoOf(req.Context()); !x.known {
		return x
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x.times[queued] = x.info.Queued
	if end, ok := r.ends[x.asked()]; ok {
		x.times[queued] = end
	}
	return x
}

// end takes the entry of a request that has ended.
func (r *Recorder) end(x *exchange, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	if !x.known {
		return
	}
	if r.ends == nil {
		r.ends = map[asked]time.Time{}
	}
	r.ends[x.asked()] = x.times[ended]
}

// WriteTo writes the requests that have ended as an archive, in the order in which they began to
// wait.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	entries := slices.Clone(r.entries)
	r.mu.Unlock()
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.Fetch.order(), b.Fetch.order()))
	})
	var a archive
	a.Log.Version, a.Log.Creator, a.Log.Entries = "1.2", creator{"fetch", "1"}, entries
	if entries == nil {
		a.Log.Entries = []entry{}
	}
	text, err := json.MarshalIndent(a, "", "\t")
	if err != nil {
		return 0, err
	}
	n, err := w.Write(append(text, '\n'))
	return int64(n), err
}
