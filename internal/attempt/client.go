// Package attempt makes the attempts at one URL: it builds a request, sends it, follows where
// the response leads, reads its body, and says how it ended and whether another attempt
// may follow. It does not know of batches, of slots, or of who may start when.
//
// A Client has the parts that all attempts of a Fetcher share; it is safe for concurrent use. An
// Exchange, the way of one URL, belongs to one goroutine at a time.
package attempt

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/batchhttp/fetch/internal/body"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/redirect"
	"github.com/batchhttp/fetch/internal/target"
)

// Config says how requests are made. The functions are code of the caller's, as are Transport
// and Jar unless they are the own client's.
type Config struct {
	Transport http.RoundTripper
	Jar       http.CookieJar // nil is none
	// Own tells that Transport is the own client's, which changes no request and keeps none, or
	// is around that.
	Own bool
	// Wrapped tells that Transport is code of the caller's around the own client's, or around one
	// of net/http.
	Wrapped bool
	// PlainTransport tells that the transport within was told not to ask for gzip.
	PlainTransport bool
	// Shown tells that the own client shows its requests to code of the caller's.
	Shown bool
	// NewContext makes the context of requests from that of turns; nil leaves it as it is.
	NewContext func(parent context.Context) context.Context

	Decoders    []body.Decoder // of the caller's
	Header      http.Header    // of every request that has none of the name; not changed any more
	RequestFunc func(*http.Request) error
	Redirects   redirect.Policy

	MaxBody      int64 // of a body that is kept; 0 is no limit
	MaxRead      int64 // of a body that BodyFunc gets; 0 is no limit
	BodyFunc     func(ctx context.Context, x *Exchange, tally job.Tally, body io.Reader) error
	StatusErrors bool

	Retries       int
	Backoff       time.Duration // the first
	MaxBackoff    time.Duration
	MaxRetryAfter time.Duration // 0 ignores Retry-After
	RetryIf       func(x *Exchange, tally job.Tally) bool
	// Attempted and Ended are told what Exchange is; nil: nobody is.
	Attempted func(x *Exchange, tally job.Tally, again time.Time)
	Ended     func(x *Exchange, tally job.Tally)
	// Failures tells that failures to connect are to be reported although nothing is retried.
	Failures bool
}

// A Client makes exchanges. Make one with New.
type Client struct {
	config Config
	header http.Header
	host   string // of the header "Host"

	codings *body.Codings
	accept  []string // the value of Accept-Encoding, shared by all requests; nil: nothing is asked for

	sharesHeader bool        // whether nobody can change the header of a GET
	shared       http.Header // of such GETs
	asks         bool        // whether they ask for codings
	reuses       bool        // whether a GET that was answered can be used again
	isNetHTTP    bool        // whether the RoundTripper is net/http's own, or ours
	informs      bool        // whether code of the caller's can ask for the Info of a request
	watchesAll   bool        // whether the connections of all requests are watched
}

// New returns a Client.
func New(c Config) *Client {
	client := &Client{config: c, header: c.Header.Clone()}
	_, client.isNetHTTP = c.Transport.(*http.Transport)
	client.isNetHTTP = (client.isNetHTTP || c.Own) && !c.Wrapped
	client.watchesAll = !c.Own
	client.host, _ = target.CleanHost(client.header.Get("Host")) // the option has looked for an error
	client.header.Del("Host")
	client.codings = body.NewCodings(!c.PlainTransport, c.Decoders)
	if accept := client.codings.Accept(); accept != "" {
		client.accept = []string{accept}
	}
	client.asks = client.mayAsk(http.MethodGet, client.header)
	client.sharesHeader = c.Own && !c.Wrapped && !c.Shown && c.RequestFunc == nil && c.Jar == nil
	client.informs = !c.Own || c.Wrapped || c.Shown || c.RequestFunc != nil || c.BodyFunc != nil
	client.shared = client.header.Clone()
	if client.asks {
		client.shared["Accept-Encoding"] = client.accept
	}
	client.reuses = client.sharesHeader && !client.informs && sizeOf(client.shared) < 1<<10
	return client
}

// watches reports whether the connection of a request is watched. The own client's errors tell
// themselves whether it had served before, but where net/http sends the request.
func (c *Client) watches(x *Exchange) bool {
	return c.watchesAll || c.config.Retries > 0 && x.Request != nil && target.HasBody(x.Request)
}

// mayAsk reports whether a request leaves it to the client to ask for codings, which are
// then undone. As in net/http one with Range does not, since a part cannot be decoded.
func (c *Client) mayAsk(method string, header http.Header) bool {
	return c.accept != nil && method != http.MethodHead && header.Get("Accept-Encoding") == "" && header.Get("Range") == ""
}

// sizeOf returns about how many bytes a header takes on the wire.
func sizeOf(h http.Header) (size int) {
	for key, values := range h {
		for _, value := range values {
			size += len(key) + len(value) + len(": \r\n")
		}
	}
	return size
}

// Get returns an exchange that gets a URL, which has the given index in its input.
func (c *Client) Get(index int, rawURL string) *Exchange {
	x := exchanges.Get().(*Exchange)
	x.client, x.Index, x.URL = c, index, rawURL
	return x
}

// Send returns an exchange that sends a request of the caller's, which may be nil, and is not
// changed. rawURL is its URL as text.
func (c *Client) Send(index int, req *http.Request, rawURL string) *Exchange {
	x := c.Get(index, rawURL)
	x.Request, x.isRequest = req, true
	return x
}

// clone returns a copy of the caller's request with the headers that it lacks.
func (c *Client) clone(ctx context.Context, given *http.Request) *http.Request {
	req := given.Clone(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	left := redirect.HasLeft(given.Context())
	for key, values := range c.header {
		if _, ok := req.Header[key]; !ok && (!left || redirect.IsSafe(key)) {
			req.Header[key] = append([]string(nil), values...)
		}
	}
	if c.host != "" && !left && (req.Host == "" || req.Host == req.URL.Host) {
		req.Host = c.host
	}
	return req
}
