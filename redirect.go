package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A chain is what a job carries from one redirect to the next.
type chain struct {
	// header has what the caller set and may still be sent: no cookies of the
	// Jar and nothing of a RequestFunc, which each request gets anew.
	header http.Header
	left   bool // whether a request went to another origin: for good
	via    []*http.Request
}

// follow returns the request that a response leads to; nil when the response is
// the result itself, with an error when it should have been followed but must
// not be.
func (j *job) follow(req *http.Request, resp *http.Response) (*http.Request, error) {
	c := j.batch.engine.config
	method, keepBody, ok := redirectMethod(req, resp.StatusCode)
	if !ok || c.maxRedirects == 0 {
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if location == "" { // as in net/http, a response like any other
		return nil, nil
	}
	u, err := j.target(req.URL, location)
	if err != nil {
		return nil, err
	}
	next := &http.Request{
		Method: method, URL: u, Response: resp,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: j.chain.header.Clone(),
	}
	if keepBody && hasBody(req) {
		next.GetBody, next.ContentLength = req.GetBody, req.ContentLength
	}
	if err := j.crossing(req, next, location); err != nil {
		return nil, err
	}
	if !keepBody {
		dropHeaders(next.Header, isBodyHeader)
	}
	if j.batch.engine.jar() != nil {
		dropCookies(next.Header, resp.Cookies())
	}
	j.chain.header = next.Header
	next.Header = next.Header.Clone()
	if !j.chain.left && sameOrigin(req.URL, u) && next.Header.Get("Referer") == "" {
		next.Header.Set("Referer", plainURL(req.URL))
	}
	return j.checkRedirect(req, next)
}

// redirectMethod says how a redirect changes the method, whether the body
// goes along, and whether it is one that can be followed at all (RFC 9110, section
// 15.4, as net/http has it: a POST becomes a GET but for 307 and 308).
func redirectMethod(req *http.Request, status int) (method string, keepBody, ok bool) {
	method = methodOf(req.Method)
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if method != http.MethodHead {
			method = http.MethodGet
		}
		return method, false, true
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		// A body that cannot be sent again leaves the response as the result.
		return method, true, req.GetBody != nil || !hasBody(req)
	}
	return "", false, false
}

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody
}

// target resolves a Location. Its errors show nothing of it.
func (j *job) target(base *url.URL, location string) (*url.URL, error) {
	u, err := base.Parse(location)
	if err != nil {
		return nil, &failure{ErrRedirect, errors.New("its Location cannot be parsed")}
	}
	if err := checkURL(u); err != nil {
		why := strings.TrimPrefix(err.Error(), ErrInvalidURL.Error()+": ")
		return nil, &failure{ErrRedirect, errors.New("its Location: " + why)}
	}
	u.User = nil
	c := j.batch.engine.config
	if limit := c.maxRedirects; j.result.Redirects >= limit && (c.redirectsSet || c.checkRedirect() == nil) {
		return nil, &failure{ErrRedirect, fmt.Errorf("stopped after %d redirects", limit)}
	}
	return u, nil
}

// crossing applies what changes when a redirect leads to another origin: the
// caller's headers are dropped, whichever they are, since any may be a secret,
// and stay dropped although the chain may come back.
func (j *job) crossing(req, next *http.Request, location string) error {
	if sameOrigin(req.URL, next.URL) {
		if relative, err := url.Parse(location); err == nil && !relative.IsAbs() {
			next.Host = req.Host
		}
		return nil
	}
	j.chain.left = true
	if isUpgrade(req.URL, next.URL) {
		return nil
	}
	if next.GetBody != nil {
		return &failure{ErrRedirect, fmt.Errorf("status %d asks to send the body to another origin", next.Response.StatusCode)}
	}
	dropHeaders(next.Header, func(key string) bool { return !isSafeHeader(key) })
	return nil
}

// dropCookies takes those cookies out of the caller's Cookie field that a response
// has set anew: the Jar has them now.
func dropCookies(h http.Header, set []*http.Cookie) {
	if h.Get("Cookie") == "" || len(set) == 0 {
		return
	}
	kept := (&http.Request{Header: http.Header{"Cookie": h["Cookie"]}}).Cookies()
	kept = slices.DeleteFunc(kept, func(c *http.Cookie) bool {
		return slices.ContainsFunc(set, func(s *http.Cookie) bool { return s.Name == c.Name })
	})
	h.Del("Cookie")
	for _, c := range kept {
		(&http.Request{Header: h}).AddCookie(c)
	}
}

// isUpgrade reports whether a redirect only turns http into https, on the default ports.
func isUpgrade(from, to *url.URL) bool {
	return from.Scheme == "http" && (from.Port() == "" || from.Port() == "80") &&
		to.Scheme == "https" && (to.Port() == "" || to.Port() == "443") &&
		strings.EqualFold(strings.TrimSuffix(from.Hostname(), "."), strings.TrimSuffix(to.Hostname(), "."))
}

func dropHeaders(h http.Header, drop func(key string) bool) {
	for key := range h {
		if drop(http.CanonicalHeaderKey(key)) {
			delete(h, key)
		}
	}
}

func isSafeHeader(key string) bool {
	// Content-* would be safe too, but belongs to a body, and none crosses.
	return strings.HasPrefix(key, "Accept") || key == "User-Agent" || key == "Range"
}

func isBodyHeader(key string) bool { return strings.HasPrefix(key, "Content-") }

// plainURL returns u for a Referer: without user information and fragment
// (RFC 9110, section 10.1.3).
func plainURL(u *url.URL) string {
	plain := *u
	plain.User, plain.Fragment, plain.RawFragment = nil, "", ""
	return plain.String()
}

// checkRedirect asks the client's CheckRedirect, as http.Client does.
func (j *job) checkRedirect(req, next *http.Request) (*http.Request, error) {
	check := j.batch.engine.config.checkRedirect()
	if check == nil {
		return next, nil
	}
	next = next.WithContext(req.Context())
	j.chain.via = append(j.chain.via, req)
	switch err := check(next, j.chain.via); {
	case err == http.ErrUseLastResponse:
		return nil, nil
	case err != nil:
		return nil, &failure{ErrRedirect, err}
	}
	if err := checkURL(next.URL); err != nil {
		return nil, &failure{ErrRedirect, err}
	}
	return next, nil
}

func (c *config) checkRedirect() func(*http.Request, []*http.Request) error {
	if c.client == nil {
		return nil
	}
	return c.client.CheckRedirect
}
