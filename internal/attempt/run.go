package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/batchhttp/fetch/internal/body"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/target"
)

// A runner makes the requests of one worker, one after the other. It is the job.Runner of the
// engine.
type runner struct {
	client   *Client
	turns    context.Context // the context of the last turn
	ctx      context.Context // made of it
	template *http.Request   // a GET with ctx
	spare    *http.Request   // to be used again; nil: none
}

// NewRunner returns a job.Runner for exchanges of c.
func (c *Client) NewRunner() job.Runner { return &runner{client: c} }

// Run makes one request of an exchange, and decides what follows.
func (w *runner) Run(t job.Turn, j job.Job, r *job.Report) {
	x := j.(*Exchange)
	w.enter(t.Context())
	x.turn, x.report, x.wait = t, r, wait{}
	if x.next == nil {
		x.history.time(t.Tally())
		x.Outcome = Outcome{}
	}
	w.send(x)
	switch {
	case x.next != nil:
		r.Next = job.Hop
	default:
		x.review()
	}
	r.Well = r.Answer == job.Accepted && x.Err == nil && !x.Refused && !retry.Status(x.StatusCode)
	x.turn, x.report = nil, nil
}

// enter makes the context and the template of the runner fit the turn. They last for many
// turns: to make them for each request is a cost that shows.
func (w *runner) enter(turn context.Context) {
	if w.turns == turn {
		return
	}
	w.turns = turn
	w.ctx = w.client.newContext(turn)
	w.template = (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.client.header, Host: w.client.host,
	}).WithContext(w.ctx)
}

// context returns the context of an exchange's next request: the runner's, joined with that
// of the caller's request if it has one that matters.
func (w *runner) context(x *Exchange) (context.Context, func()) {
	if x.Request == nil || x.Request.Context() == context.Background() {
		return w.ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(x.Request.Context())
	turn := w.ctx
	stop := context.AfterFunc(turn, func() { cancel(context.Cause(turn)) })
	return w.client.newContext(ctx), func() {
		stop()
		cancel(nil)
	}
}

func (c *Client) newContext(parent context.Context) context.Context {
	if c.config.NewContext == nil {
		return parent
	}
	return c.config.NewContext(parent)
}

// send makes one request: builds it, sends it, and reads what comes back. It
// returns with x.next set when a redirect is to be followed; otherwise the
// outcome is in x.
func (w *runner) send(x *Exchange) {
	ctx, cancel := w.context(x)
	defer cancel()
	defer x.close()
	// The batch may have ended since the turn began.
	if err := x.done(ctx); err != nil {
		x.next = nil
		x.fail(err)
		return
	}
	req, err := w.build(ctx, x)
	if err != nil {
		x.failUnlessDone(ctx, err)
		return
	}
	resp, err := x.roundTrip(req)
	if err != nil {
		x.failUnlessDone(ctx, err)
		return
	}
	x.takeHead(req, resp)
	x.readAnswer(resp)
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 100 {
		// The body of a 101 is the connection itself, and no context ends a read of it.
		x.fail(fault.New(fault.ErrProtocol, fmt.Errorf("status %d", resp.StatusCode)))
		return
	}
	x.next, err = x.client.config.Redirects.Next(&x.chain, req, resp, x.Redirects)
	switch {
	case err != nil:
		x.fail(err)
	case x.next != nil:
		x.Redirects++
		body.Drain(resp, x.turn.Cancel)
	case x.retriesStatus():
		body.Drain(resp, x.turn.Cancel)
	default:
		x.receive(ctx, req, resp)
		if x.canReuse(resp) {
			w.spare = req
		}
	}
}

// canReuse reports whether the request that got resp can be used for another URL.
// RoundTripper allows it once the body has been read and closed. A request longer than the
// Transport's buffer may then still be on its way out.
func (x *Exchange) canReuse(resp *http.Response) bool {
	return x.client.reuses && x.Request == nil && x.Err == nil &&
		resp.ProtoMajor == 1 && x.Redirects == 0 && len(x.URL) < 2<<10
}

var (
	errNoResponse = errors.New("the RoundTripper returned no response")
	errNoBody     = errors.New("the RoundTripper returned a length but no body")
)

// roundTrip sends the request, with what http.Client does around its
// Transport: cookies, and checks of what comes back.
func (x *Exchange) roundTrip(req *http.Request) (*http.Response, error) {
	c := &x.client.config
	if c.Jar != nil {
		for _, cookie := range c.Jar.Cookies(cookieURL(req)) {
			req.AddCookie(cookie)
		}
	}
	resp, err := c.Transport.RoundTrip(req)
	if resp != nil && resp.Body == nil {
		resp.Body = http.NoBody
		if resp.ContentLength > 0 && !body.None(req.Method, resp.StatusCode) {
			err = errNoBody
		}
	}
	x.resp = resp
	if x.body != nil {
		x.body.raise() // when the response is sure to be closed
	}
	switch {
	case err != nil:
		return nil, fault.OfSend(err)
	case resp == nil:
		return nil, fault.New(fault.ErrProtocol, errNoResponse)
	}
	if c.Jar != nil {
		if cookies := resp.Cookies(); len(cookies) > 0 {
			c.Jar.SetCookies(cookieURL(req), cookies)
		}
	}
	if x.client.asksForGzip && x.Request == nil {
		body.Decode(resp)
	}
	return resp, nil
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
func (x *Exchange) receive(ctx context.Context, req *http.Request, resp *http.Response) {
	c := &x.client.config
	refused := c.StatusErrors && !target.StatusOK(resp.StatusCode)
	if c.BodyFunc != nil && !refused {
		x.callBodyFunc(ctx, req, resp)
		return
	}
	read, err := x.reader.Open(req.Method, resp, c.MaxBody).All(resp.ContentLength)
	if err != nil {
		x.failUnlessDone(ctx, err)
		return
	}
	x.Body, x.Refused = read, refused
}

// callBodyFunc gives the body to the BodyFunc.
func (x *Exchange) callBodyFunc(ctx context.Context, req *http.Request, resp *http.Response) {
	c := &x.client.config
	reader := new(body.Reader).Open(req.Method, resp, c.MaxRead) // not that of x: the function may keep it
	own, cancel := context.WithCancel(ctx)                       // ctx may outlive the attempt
	defer cancel()
	err := c.BodyFunc(own, x, x.turn.Tally(), onlyReader{reader})
	read := reader.Err()
	reader.Kill()
	if read != nil && read != io.EOF {
		x.failUnlessDone(ctx, read)
	} else if err != nil {
		x.failUnlessDone(ctx, fault.OfCaller(err))
	}
}

// onlyReader hides the methods of a body.Reader from type assertions.
type onlyReader struct{ io.Reader }
