package attempt

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/redirect"
	"github.com/batchhttp/fetch/internal/target"
)

// A builder builds the requests of one runner.
type builder struct {
	client   *Client
	bare     context.Context // of requests, unwatched
	ctx      context.Context // of those without a context of their own
	template *http.Request   // a GET with ctx
	spare    *http.Request   // to be used again; nil: none
	watch    watch           // over the requests
}

// enter makes the template for requests in turns with the given context. It lasts for many
// requests: to make one for each is a cost that shows.
func (b *builder) enter(turn context.Context) {
	b.bare = turn
	if c := b.client.config; c.NewContext != nil {
		b.bare = c.NewContext(turn)
	}
	b.ctx = b.bare
	if b.client.watchesAll {
		b.ctx = b.watch.over(b.bare, true)
	}
	b.template = (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: b.client.shared, Host: b.client.host,
	}).WithContext(b.ctx)
}

// contextOf returns the context for a request of an exchange, from the one that it would have
// unwatched.
func (b *builder) contextOf(x *Exchange, ctx context.Context) context.Context {
	c := b.client
	if c.watches(x) && (!c.watchesAll || ctx != b.ctx) {
		return b.watch.over(ctx, c.watchesAll)
	}
	return ctx
}

// build returns the next request of an exchange, with ctx.
func (b *builder) build(ctx context.Context, x *Exchange) (*http.Request, error) {
	switch {
	case x.next != nil:
		next := x.next
		x.next = nil
		return b.complete(x, next.WithContext(ctx))
	case x.Request == nil:
		return b.get(ctx, x)
	}
	return b.first(x, b.client.clone(ctx, x.Request))
}

// get returns the GET for a URL. It is a copy of the runner's template, which is
// cheaper than http.NewRequest; the headers are shared where nobody can change them.
func (b *builder) get(ctx context.Context, x *Exchange) (*http.Request, error) {
	u, asGiven, err := target.Read(x.URL)
	if err != nil {
		return nil, err
	}
	x.asGiven = asGiven
	c, req := b.client, b.spare
	if b.spare = nil; req == nil {
		req = new(http.Request)
	}
	*req = *b.template
	if b.client.informs {
		*req = *req.WithContext(ctx)
	}
	req.URL = u
	if req.Host == "" {
		req.Host = target.HostField(u)
	}
	x.chain.Start(c.header)
	x.asks = c.asks
	if u.User == nil && c.sharesHeader {
		return req, nil
	}
	req.Header = c.header.Clone()
	switch {
	case u.User != nil:
		return b.first(x, req)
	case c.config.RequestFunc != nil:
		return b.complete(x, req)
	case c.asks:
		req.Header["Accept-Encoding"] = c.accept
	}
	return req, nil
}

// canReuse reports whether the request that got resp can be used for another URL.
// RoundTripper allows it once the body has been read and closed. A request longer than the
// Transport's buffer may then still be on its way out.
func (b *builder) canReuse(x *Exchange, resp *http.Response) bool {
	return b.client.reuses && x.Request == nil && x.Err == nil &&
		resp.ProtoMajor == 1 && x.Redirects == 0 && len(x.URL) < 2<<10
}

// first completes the first request of an attempt.
func (b *builder) first(x *Exchange, req *http.Request) (*http.Request, error) {
	clean, err := target.Clean(req.URL, req.Method)
	if err != nil {
		return nil, err
	}
	u := *clean
	req.URL = &u
	if name, password, ok := target.Credentials(clean); ok && req.Header.Get("Authorization") == "" {
		req.SetBasicAuth(name, password)
	}
	u.User = nil
	x.chain.StartLeg(req.Header, redirect.LegOf(x.Context()))
	req.Header = req.Header.Clone()
	return b.complete(x, req)
}

// cleanHost spells the Host of a request to a clean URL. It sets one that is missing only if net/http
// would not write the host of the URL as it is dialled.
func cleanHost(req *http.Request) (err error) {
	if req.Host != "" {
		req.Host, err = target.CleanHost(req.Host)
		return err
	}
	if host := target.HostField(req.URL); host != req.URL.Host {
		req.Host = host
	}
	return nil
}

// complete gives a request its body and calls the RequestFunc.
func (b *builder) complete(x *Exchange, req *http.Request) (*http.Request, error) {
	if err := cleanHost(req); err != nil {
		return nil, err
	}
	if err := x.addBody(req); err != nil {
		return nil, err
	}
	f := b.client.config.RequestFunc
	if f == nil || x.chain.Left() {
		b.ask(x, req)
		return req, nil
	}
	before := *req.URL
	if err := f(req); err != nil {
		return nil, fault.OfCaller(err)
	}
	if err := b.review(req, &before); err != nil {
		return nil, err
	}
	b.ask(x, req)
	return req, nil
}

// review checks a request that the RequestFunc may have changed.
func (b *builder) review(req *http.Request, before *url.URL) error {
	if req.URL == nil || req.URL.Scheme != before.Scheme {
		return errMoved
	}
	u, err := target.Clean(req.URL, req.Method)
	switch {
	case err != nil:
		return err
	case !target.SameOrigin(before, u):
		return errMoved
	}
	req.URL = u
	if err := cleanHost(req); err != nil {
		return err
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	return nil
}

var errMoved = errors.New("WithRequestFunc changed scheme or host")

// ask has a request ask for codings if it leaves that to the client.
func (b *builder) ask(x *Exchange, req *http.Request) {
	c := b.client
	if x.asks && x.Redirects > 0 && slices.Equal(req.Header["Accept-Encoding"], c.accept) {
		return // a CheckRedirect has copied the header of the request before
	}
	if x.asks = c.mayAsk(req.Method, req.Header); !x.asks {
		return
	}
	if c.config.RequestFunc != nil || x.Redirects > 0 {
		// Code of the caller's may have put a header there that it shares.
		header := http.Header{}
		maps.Copy(header, req.Header)
		req.Header = header
	}
	req.Header["Accept-Encoding"] = c.accept
}
