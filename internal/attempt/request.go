package attempt

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/target"
)

// build returns the next request of an exchange, with ctx.
func (w *runner) build(ctx context.Context, x *Exchange) (*http.Request, error) {
	switch {
	case x.next != nil:
		next := x.next
		x.next = nil
		return x.complete(next.WithContext(ctx))
	case x.Request == nil:
		return w.get(x)
	}
	return x.first(x.client.clone(ctx, x.Request))
}

// clone returns a copy of the caller's request with the headers that it lacks.
func (c *Client) clone(ctx context.Context, given *http.Request) *http.Request {
	req := given.Clone(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	for key, values := range c.header {
		// The Transport knows better when to ask for gzip here: not with HEAD or Range.
		ours := key == "Accept-Encoding" && c.asksForGzip
		if _, ok := req.Header[key]; !ok && !ours {
			req.Header[key] = append([]string(nil), values...)
		}
	}
	if c.host != "" && (req.Host == "" || req.Host == req.URL.Host) {
		req.Host = c.host
	}
	return req
}

// get returns the GET for a URL. It is a copy of the runner's template, which is
// cheaper than http.NewRequest; the headers are shared where nobody can change them.
func (w *runner) get(x *Exchange) (*http.Request, error) {
	u, err := target.Parse(x.URL)
	if err != nil {
		return nil, err
	}
	c, req := x.client, w.spare
	if w.spare = nil; req == nil {
		req = new(http.Request)
	}
	*req = *w.template
	req.URL = u
	if req.Host == "" {
		req.Host = u.Host
	}
	x.chain.Start(c.header)
	if u.User == nil && c.sharesHeader {
		return req, nil
	}
	req.Header = c.header.Clone()
	if u.User == nil {
		return x.complete(req)
	}
	return x.first(req)
}

// first completes the first request of an attempt.
func (x *Exchange) first(req *http.Request) (*http.Request, error) {
	u := *req.URL
	req.URL = &u
	if u.User != nil {
		if req.Header.Get("Authorization") == "" {
			password, _ := u.User.Password()
			req.SetBasicAuth(u.User.Username(), password)
		}
		u.User = nil
	}
	x.chain.Start(req.Header)
	req.Header = req.Header.Clone()
	return x.complete(req)
}

// complete gives a request its body and calls the RequestFunc.
func (x *Exchange) complete(req *http.Request) (*http.Request, error) {
	if err := x.addBody(req); err != nil {
		return nil, err
	}
	f := x.client.config.RequestFunc
	if f == nil || x.chain.Left() {
		return req, nil
	}
	before := *req.URL
	if err := f(req); err != nil {
		return nil, fault.OfCaller(err)
	}
	switch {
	case req.URL == nil || req.URL.Scheme != before.Scheme || req.URL.Host != before.Host:
		return nil, errors.New("WithRequestFunc changed scheme or host")
	case req.Header == nil:
		req.Header = http.Header{}
	}
	return req, nil
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
