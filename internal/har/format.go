package har

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/target"
)

// The objects of HTTP Archive 1.2 (http://www.softwareishard.com/blog/har-12-spec). Fields whose
// names begin with _ are for those who know them.

type archive struct {
	Log struct {
		Version string  `json:"version"`
		Creator creator `json:"creator"`
		Entries []entry `json:"entries"`
	} `json:"log"`
}

type creator struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type entry struct {
	Started    string   `json:"startedDateTime"`
	Time       float64  `json:"time"`
	Request    request  `json:"request"`
	Response   response `json:"response"`
	Cache      struct{} `json:"cache"`
	Timings    timings  `json:"timings"`
	Server     string   `json:"serverIPAddress,omitempty"`
	Connection string   `json:"connection,omitempty"`
	Fetch      *whose   `json:"_fetch,omitempty"`

	started time.Time
}

// A whose says of which URL an entry is.
type whose struct {
	Index    int `json:"index"`
	Attempt  int `json:"attempt"`
	Redirect int `json:"redirect"`
}

// order puts the entries of one instant in order.
func (w *whose) order() int {
	if w == nil {
		return 0
	}
	return w.Index
}

type request struct {
	Method      string `json:"method"`
	URL         string `json:"url"`
	HTTPVersion string `json:"httpVersion"`
	Cookies     []pair `json:"cookies"`
	Headers     []pair `json:"headers"`
	Query       []pair `json:"queryString"`
	HeadersSize int    `json:"headersSize"`
	BodySize    int64  `json:"bodySize"`
}

type response struct {
	Status      int     `json:"status"`
	StatusText  string  `json:"statusText"`
	HTTPVersion string  `json:"httpVersion"`
	Cookies     []pair  `json:"cookies"`
	Headers     []pair  `json:"headers"`
	Content     content `json:"content"`
	Redirect    string  `json:"redirectURL"`
	HeadersSize int     `json:"headersSize"`
	BodySize    int64   `json:"bodySize"`
	Error       string  `json:"_error,omitempty"`
}

type content struct {
	Size int64  `json:"size"`
	Type string `json:"mimeType"`
}

type pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// unknown is a size that was not counted.
const unknown = -1

// newEntry returns the entry of a request, without its response.
func newEntry(x *exchange) entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := entry{started: x.times[queued], Request: newRequest(x.request, x.values)}
	e.Started = e.started.Format(time.RFC3339Nano)
	e.Timings, e.Time = x.times.timings()
	e.Server, _ = split(x.remote)
	_, e.Connection = split(x.local)
	if x.known {
		e.Fetch = &whose{x.info.Index, x.info.Attempt, x.info.Redirect}
	}
	return e
}

// split returns the address and the port of an end of a connection, if it has them.
func split(a net.Addr) (address, port string) {
	if a == nil {
		return "", ""
	}
	address, port, _ = net.SplitHostPort(a.String())
	return address, port
}

func newRequest(req *http.Request, values bool) request {
	r := request{
		Method: target.Method(req.Method), URL: shown(req.URL, values), HTTPVersion: req.Proto,
		Cookies: []pair{}, Headers: pairs(req.Header, values), Query: []pair{},
		HeadersSize: unknown, BodySize: req.ContentLength,
	}
	if req.Body == nil || req.Body == http.NoBody {
		r.BodySize = 0
	}
	if !values {
		return r
	}
	for _, c := range req.Cookies() {
		r.Cookies = append(r.Cookies, pair{c.Name, c.Value})
	}
	r.Query = pairs(http.Header(req.URL.Query()), values)
	return r
}

// shown returns a URL without user information and fragment, and with its query if all is to be
// shown.
func shown(u *url.URL, values bool) string {
	plain := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if values {
		plain.RawQuery, plain.ForceQuery = u.RawQuery, u.ForceQuery
	}
	return plain.String()
}

// pairs returns the fields of a header in the order of their names, and their values if all is to
// be shown.
func pairs(h http.Header, values bool) []pair {
	list := []pair{}
	for name, lines := range h {
		for _, value := range lines {
			if !values {
				value = ""
			}
			list = append(list, pair{name, value})
		}
	}
	slices.SortStableFunc(list, func(a, b pair) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// fail completes the entry of a request that got no response.
func (e *entry) fail(req *http.Request, err error) {
	e.Response = response{
		Cookies: []pair{}, Headers: []pair{}, Content: content{Type: "x-unknown"},
		HeadersSize: unknown, BodySize: unknown,
		Error: target.Conceal(fault.New(nil, err), req.URL.String()).Error(),
	}
}

// receive completes the entry of a request that got a response, with so many bytes of a body.
func (e *entry) receive(resp *http.Response, n int64, values bool) {
	e.Request.HTTPVersion = resp.Proto
	r := response{
		Status: resp.StatusCode, StatusText: http.StatusText(resp.StatusCode), HTTPVersion: resp.Proto,
		Cookies: []pair{}, Headers: pairs(resp.Header, values),
		Content:     content{Size: n, Type: cmp.Or(resp.Header.Get("Content-Type"), "x-unknown")},
		HeadersSize: unknown, BodySize: n,
	}
	if location, err := resp.Location(); err == nil && 300 <= resp.StatusCode && resp.StatusCode <= 399 {
		r.Redirect = shown(location, values)
	}
	if values {
		for _, c := range resp.Cookies() {
			r.Cookies = append(r.Cookies, pair{c.Name, c.Value})
		}
	}
	e.Response = r
}
