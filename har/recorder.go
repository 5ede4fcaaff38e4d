// Package har records the requests of a [github.com/batchhttp/fetch.Fetcher] as an HTTP Archive (HAR 1.2), which the
// network panels of browsers and many other viewers show: a row for each request, redirects
// and further attempts included, with the time that it waited, dialled, shook hands, sent and read.
//
//	var recorder har.Recorder
//	results := fetch.FetchAll(ctx, urls, fetch.WithTransport(recorder.Wrap))
//	recorder.WriteTo(file)
package har

import (
	"io"
	"net/http"

	"github.com/batchhttp/fetch/internal/har"
)

// A Recorder records requests. The zero Recorder is ready for use. It is safe for concurrent use,
// and keeps an entry for each request until it is no longer used: some hundred bytes, and the
// names of the header fields.
//
// The archive has no user information, no bodies, and of headers, cookies and queries no values
// unless Values is set. Under "blocked" it has all the time from when the URL was accepted, or from
// the end of the request before for the same URL, to when there was a connection: in queues, for
// rates, pauses and back-off. Around a client that is no Fetcher's it begins with the request.
//
// Sizes are those of bodies as they came, before they are decoded.
type Recorder struct {
	// Values records the values of headers and cookies, and the query, as they are. They may be
	// secrets. Wrap looks at it.
	Values bool

	recorder har.Recorder
}

// Wrap returns a RoundTripper that records the requests through next. It is for
// [github.com/batchhttp/fetch.WithTransport], and may be called for several clients.
func (r *Recorder) Wrap(next http.RoundTripper) http.RoundTripper {
	return r.recorder.Wrap(next, r.Values)
}

// WriteTo writes the archive of the requests whose responses have been read or closed, or that have
// failed. It may be called while others are in flight, and again.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) { return r.recorder.WriteTo(w) }
