// Package redirect says where a response leads: from the request and the head of its
// response it makes the next request, or says why there is none. Methods, bodies, cookies
// and CheckRedirect are as in net/http; which headers go along is stricter.
//
// A Policy does not change and may be used from any goroutine. A Chain belongs to one URL.
package redirect

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/target"
)

// A Policy says which redirects are followed.
type Policy struct {
	Max      int  // hops to follow; 0 makes every 3xx the result
	MaxHolds bool // although there is a Check
	// Check is the CheckRedirect of the caller's client, or nil.
	Check func(req *http.Request, via []*http.Request) error
	// OwnHost makes a 3xx the result that leads to another host. In a chain of legs the next request
	// is left to another leg, and all rules hold for it here.
	OwnHost bool
	// Jar tells whether a jar has the cookies of the responses, and sets them anew.
	Jar bool
}

// A Chain goes along from one redirect of a URL to the next.
type Chain struct {
	// header has the fields that the caller set and that may still be sent: no cookies of the
	// jar and nothing of a RequestFunc, which each request gets anew.
	header http.Header
	left   bool // whether a request went to another origin: for good
	leg    *Leg // which it is; nil: it is whole
	via    []*http.Request
}

// Start begins a chain with the header that the caller has set, which it does not change.
func (c *Chain) Start(header http.Header) { *c = Chain{header: header} }

// Left reports whether the chain has been at another origin than that of its start.
func (c *Chain) Left() bool { return c.left }

// Next returns the request that a response leads to after so many hops; nil when the
// response is the result itself, with an error when it should have been followed but must
// not be.
func (p *Policy) Next(c *Chain, req *http.Request, resp *http.Response, hops int) (*http.Request, error) {
	if resp.StatusCode < 300 || resp.StatusCode > 399 || p.Max == 0 {
		return nil, nil
	}
	method, keepBody, ok := change(req, resp.StatusCode)
	if !ok {
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if strings.TrimSpace(location) == "" { // as in net/http, a response like any other
		return nil, nil
	}
	u, isAbsolute, err := target.Resolve(req.URL, location)
	if err != nil { // shows nothing of the URL
		return nil, fault.New(fault.ErrRedirect, errors.New("its Location: "+target.Reason(err)))
	}
	if c.leg == nil && p.leaves(req, u) {
		return nil, nil
	}
	if hops+c.hops() >= p.Max && (p.MaxHolds || p.Check == nil) {
		return nil, fault.New(fault.ErrRedirect, fmt.Errorf("stopped after %d redirects", p.Max))
	}
	next := &http.Request{
		Method: method, URL: u, Response: resp,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header.Clone(),
	}
	if keepBody && target.HasBody(req) {
		next.GetBody, next.ContentLength = req.GetBody, req.ContentLength
	}
	if err := c.cross(req, next, isAbsolute); err != nil {
		return nil, err
	}
	if !keepBody {
		dropHeaders(next.Header, isBodyHeader)
	}
	if p.Jar {
		dropCookies(next.Header, resp.Cookies())
	}
	c.header = next.Header
	next.Header = next.Header.Clone()
	if !c.left && target.SameOrigin(req.URL, u) && next.Header.Get("Referer") == "" {
		next.Header.Set("Referer", target.Plain(req.URL))
	}
	next, err = p.check(c, req, next)
	if next != nil && c.leg != nil && p.leaves(req, next.URL) { // which Check may have changed
		c.leg.Next = next
		return nil, nil
	}
	return next, err
}

// leaves reports whether u is for others than who sends req.
func (p *Policy) leaves(req *http.Request, u *url.URL) bool {
	return p.OwnHost && target.HostOf(u) != target.HostOf(req.URL)
}

// change says how a redirect changes the method, whether the body
// goes along, and whether it is one that can be followed at all (RFC 9110, section
// 15.4, as net/http has it: a POST becomes a GET but for 307 and 308).
func change(req *http.Request, status int) (method string, keepBody, ok bool) {
	method = target.Method(req.Method)
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if method != http.MethodHead {
			method = http.MethodGet
		}
		return method, false, true
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		// A body that cannot be sent again leaves the response as the result.
		return method, true, req.GetBody != nil || !target.HasBody(req)
	}
	return "", false, false
}

// cross applies what changes when a redirect leads to another origin: the
// caller's headers are dropped, whichever they are, since any may be a secret,
// and stay dropped although the chain may come back.
func (c *Chain) cross(req, next *http.Request, isAbsolute bool) error {
	if target.SameOrigin(req.URL, next.URL) {
		if !isAbsolute {
			next.Host = req.Host
		}
		return nil
	}
	c.left = true
	if target.IsUpgrade(req.URL, next.URL) {
		return nil
	}
	if next.GetBody != nil {
		return fault.New(fault.ErrRedirect, fmt.Errorf("status %d asks to send the body to another origin", next.Response.StatusCode))
	}
	dropHeaders(next.Header, func(key string) bool { return !isSafeHeader(key) })
	return nil
}

// check asks the CheckRedirect, as http.Client does.
func (p *Policy) check(c *Chain, req, next *http.Request) (*http.Request, error) {
	if p.Check == nil {
		return next, nil
	}
	next = next.WithContext(req.Context())
	c.via = append(c.via, req)
	switch err := p.Check(next, c.via); {
	case err == http.ErrUseLastResponse:
		return nil, nil
	case err != nil:
		return nil, fault.New(fault.ErrRedirect, target.Conceal(err, next.URL.String()))
	}
	var err error
	if next.URL, err = target.RequestURL(next); err != nil {
		return nil, fault.New(fault.ErrRedirect, err)
	}
	return next, nil
}
