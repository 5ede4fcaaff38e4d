package codings_test

import (
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// asked is a transport that says what it was asked for, and answers with a body in gzip.
func asked(got *[]string, answer fetchtest.RoundTripFunc) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		*got = append(*got, strings.Join(req.Header["Accept-Encoding"], "|"))
		if resp, err := answer(req); resp != nil || err != nil {
			return resp, err
		}
		return fetchtest.Respond(req, 200, zipped(text), "Content-Encoding", "gzip"), nil
	}
}

func noOther(*http.Request) (*http.Response, error) { return nil, nil }

func TestWhoIsAskedForCodings(t *testing.T) {
	ask := func(req *http.Request, key, value string) *http.Request {
		req.Header.Set(key, value)
		return req
	}
	request := func(method string) *http.Request {
		return fetchtest.NewRequest(t, method, "http://a.example/", nil)
	}
	for _, test := range []struct {
		name string
		req  *http.Request // nil: a list
		opts []fetch.Option
		want string // Accept-Encoding
		raw  bool   // the body is as it was sent
	}{
		{name: "a list", want: "gzip"},
		{name: "a request", req: request("GET"), want: "gzip"},
		{name: "a request without header", req: &http.Request{Method: "GET", URL: request("GET").URL}, want: "gzip"},
		{name: "a request without method", req: &http.Request{URL: request("GET").URL}, want: "gzip"},
		{name: "a POST", req: request("POST"), want: "gzip"},
		{name: "a list with a decoder", opts: []fetch.Option{withTurn()}, want: "gzip, turn"},
		{name: "a request with a decoder", req: request("GET"), opts: []fetch.Option{withTurn()}, want: "gzip, turn"},
		{name: "a decoder given twice", opts: []fetch.Option{withTurn(), withTurn()}, want: "gzip, turn"},
		{name: "two decoders", opts: []fetch.Option{fetch.WithDecoder("BR", failing(nil)), withTurn()}, want: "gzip, br, turn"},
		{name: "a decoder for deflate", opts: []fetch.Option{fetch.WithDecoder("deflate", failing(nil))}, want: "gzip, deflate"},
		{name: "a decoder for an alias", opts: []fetch.Option{fetch.WithDecoder("x-compress", failing(nil))}, want: "gzip, compress"},
		{name: "another header", opts: []fetch.Option{fetch.WithHeader("X-Token", "abc")}, want: "gzip"},
		{name: "a RequestFunc that changes nothing", opts: []fetch.Option{fetch.WithRequestFunc(func(*http.Request) error { return nil })}, want: "gzip"},
		{name: "user information", req: ask(request("GET"), "Authorization", "x"), want: "gzip"},
		{name: "a request that asks", req: ask(request("GET"), "Accept-Encoding", "gzip"), want: "gzip", raw: true},
		{name: "a request that asks for something else", req: ask(request("GET"), "Accept-Encoding", "br"), want: "br", raw: true},
		{name: "a request that asks, with a decoder", req: ask(request("GET"), "Accept-Encoding", "gzip, turn"), opts: []fetch.Option{withTurn()}, want: "gzip, turn", raw: true},
		{name: "a header that asks", opts: []fetch.Option{fetch.WithHeader("accept-encoding", "gzip")}, want: "gzip", raw: true},
		{name: "a header that asks, for a request", req: request("GET"), opts: []fetch.Option{fetch.WithHeader("Accept-Encoding", "gzip")}, want: "gzip", raw: true},
		{name: "a header that forbids", opts: []fetch.Option{fetch.WithHeader("Accept-Encoding", "identity")}, want: "identity", raw: true},
		{name: "a RequestFunc that asks", opts: []fetch.Option{fetch.WithRequestFunc(func(req *http.Request) error {
			ask(req, "Accept-Encoding", "gzip")
			return nil
		})}, want: "gzip", raw: true},
		{name: "a request for a range", req: ask(request("GET"), "Range", "bytes=0-"), want: "", raw: true},
		{name: "a header for a range", opts: []fetch.Option{fetch.WithHeader("Range", "bytes=0-")}, want: "", raw: true},
		{name: "a RequestFunc for a range", opts: []fetch.Option{fetch.WithRequestFunc(func(req *http.Request) error {
			ask(req, "Range", "bytes=0-")
			return nil
		})}, want: "", raw: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			opts := append(slices.Clone(test.opts), fetchtest.Over(asked(&got, noOther)))
			r := fetch.Result{}
			if test.req == nil {
				r = fetchtest.GetOne(t, "http://a.example/", opts...)
			} else {
				before := fetchtest.SnapshotOf(test.req)
				r = fetchtest.SendOne(t, test.req, opts...)
				if after := fetchtest.SnapshotOf(test.req); !maps.EqualFunc(before.Header, after.Header, slices.Equal[[]string]) {
					t.Errorf("the request was changed: %v", after.Header)
				}
			}
			if !slices.Equal(got, []string{test.want}) {
				t.Errorf("asked for %q, want %q", got, test.want)
			}
			checkDecoded(t, r, test.raw)
		})
	}
}

// checkDecoded checks a Result for the answer of asked.
func checkDecoded(t *testing.T, r fetch.Result, raw bool) {
	t.Helper()
	want, coding := text, ""
	if raw {
		want, coding = zipped(text), "gzip"
	}
	if r.Err != nil || string(r.Body) != want || r.Header.Get("Content-Encoding") != coding {
		t.Errorf("body %q, header %v, error %v", r.Body, r.Header, r.Err)
	}
}

// net/http adds its fields below everything that a caller can see. What it is asked for over a
// wire must be the same: one line.
func TestAServerIsAskedOnce(t *testing.T) {
	heads := make(chan string, 1)
	rawURL := fetchtest.Listen(t, func(conn net.Conn, head string) {
		heads <- head
		io.WriteString(conn, framings[0].send("Content-Encoding: gzip\r\n", zipped(text)))
	})
	for _, way := range ways {
		way.fetch(t, rawURL)
		if head := <-heads; strings.Count(head, "Accept-Encoding: gzip\r\n") != 1 || strings.Count(head, "Accept-Encoding") != 1 {
			t.Errorf("%s: sent %q", way.name, head)
		}
	}
}

// Where no body follows there is nothing to decode, and the header says what there would be.
func TestWithoutABodyTheHeaderIsLeft(t *testing.T) {
	for _, test := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"GET", 204}, {"GET", 304}, {"HEAD", 404}} {
		var got []string
		r := fetchtest.SendOne(t, fetchtest.NewRequest(t, test.method, "http://a.example/", nil), fetchtest.Over(asked(&got, func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, test.status, "", "Content-Encoding", "gzip", "Content-Length", "100"), nil
		})))
		if r.Err != nil || len(r.Body) != 0 || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Length") != "100" {
			t.Errorf("%s, %d: %q, %v, %v", test.method, test.status, r.Body, r.Header, r.Err)
		}
		if want := (test.method == "GET"); (got[0] == "gzip") != want {
			t.Errorf("%s, %d: asked for %q", test.method, test.status, got)
		}
	}
}

// A part of something in a coding cannot be decoded.
func TestAPartIsLeftAsItIs(t *testing.T) {
	part := zipped(text)[5:20]
	rawURL, _ := answering(t, "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Range: bytes 5-19/100\r\nContent-Length: 15\r\n\r\n"+part)
	for _, way := range ways {
		if way.name == "FetchAll, a RequestFunc" {
			continue // it takes the header away
		}
		r, body := way.fetch(t, rawURL, fetch.WithHeader("Range", "bytes=5-19"))
		if r.Err != nil || r.StatusCode != 206 || body != part || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Length") != "15" {
			t.Errorf("%s: %d, %q, %v, %v", way.name, r.StatusCode, body, r.Header, r.Err)
		}
	}
}

// A RoundTripper may have decoded the body itself, and may share its headers among answers.
func TestWhatARoundTripperHasDecodedIsLeftAlone(t *testing.T) {
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, text, "Content-Encoding", "gzip")
		resp.Uncompressed = true
		return resp, nil
	}))
	if r.Err != nil || string(r.Body) != text {
		t.Errorf("body %q, error %v", r.Body, r.Err)
	}
}

func TestTheHeaderOfARoundTripperIsNotChanged(t *testing.T) {
	shared := http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"999"}}
	before := shared.Clone()
	urls := fetchtest.Numbered("http://a.example", 50)
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, zipped(text))
		resp.Header = shared
		return resp, nil
	}))
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		checkDecoded(t, r, false)
	}
	if !maps.EqualFunc(shared, before, slices.Equal[[]string]) {
		t.Errorf("the header is %v", shared)
	}
}

// What is told not to ask is not made to, but for what the caller adds.
func TestATransportWithoutCompressionAsksForNothing(t *testing.T) {
	var mu sync.Mutex
	var got []string
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, strings.Join(req.Header["Accept-Encoding"], "|"))
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, zipped(text))
	})
	transport := newTransport(t)
	transport.DisableCompression = true
	client := fetch.WithClient(fetchtest.NewClient(transport))
	checkDecoded(t, fetchtest.GetOne(t, server.URL, client), true)
	checkDecoded(t, fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", server.URL, nil), client), true)
	checkDecoded(t, fetchtest.GetOne(t, server.URL, client, withTurn()), false)
	if want := []string{"", "", "turn"}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

// Each request of a chain asks, and what it has asked for is nobody else's business.
func TestRedirectsAsk(t *testing.T) {
	moving := func(req *http.Request) (*http.Response, error) {
		if next := map[string]string{"/": "/1", "/1": "http://b.example/2"}[req.URL.Path]; next != "" {
			return fetchtest.Respond(req, 302, zipped("moved"), "Location", next, "Content-Encoding", "gzip"), nil
		}
		return nil, nil
	}
	copying := func(req *http.Request, via []*http.Request) error {
		for key, values := range via[0].Header { // as many programs do
			req.Header[key] = values
		}
		return nil
	}
	for name, check := range map[string]func(*http.Request, []*http.Request) error{
		"nothing":             nil,
		"what lets pass":      func(*http.Request, []*http.Request) error { return nil },
		"what copies fields":  copying,
		"what shares headers": func(req *http.Request, via []*http.Request) error { req.Header = via[0].Header; return nil },
		"what takes them":     func(req *http.Request, _ []*http.Request) error { req.Header = nil; return nil },
	} {
		for _, call := range []string{"FetchAll", "DoAll"} {
			for _, opt := range []fetch.Option{fetch.WithDedup(), fetch.WithRequestFunc(func(req *http.Request) error {
				if req.Header["Accept-Encoding"] != nil && check == nil {
					t.Errorf("the RequestFunc sees %v", req.Header)
				}
				return nil
			})} {
				var got []string
				client := fetchtest.NewClient(asked(&got, moving))
				client.CheckRedirect = check
				r := fetch.Result{}
				if call == "FetchAll" {
					r = fetchtest.GetOne(t, "http://a.example/", fetch.WithClient(client), opt)
				} else {
					r = fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", "http://a.example/", nil), fetch.WithClient(client), opt)
				}
				checkDecoded(t, r, false)
				if !slices.Equal(got, []string{"gzip", "gzip", "gzip"}) || r.Redirects != 2 {
					t.Errorf("%s, %s: asked for %q", name, call, got)
				}
			}
		}
	}
	t.Run("on the wire", func(t *testing.T) {
		rawURL := fetchtest.Listen(t, func(conn net.Conn, head string) {
			if strings.HasPrefix(head, "GET / ") {
				io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nmoved")
				return
			}
			io.WriteString(conn, framings[0].send("Content-Encoding: gzip\r\n", zipped(text)))
		})
		for _, way := range ways {
			if r, body := way.fetch(t, rawURL); r.Err != nil || body != text || r.Redirects != 1 {
				t.Errorf("%s: %q, %v", way.name, body, r.Err)
			}
		}
	})
}

func TestAskedByTheCallerIsRawThroughRedirects(t *testing.T) {
	var got []string
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithHeader("Accept-Encoding", "gzip"), fetchtest.Over(asked(&got, func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/" {
			return fetchtest.Respond(req, 302, "", "Location", "http://b.example/1"), nil
		}
		return nil, nil
	})))
	checkDecoded(t, r, true)
	if !slices.Equal(got, []string{"gzip", "gzip"}) {
		t.Errorf("asked for %q", got)
	}
}

// A byte order mark must not be sent, and may be ignored.
func TestJSONMayBeginWithAByteOrderMark(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	for _, test := range []struct {
		body string
		want int // 0: an error
	}{
		{`{"a": 1}`, 1}, {mark + `{"a": 2}`, 2}, {mark + " \n" + `{"a": 3}`, 3}, {mark + mark + `{"a": 4}`, 0}, {mark, 0}, {"", 0}, {mark[:2] + `{"a": 5}`, 0}, {`{"a": 6}` + mark, 0},
	} {
		for _, coding := range []string{"identity", "gzip"} {
			body := test.body
			if coding == "gzip" {
				body = zipped(body)
			}
			r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				return fetchtest.Respond(req, 200, body, "Content-Encoding", coding), nil
			}))
			var v struct{ A int }
			if err := r.JSON(&v); (err == nil) != (test.want != 0) || v.A != test.want {
				t.Errorf("%q: %+v, %v", test.body, v, err)
			}
			if string(r.Body) != test.body {
				t.Errorf("the body is %q, want %q", r.Body, test.body)
			}
		}
	}
}
