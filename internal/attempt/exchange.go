package attempt

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/redirect"
	"github.com/batchhttp/fetch/internal/target"
)

// An Exchange is the way of one URL: its attempts, each with the redirects that it follows.
// It is the job.Job of the engine.
type Exchange struct {
	client    *Client
	Index     int           // in its input
	URL       string        // as it was given
	Request   *http.Request // the caller's; nil for a GET of URL
	isRequest bool          // although Request may be nil
	Outcome
	history history

	next      *http.Request // the redirect to follow; nil: the exchange is between attempts
	chain     redirect.Chain
	bodyTaken bool // whether the body of Request has been handed on
	asks      bool // whether the request at hand asks by itself for codings, which are to be undone
	asGiven   bool // whether URL is sent byte for byte

	running bool           // a request
	resp    *http.Response // of it, to be closed
	body    *requestBody   // of it, to be closed
}

// An Outcome is the end of the last attempt.
type Outcome struct {
	StatusCode int
	Proto      string
	Header     http.Header
	FinalURL   string
	Redirects  int
	Body       []byte
	Read       int64         // bytes of the body, by whoever took it
	Err        error         // why there is no whole response; nil if there is one
	Refused    bool          // by its status, under StatusErrors
	Exhausted  bool          // the budget of the host, so that no attempt followed
	RetryAfter time.Duration // asked for; 0: nothing
}

// exchanges has zero exchanges.
var exchanges = sync.Pool{New: func() any { return new(Exchange) }}

// Free lets the exchange be used for another URL. Nothing may refer to it any more.
func (x *Exchange) Free() {
	*x = Exchange{}
	exchanges.Put(x)
}

// Host is that of job.Job, as are the methods below. After a redirect it is the host that the
// redirect leads to, otherwise that of the URL.
func (x *Exchange) Host() (string, error) {
	switch {
	case x.next != nil:
		return target.HostOf(x.next.URL), nil
	case x.isRequest:
		return target.RequestHost(x.Request)
	}
	return target.Host(x.URL)
}

func (x *Exchange) Context() context.Context {
	if x.Request == nil {
		return nil
	}
	return x.Request.Context()
}

func (x *Exchange) Distinct() string {
	if x.isRequest {
		return ""
	}
	return target.Distinct(x.URL)
}

func (x *Exchange) Size() int { return len(x.Body) }

func (x *Exchange) Result() (bytes int64, failed bool) { return x.Read, x.Err != nil || x.Refused }

func (x *Exchange) End(err error) {
	x.running = false // a panic in the request leaves it set
	if err != nil {
		x.next = nil
		x.fail(err)
	}
	x.close()
	x.closeUnsent()
}

func (x *Exchange) Attempted(tally job.Tally, again time.Time) {
	if !again.IsZero() {
		x.history.record(&x.Outcome, tally)
	}
	if told := x.client.config.Attempted; told != nil {
		told(x, tally, again)
	}
}

func (x *Exchange) Ended(tally job.Tally) {
	if told := x.client.config.Ended; told != nil {
		told(x, tally)
	}
}

// close closes the bodies that are open, whatever a RoundTripper does with them.
func (x *Exchange) close() {
	if resp := x.resp; resp != nil {
		x.resp = nil
		resp.Body.Close()
	}
	if body := x.body; body != nil {
		x.body = nil
		body.Close()
		body.raise()
	}
}

// closeUnsent closes the body of a request that was never sent.
func (x *Exchange) closeUnsent() {
	if x.Request == nil || x.bodyTaken || x.Request.Body == nil {
		return
	}
	x.bodyTaken = true
	b := &requestBody{body: x.Request.Body}
	b.call(b.body.Close)
	if b.panicked != nil { // the URL of one that exits has an error anyway
		panic(b.panicked)
	}
}

// fail gives the exchange its error.
func (x *Exchange) fail(err error) {
	x.Body = nil
	x.Err = err
	x.Refused = false
}

// addBody gives a request a fresh body: that of the caller's request once, then those of GetBody.
func (x *Exchange) addBody(req *http.Request) error {
	if x.Request == nil || !target.HasBody(x.Request) || x.Redirects > 0 && req.GetBody == nil {
		req.Body = nil
		return nil
	}
	body := x.Request.Body
	if x.bodyTaken {
		var err error
		if body, err = x.Request.GetBody(); err != nil {
			return fault.OfCaller(err)
		}
	}
	x.bodyTaken = true
	first := newRequestBody(req.Context(), body)
	x.body, req.Body = first, first
	if get := x.Request.GetBody; get != nil {
		// net/http asks for another body itself when a connection dies under a request.
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := get()
			if err != nil {
				return nil, err
			}
			again := newRequestBody(req.Context(), body)
			again.first = first
			return again, nil
		}
	}
	return nil
}

// takeHead takes over the head of a response.
func (x *Exchange) takeHead(req *http.Request, resp *http.Response) {
	x.StatusCode, x.Proto, x.Header = resp.StatusCode, resp.Proto, resp.Header
	// Printing a URL costs, so one that cannot have changed is taken as it is.
	if x.asGiven && x.Redirects == 0 && x.client.config.RequestFunc == nil {
		x.FinalURL = x.URL
	} else {
		x.FinalURL = target.Plain(req.URL)
	}
}

// History returns all attempts of an exchange that has ended; nil if there was one or none.
// Of one that runs it returns those before the attempt at hand.
func (x *Exchange) History(tally job.Tally) []Past {
	if x.running {
		return x.history.attempts
	}
	return x.history.all(&x.Outcome, tally)
}

// Cause returns why there is no whole response, with a note if the host's budget of retries
// was exhausted, or nil.
func (o *Outcome) Cause() error {
	if o.Err != nil && o.Exhausted {
		return fault.Exhausted(o.Err)
	}
	return o.Err
}
