package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// send makes one request of a job: builds it, sends it, and reads what comes back. It
// returns with j.next set when a redirect is to be followed; otherwise the
// outcome is in the job's result.
func (w *worker) send(j *job) {
	ctx, cancel := w.context(j)
	defer cancel()
	defer j.close()
	// The batch may have ended since the job was popped.
	if err := j.done(ctx); err != nil {
		j.next = nil // or it would be queued again
		j.fail(err)
		return
	}
	req, err := j.build(w, ctx)
	if err != nil {
		j.failUnlessDone(ctx, err)
		return
	}
	resp, err := w.roundTrip(j, req)
	if err != nil {
		j.failUnlessDone(ctx, err)
		return
	}
	j.head(req, resp)
	w.hear(resp)
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 100 {
		// The body of a 101 is the connection itself, and no context ends a read of it.
		j.fail(&failure{ErrProtocol, fmt.Errorf("status %d", resp.StatusCode)})
		return
	}
	j.next, err = j.follow(req, resp)
	switch {
	case err != nil:
		j.fail(err)
	case j.next != nil:
		j.result.Redirects++
		w.drain(resp)
		j.close() // may panic, which must not come between Keep and Release
		j.key = hostKey(j.next.URL)
		if err := w.engine.keepHost(j.key); err != nil {
			j.next = nil
			j.fail(err)
		}
	case w.retryStatus():
		w.drain(resp)
	default:
		j.receive(ctx, req, resp)
		if j.spares(resp) {
			w.request = req
		}
	}
}

// spares reports whether the request that got resp can be used for another URL.
// RoundTripper allows it once the body has been read and closed. A request longer than the
// Transport's buffer may then still be on its way out.
func (j *job) spares(resp *http.Response) bool {
	return j.batch.engine.reuses && j.request == nil && j.result.Err == nil &&
		resp.ProtoMajor == 1 && j.result.Redirects == 0 && len(j.result.URL) < 2<<10
}

// failUnlessDone fails the job with err, unless its context explains it.
func (j *job) failUnlessDone(ctx context.Context, err error) {
	if done := j.done(ctx); done != nil {
		err = done
	}
	j.fail(err)
}

// roundTrip sends the request, with what http.Client does around its
// Transport: cookies, and checks of what comes back.
func (w *worker) roundTrip(j *job, req *http.Request) (*http.Response, error) {
	e := w.engine
	jar := e.jar()
	if jar != nil {
		for _, cookie := range jar.Cookies(cookieURL(req)) {
			req.AddCookie(cookie)
		}
	}
	resp, err := e.transport().RoundTrip(req)
	if resp != nil && resp.Body == nil {
		resp.Body = http.NoBody
		if resp.ContentLength > 0 && !bodyless(req.Method, resp.StatusCode) {
			err = errNoBody
		}
	}
	j.resp = resp
	if j.body != nil {
		j.body.raise() // when the response is sure to be closed
	}
	switch {
	case err != nil:
		return nil, sendFailure(err)
	case resp == nil:
		return nil, &failure{ErrProtocol, errNoResponse}
	}
	if jar != nil {
		if cookies := resp.Cookies(); len(cookies) > 0 {
			jar.SetCookies(cookieURL(req), cookies)
		}
	}
	j.decode(req, resp)
	return resp, nil
}

// decode decodes gzip that the request has asked for by itself: the decoders
// of net/http are not pooled. Only GETs for URLs ask. As in net/http, the header
// fields that no longer hold are removed.
func (j *job) decode(req *http.Request, resp *http.Response) {
	encoding := resp.Header["Content-Encoding"]
	if !j.batch.engine.decodesGzip || j.request != nil || len(encoding) == 0 || !strings.EqualFold(encoding[0], "gzip") || resp.Body == http.NoBody {
		return
	}
	resp.Body = &gzipReader{body: resp.Body}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Uncompressed = true
}

func cookieURL(req *http.Request) *url.URL {
	if req.Host == "" {
		return req.URL
	}
	u := *req.URL
	u.Host = req.Host
	return &u
}

// receive takes the response that the URL ends with.
func (j *job) receive(ctx context.Context, req *http.Request, resp *http.Response) {
	c := j.batch.engine.config
	refused := c.statusErrors && !statusOK(resp.StatusCode)
	if c.bodyFunc != nil && !refused {
		j.hand(ctx, req, resp)
		return
	}
	limit := c.maxBody
	if c.bodyFunc != nil && limit == 0 && !c.maxBodySet {
		limit = defaultMaxBody // of what is buffered after all
	}
	body, err := j.read(req, resp, limit)
	switch {
	case err != nil:
		j.failUnlessDone(ctx, err)
	case refused:
		err = &StatusError{StatusCode: resp.StatusCode}
		if j.lesson.exhausted {
			err = &exhausted{err}
		}
		j.fail(err)
		j.result.Body = body
	default:
		j.result.Body = body
	}
}

func (j *job) read(req *http.Request, resp *http.Response, limit int64) ([]byte, error) {
	if bodyless(req.Method, resp.StatusCode) || resp.Body == http.NoBody {
		return []byte{}, nil
	}
	if limit > 0 && resp.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	return j.reader.open(resp, limit).readAll(resp.ContentLength)
}

// hand gives the body to the BodyFunc.
func (j *job) hand(ctx context.Context, req *http.Request, resp *http.Response) {
	c := j.batch.engine.config
	body := new(bodyReader).open(resp, c.maxBody) // not the job's: f may keep it
	if bodyless(req.Method, resp.StatusCode) {
		body.err = io.EOF
	}
	if c.maxBody > 0 && resp.ContentLength > c.maxBody && body.err == nil {
		body.err = tooLarge(c.maxBody)
	}
	own, cancel := context.WithCancel(ctx) // the worker's context outlives the attempt
	defer cancel()
	err := c.bodyFunc(own, *j.result, onlyReader{body})
	read := body.err
	body.err = http.ErrBodyReadAfterClose // the reader is dead from here on
	if read != nil && read != io.EOF {
		j.failUnlessDone(ctx, read)
	} else if err != nil {
		j.failUnlessDone(ctx, &hookError{err})
	}
}

// onlyReader hides the fields of a bodyReader from type assertions.
type onlyReader struct{ io.Reader }

const (
	drainBytes = 256 << 10
	drainTime  = 50 * time.Millisecond
)

// drain reads the little that may be left of a body nobody wants, since only
// a connection that was read to the end can be used again. A body that is long or
// slow is closed unread: a new connection is cheaper.
func (w *worker) drain(resp *http.Response) {
	if resp.Body == http.NoBody || resp.ContentLength > drainBytes {
		return
	}
	// The cancel ends a read that waits. Once the timer has fired it must not
	// hit the next request, so that the context is of no more use.
	cancel := w.cancel
	timer := time.AfterFunc(drainTime, func() { cancel(errDrain) })
	defer func() {
		if !timer.Stop() {
			cancel(errDrain)
		}
	}()
	pooled := scratchPool.Get().(*[]byte)
	defer scratchPool.Put(pooled)
	for body := w.job.reader.open(resp, drainBytes); body.err == nil; {
		body.Read((*pooled)[:cap(*pooled)])
	}
}

var errDrain = errors.New("body not read to the end")

// context returns the context of a job's next request: the worker's, joined with that
// of the caller's request if it has one that matters.
func (w *worker) context(j *job) (context.Context, func()) {
	if j.request == nil || j.request.Context() == context.Background() {
		return w.ctx, func() {}
	}
	ctx, cancel := sendContext(j.request.Context())
	mine := w.ctx // w may have another when the function runs
	stop := context.AfterFunc(mine, func() { cancel(context.Cause(mine)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
