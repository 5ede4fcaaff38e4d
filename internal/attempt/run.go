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
	turn    // at hand
	client  *Client
	parent  context.Context // of the last turn
	builder builder
	reader  body.Reader
}

// NewRunner returns a job.Runner for exchanges of c.
func NewRunner(c *Client) job.Runner { return &runner{client: c, builder: builder{client: c}} }

// Run makes one request of an exchange, and decides about its next step.
func (w *runner) Run(t job.Turn, j job.Job, r *job.Report) {
	x := j.(*Exchange)
	w.turn = turn{Turn: t, x: x, config: &w.client.config, report: r}
	if t.Context != w.parent {
		w.parent = t.Context
		w.builder.enter(t.Context)
	}
	x.running = true
	if x.next == nil && t.Tally.Attempts > 1 {
		x.Outcome = Outcome{}
	}
	w.send(x)
	switch {
	case x.next != nil:
		r.Next, r.After = job.Hop, w.pause
	case !x.chain.Passes():
		w.review()
	}
	r.Well = r.Answer == job.Accepted && x.Err == nil && !x.Refused &&
		(x.StatusCode < 400 || !retry.Status(x.StatusCode, w.hint))
	x.running = false
}

// context returns the context of an exchange's next request, in which code of the caller's can
// ask for its Info.
func (w *runner) context(x *Exchange) (context.Context, func()) {
	ctx, cancel := w.joinedContext(x)
	if w.client.informs {
		ctx = w.builder.inform(ctx, x, w.info())
	}
	return ctx, cancel
}

// joinedContext returns the runner's context, joined with that of the caller's request if it has
// one that matters.
func (w *runner) joinedContext(x *Exchange) (context.Context, func()) {
	if x.Request == nil || x.Request.Context() == context.Background() {
		return w.builder.contextOf(x, w.builder.ctx), func() {}
	}
	if given := x.Request.Context(); given.Done() == nil {
		return w.builder.contextOf(x, &valued{w.builder.bare, given}), func() {}
	}
	ctx, cancel := context.WithCancelCause(x.Request.Context())
	parent := w.parent
	stop := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	return w.builder.contextOf(x, &joined{ctx, parent}), func() {
		stop()
		cancel(nil)
	}
}

// send makes one request: builds it, sends it, and reads the response. It
// returns with x.next set when a redirect is to be followed; otherwise the
// outcome is in x.
func (w *runner) send(x *Exchange) {
	ctx, cancel := w.context(x)
	defer cancel()
	defer x.close()
	// The batch may have ended since the turn began.
	if err := w.done(ctx); err != nil {
		x.next = nil
		x.fail(err)
		return
	}
	req, err := w.builder.build(ctx, x)
	if err != nil {
		w.failUnlessDone(ctx, err)
		return
	}
	w.sent = req.URL
	resp, err := w.roundTrip(req)
	if err != nil {
		w.failUnlessDone(ctx, err)
		return
	}
	x.takeHead(req, resp)
	w.readAnswer(resp)
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 100 {
		// The body of a 101 is the connection itself, and no context ends a read of it.
		x.fail(fault.New(fault.ErrProtocol, fmt.Errorf("status %d", resp.StatusCode)))
		return
	}
	x.next, err = w.config.Redirects.Next(&x.chain, req, resp, x.Redirects)
	switch {
	case err != nil:
		w.fail(err)
	case w.tooLong && (x.next != nil || x.chain.Passes()):
		x.next = nil
		w.fail(fault.New(fault.ErrRedirect, fmt.Errorf("it asks to wait for %v", w.pause)))
	case x.next != nil:
		x.Redirects++
		body.Drain(resp, w.Cancel)
	case x.chain.Passes():
		x.chain.Wait(w.pause)
		body.Drain(resp, w.Cancel)
	case w.retriesStatus():
		body.Drain(resp, w.Cancel)
	default:
		w.receive(ctx, req, resp)
		if w.builder.canReuse(x, resp) {
			w.builder.spare = req
		}
	}
}

var (
	errNoResponse = errors.New("the RoundTripper returned no response")
	errNoBody     = errors.New("the RoundTripper returned a length but no body")
)

// roundTrip sends the request, as http.Client does around its
// Transport: with cookies, and checks of the response.
func (w *runner) roundTrip(req *http.Request) (*http.Response, error) {
	c, x := w.config, w.x
	if c.Jar != nil {
		for _, cookie := range c.Jar.Cookies(cookieURL(req)) {
			req.AddCookie(cookie)
		}
	}
	watches := w.client.watches(x)
	if watches {
		w.builder.watch.begin("")
	}
	resp, err := c.Transport.RoundTrip(req)
	w.reused = watches && w.builder.watch.isReused()
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
		return nil, fault.OfSend(err, w.way(req))
	case resp == nil:
		return nil, fault.New(fault.ErrProtocol, errNoResponse)
	}
	if c.Jar != nil {
		if cookies := resp.Cookies(); len(cookies) > 0 {
			c.Jar.SetCookies(cookieURL(req), cookies)
		}
	}
	return resp, nil
}

// way returns how a request went.
func (w *runner) way(req *http.Request) fault.Way {
	way := fault.Way{Connected: true} // of the own client, which is not always watched
	if !w.config.Own {
		way = w.builder.watch.way(req)
	}
	way.NetHTTP = w.client.isNetHTTP
	if w.x.body != nil {
		way.Body = w.x.body.failure()
	}
	return way
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
func (w *runner) receive(ctx context.Context, req *http.Request, resp *http.Response) {
	c, x := w.config, w.x
	refused := c.StatusErrors && !target.StatusOK(resp.StatusCode)
	toFunc := c.BodyFunc != nil && !refused
	if err := w.decode(ctx, req, resp, toFunc); err != nil {
		x.fail(err)
		return
	}
	if toFunc {
		w.callBodyFunc(ctx, req, resp)
		return
	}
	read, err := w.reader.Open(req.Method, resp, c.MaxBody).All(resp.ContentLength)
	if err != nil {
		w.failUnlessDone(ctx, w.readError(err))
		return
	}
	x.Body, x.Read, x.Refused = read, int64(len(read)), refused
}

// readError returns an error of a body. The words of net/http may have been the server's;
// those of other RoundTrippers are shown.
func (w *runner) readError(err error) error {
	if w.client.isNetHTTP {
		return err
	}
	return fault.OfStranger(err)
}

// decode undoes the codings that the request has asked for by itself. Anything else is as the
// server sent it, as in net/http.
func (w *runner) decode(ctx context.Context, req *http.Request, resp *http.Response, toFunc bool) error {
	if !w.x.asks || resp.Header["Content-Encoding"] == nil {
		return nil
	}
	limit := w.config.MaxBody
	if toFunc {
		limit = w.config.MaxRead
	}
	err := w.client.codings.Undo(ctx, req.Method, resp, limit)
	w.x.Header = resp.Header
	return err
}

// callBodyFunc gives the body to the BodyFunc.
func (w *runner) callBodyFunc(ctx context.Context, req *http.Request, resp *http.Response) {
	c, x := w.config, w.x
	reader := new(body.Reader).Open(req.Method, resp, c.MaxRead) // not that of x: the function may keep it
	own, cancel := context.WithCancel(ctx)                       // ctx may outlive the attempt
	defer cancel()
	counting := &countingReader{reader: reader}
	err := c.BodyFunc(own, x, w.Tally, counting)
	x.Read = counting.n
	read := reader.Err()
	reader.Kill()
	if read != nil && read != io.EOF {
		w.failUnlessDone(ctx, w.readError(read))
	} else if err != nil {
		w.failUnlessDone(ctx, fault.OfCaller(err))
	}
}

// A countingReader counts the bytes of a body.Reader, and hides its methods from type assertions.
type countingReader struct {
	reader *body.Reader
	n      int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.n += int64(n)
	return n, err
}
