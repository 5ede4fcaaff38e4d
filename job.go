package fetch

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A job is one URL on its way through the engine. It belongs to the worker that
// popped it, otherwise to its batch, under the engine's lock.
type job struct {
	batch  *batch
	id     int
	result *Result // in the list, or that of a streamJob

	request     *http.Request // the caller's, of DoAll; nil for a GET of result.URL
	era         int           // of the lane when it was queued
	bodyTaken   bool          // whether request.Body has been handed on
	unsubscribe func() bool   // from the context of request
	expired     *error        // set, under engine.mu, when that ends while the job does not wait

	key       string    // of the host that it waits for
	since     time.Time // when it began to wait
	due       time.Time // when its back-off is over
	remaining time.Duration
	took      time.Duration // of the attempt so far
	lesson    lesson        // of its last request
	next      *http.Request // the redirect to follow; nil: from the start
	chain     chain

	resp   *http.Response // whose body is to be closed
	body   *requestBody   // likewise
	reader bodyReader     // of resp
}

// neverQueued is before any era.
const neverQueued = -1

// fail gives the job its error.
func (j *job) fail(err error) {
	r := j.result
	r.Body = nil
	r.Err = &Error{
		Method: methodOf(r.method), URL: redact(r.URL), Attempts: r.Attempts,
		Err: err, attemptLimit: j.batch.engine.config.attempts(),
	}
}

// head takes over the head of a response.
func (j *job) head(req *http.Request, resp *http.Response) {
	r := j.result
	r.StatusCode, r.Proto, r.Header = resp.StatusCode, resp.Proto, resp.Header
	// Parsing and printing a URL costs, so one that cannot have changed is taken as it is.
	same := r.Redirects == 0 && j.request == nil && j.batch.engine.config.requestFunc == nil
	if same && req.URL.Fragment == "" && !strings.Contains(r.URL, "@") {
		r.FinalURL = r.URL
	} else {
		r.FinalURL = plainURL(req.URL)
	}
}

// begin makes the job ready for an attempt from the start.
func (j *job) begin() {
	r := j.result
	r.Attempts++
	r.Err = nil
	r.StatusCode, r.Proto, r.Header, r.FinalURL, r.Redirects = 0, "", nil, "", 0
	j.remaining = j.batch.engine.config.timeout
	j.chain = chain{}
	j.took = 0
}

// record adds the attempt that has ended to the history, which starts with the second.
func (j *job) record() {
	r := j.result
	if !j.lesson.again && r.History == nil {
		return
	}
	err := r.Err
	if _, refused := errors.AsType[*StatusError](err); refused {
		err = nil
	}
	r.History = append(r.History, Attempt{StatusCode: r.StatusCode, Err: err, Took: j.took, RetryAfter: j.lesson.asked})
}

// build returns the next request of the job, with ctx.
func (j *job) build(w *worker, ctx context.Context) (*http.Request, error) {
	switch {
	case j.next != nil:
		next := j.next
		j.next = nil
		return j.prepare(next.WithContext(ctx))
	case j.request == nil:
		return j.get(w)
	}
	e := j.batch.engine
	req := j.request.Clone(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	for key, values := range e.header {
		// The Transport knows better when to ask for gzip here: not with HEAD or Range.
		ours := key == "Accept-Encoding" && e.decodesGzip
		if _, ok := req.Header[key]; !ok && !ours {
			req.Header[key] = append([]string(nil), values...)
		}
	}
	if e.host != "" && (req.Host == "" || req.Host == req.URL.Host) {
		req.Host = e.host
	}
	return j.first(req)
}

// get returns the GET for a URL. It is a copy of the worker's template, which is
// cheaper than http.NewRequest; the headers are shared where nobody can change them.
func (j *job) get(w *worker) (*http.Request, error) {
	e := j.batch.engine
	u, err := parse(j.result.URL)
	if err != nil {
		return nil, err
	}
	req := w.request
	if w.request = nil; req == nil {
		req = new(http.Request)
	}
	*req = *w.template
	req.URL = u
	if req.Host == "" {
		req.Host = u.Host
	}
	j.chain.header = e.header
	if u.User == nil && e.sharesHeader {
		return req, nil
	}
	req.Header = e.header.Clone()
	if u.User == nil {
		return j.prepare(req)
	}
	return j.first(req)
}

// first completes the first request of an attempt.
func (j *job) first(req *http.Request) (*http.Request, error) {
	u := *req.URL
	req.URL = &u
	if u.User != nil {
		if req.Header.Get("Authorization") == "" {
			req.Header.Set("Authorization", basic(u.User))
		}
		u.User = nil
	}
	j.chain.header = req.Header
	req.Header = req.Header.Clone()
	return j.prepare(req)
}

// basic returns the credentials of RFC 7617.
func basic(user *url.Userinfo) string {
	password, _ := user.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
}

// prepare gives a request its body and calls the RequestFunc.
func (j *job) prepare(req *http.Request) (*http.Request, error) {
	if err := j.open(req); err != nil {
		return nil, err
	}
	if f := j.batch.engine.config.requestFunc; f != nil && !j.chain.left {
		before := *req.URL
		if err := f(req); err != nil {
			return nil, &hookError{err}
		}
		switch {
		case req.URL == nil || req.URL.Scheme != before.Scheme || req.URL.Host != before.Host:
			return nil, errors.New("WithRequestFunc changed scheme or host")
		case req.Header == nil:
			req.Header = http.Header{}
		}
	}
	return req, nil
}

// open gives a request a fresh body: that of the caller's request once, then those of GetBody.
func (j *job) open(req *http.Request) error {
	if j.request == nil || !hasBody(j.request) || j.result.Redirects > 0 && req.GetBody == nil {
		req.Body = nil
		return nil
	}
	body := j.request.Body
	if j.bodyTaken {
		var err error
		if body, err = j.request.GetBody(); err != nil {
			return &hookError{err}
		}
	}
	j.bodyTaken = true
	first := newRequestBody(req.Context(), body)
	j.body, req.Body = first, first
	if get := j.request.GetBody; get != nil {
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

// close closes what is open: bodies are closed whatever a RoundTripper does.
func (j *job) close() {
	if resp := j.resp; resp != nil {
		j.resp = nil
		resp.Body.Close()
	}
	if body := j.body; body != nil {
		j.body = nil
		body.Close()
		body.raise()
	}
}

// accept queues a job for a caller's request, or fails it.
func (j *job) accept(req *http.Request) {
	b := j.batch
	j.setRequest(req)
	err := checkRequest(req)
	if err == nil {
		j.key = hostKey(req.URL)
		err = b.keepHost(j.key)
	}
	if err != nil {
		j.fail(err)
		b.finish(j)
		return
	}
	b.watch(j)
	b.queue(j)
}

// setRequest makes req, which may be nil, the request of the job.
func (j *job) setRequest(req *http.Request) {
	if req == nil {
		return
	}
	j.request = req
	j.result.method = req.Method
	if req.URL != nil {
		j.result.URL = req.URL.String()
	}
}

// end closes what is left of a job that has its result. One that was tried once has no history.
func (j *job) end() {
	if j.result.Attempts < 2 {
		j.result.History = nil
	}
	if j.unsubscribe != nil { // first: a body may panic, and close waits for what is subscribed
		j.unsubscribe()
		j.unsubscribe = nil
	}
	j.close()
	if j.request != nil && !j.bodyTaken && j.request.Body != nil {
		j.bodyTaken = true
		b := &requestBody{body: j.request.Body}
		b.call(b.body.Close)
		if b.panicked != nil { // the URL of one that exits has an error anyway
			panic(b.panicked)
		}
	}
}

// A requestBody is a caller's body on its way into a RoundTripper. net/http
// reads it on goroutines of its own, where a panic would end the process, and
// does not give up on a Read that blocks: the end of the context closes it.
type requestBody struct {
	body  io.ReadCloser
	stop  func() bool
	close func() error

	mu       sync.Mutex
	exited   bool // by a panic or Goexit
	panicked *panicError
	first    *requestBody // that of the RoundTrip that asked for this one, which is told instead
}

func newRequestBody(ctx context.Context, body io.ReadCloser) *requestBody {
	b := &requestBody{body: body}
	b.close = sync.OnceValue(func() error { return b.call(b.body.Close) })
	b.stop = context.AfterFunc(ctx, func() { b.close() })
	return b
}

func (b *requestBody) Read(p []byte) (n int, err error) {
	err = b.call(func() (err error) {
		n, err = b.body.Read(p)
		return err
	})
	return n, err
}

func (b *requestBody) Close() error {
	b.stop()
	return b.close()
}

// call runs f, code of the caller's, and takes note of how it ends.
func (b *requestBody) call(f func() error) error {
	err := errExited
	if panicked, returned := contain(func() { err = f() }); !returned {
		b = cmp.Or(b.first, b)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.exited = true
		if b.panicked == nil {
			b.panicked = panicked
		}
	}
	return err
}

// raise does on this goroutine what the body has done on another: panic, or Goexit.
func (b *requestBody) raise() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.panicked != nil:
		panic(b.panicked)
	case b.exited:
		runtime.Goexit()
	}
}

// refuseAll gives requests that are not even queued their error, and closes their bodies. One
// that panics then does so when all have been closed.
func refuseAll(reqs []*http.Request, results []Result, err error) {
	var panicked *panicError
	for i, req := range reqs {
		panicked = cmp.Or(panicked, refuse(req, &results[i], err))
	}
	if panicked != nil {
		panic(panicked)
	}
}

func refuse(req *http.Request, r *Result, err error) (panicked *panicError) {
	defer func() {
		if value := recover(); value != nil {
			panicked = asPanic(value)
		}
	}()
	j := &job{result: r}
	j.setRequest(req)
	*r = failed(*r, err)
	j.end()
	return nil
}
