package compat

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

// answer is what both clients must agree on.
type answer struct {
	status int
	proto  string
	final  string
	header http.Header
	body   []byte
}

// viaNetHTTP sends req with http.Client, whose ways fetch promises to keep.
func viaNetHTTP(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Proto, resp.Request.URL.String(), resp.Header, body}
}

// viaFetch sends req with fetch.
func viaFetch(t *testing.T, client *http.Client, req *http.Request) answer {
	t.Helper()
	var opts []fetch.Option
	if client != nil {
		opts = append(opts, fetch.WithClient(client))
	}
	r := doOne(t, req, opts...)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return answer{r.StatusCode, r.Proto, r.FinalURL, r.Header, r.Body}
}

// mustAgree fails the test where the two answers differ.
func mustAgree(t *testing.T, ours, theirs answer) {
	t.Helper()
	if ours.status != theirs.status || ours.proto != theirs.proto || ours.final != theirs.final {
		t.Errorf("%d %s from %s, net/http has %d %s from %s", ours.status, ours.proto, ours.final, theirs.status, theirs.proto, theirs.final)
	}
	ours.header.Del("Date")
	theirs.header.Del("Date")
	if !maps.EqualFunc(ours.header, theirs.header, slices.Equal) {
		t.Errorf("header %v, net/http has %v", ours.header, theirs.header)
	}
	if !bytes.Equal(ours.body, theirs.body) {
		t.Errorf("body %.2000q, net/http has %.2000q", ours.body, theirs.body)
	}
}

// paths are answered with the same bytes every time.
var paths = []string{
	"/",
	"/absolute-redirect/3",
	"/anything/a%2Fb/c%20d?e=f&e=g",
	"/base64/aGVsbG8gd29ybGQ=",
	"/brotli",
	"/bytes/0",
	"/bytes/1?seed=1",
	"/bytes/1048576?seed=3",
	"/bytes/1048577?seed=3",
	"/cache/60",
	"/deny",
	"/dump/request",
	"/encoding/utf8",
	"/forms/post",
	"/get?a=1&b=%20&a=2",
	"/gzip",
	"/headers",
	"/html",
	"/image",
	"/image/jpeg",
	"/image/svg",
	"/json",
	"/jsonl?count=5",
	"/links/7",
	"/no/such/path",
	"/range/10000",
	"/redirect-to?url=/get%3Fa%3D1&status_code=308",
	"/redirect/4",
	"/response-headers?X-One=1&X-One=2&Content-Type=text/plain",
	"/robots.txt",
	"/status/204",
	"/status/205",
	"/status/300",
	"/status/304",
	"/status/402",
	"/status/503",
	"/stream-bytes/50000?seed=4",
	"/stream/30",
	"/trailers?x-one=1", // of several the server names in random order
	"/user-agent",
	"/xml",
}

func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	bin := newBin(t)
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
				ours := viaFetch(t, nil, newRequest(t, method, bin.URL+path, nil))
				theirs := viaNetHTTP(t, bin.Client(), newRequest(t, method, bin.URL+path, nil))
				mustAgree(t, ours, theirs)
			}
		})
	}
}

// The answer is an echo of the last request, so that this compares the method,
// the header and the body that each client sends after a redirect.
func TestRedirectedRequestsAreThoseOfNetHTTP(t *testing.T) {
	bin := newBin(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		for _, code := range []string{"301", "302", "303", "307", "308"} {
			t.Run(method+" "+code, func(t *testing.T) {
				target := bin.URL + "/redirect-to?url=/anything/end%3Fa%3Db&status_code=" + code
				request := func() *http.Request {
					req := newRequest(t, method, target, nil,
						"Accept", "application/json", "X-One", "1", "X-One", "2", "Authorization", "Bearer x")
					if method != "GET" && method != "HEAD" {
						body := "some text"
						req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
						req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
						req.Header.Set("Content-Type", "text/plain")
					}
					return req
				}
				mustAgree(t, viaFetch(t, nil, request()), viaNetHTTP(t, bin.Client(), request()))
			})
		}
	}
}

func TestCookiesAreThoseOfNetHTTP(t *testing.T) {
	handler := newBinHandler()
	bin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Of two cookies of one name go-httpbin shows one.
		w.Header()["X-Cookie-Seen"] = r.Header["Cookie"]
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(bin.Close)
	for _, test := range []struct{ name, path, header string }{
		{"set", "/cookies/set?a=new", ""},
		{"set, and one in the header", "/cookies/set?a=new", "c=mine"},
		{"set over one in the header", "/cookies/set?a=new", "a=old; c=mine"},
		{"delete one in the header", "/cookies/delete?a=", "a=old; c=mine"},
		{"of a path", "/cookies/set?a=1&attr[Path]=/anything", ""},
		{"for https only", "/cookies/set?a=1&attr[Secure]=true", ""},
		{"of another domain", "/cookies/set?a=1&attr[Domain]=example.com", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := func(path string) *http.Request {
				req := newRequest(t, http.MethodGet, bin.URL+path, nil)
				if test.header != "" {
					req.Header.Set("Cookie", test.header)
				}
				return req
			}
			ourClient, theirClient := withJar(t, bin), withJar(t, bin)
			for _, path := range []string{test.path, "/anything", "/cookies"} {
				mustAgree(t, viaFetch(t, ourClient, request(path)), viaNetHTTP(t, theirClient, request(path)))
			}
			mustAgree(t, viaFetch(t, nil, request(test.path)), viaNetHTTP(t, bin.Client(), request(test.path)))
		})
	}
}

// withJar returns a client of the server with an empty jar of its own.
func withJar(t *testing.T, server *httptest.Server) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := *server.Client()
	client.Jar = jar
	return &client
}

func TestCheckRedirectIsCalledAsNetHTTPDoes(t *testing.T) {
	bin := newBin(t)
	record := func(calls *[]string) *http.Client {
		client := *bin.Client()
		client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
			call := req.Method + " " + req.URL.String() + " " + req.Response.Status
			for _, earlier := range via {
				call += " <- " + earlier.URL.Path
			}
			*calls = append(*calls, call)
			if len(via) == 3 {
				return http.ErrUseLastResponse
			}
			return nil
		}
		return &client
	}
	var ours, theirs []string
	mustAgree(t,
		viaFetch(t, record(&ours), newRequest(t, http.MethodPost, bin.URL+"/redirect/5", strings.NewReader("x"))),
		viaNetHTTP(t, record(&theirs), newRequest(t, http.MethodPost, bin.URL+"/redirect/5", strings.NewReader("x"))))
	if !slices.Equal(ours, theirs) {
		t.Errorf("calls %q, net/http makes %q", ours, theirs)
	}
}

// newTLSBin starts go-httpbin on TLS, with HTTP/2 if http2 is set.
func newTLSBin(t *testing.T, http2 bool) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(newBinHandler())
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestHTTP2AnswersAreThoseOfNetHTTP(t *testing.T) {
	bin := newTLSBin(t, true)
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				ours := viaFetch(t, bin.Client(), newRequest(t, method, bin.URL+path, nil))
				if ours.proto != "HTTP/2.0" {
					t.Errorf("Proto is %s", ours.proto)
				}
				theirs := viaNetHTTP(t, bin.Client(), newRequest(t, method, bin.URL+path, nil))
				mustAgree(t, ours, theirs)
			}
		})
	}
}

func TestManyStreamsOfOneHTTP2Connection(t *testing.T) {
	bin := newTLSBin(t, true)
	var urls []string
	for i := range 400 {
		switch {
		case i%40 == 0:
			urls = append(urls, bin.URL+"/bytes/1000000?seed="+url.QueryEscape(strings.Repeat("1", 1+i/40)))
		case i%5 == 0:
			urls = append(urls, bin.URL+"/redirect/2")
		default:
			urls = append(urls, bin.URL+"/stream-bytes/5000?seed=7&chunk_size=500")
		}
	}
	want := sum(randomBytes(5000, 7))
	for i, r := range get(t, urls, fetch.WithClient(bin.Client())) {
		mustSucceed(t, r)
		if r.Proto != "HTTP/2.0" {
			t.Errorf("%s: Proto %s", r.URL, r.Proto)
		}
		if i%40 == 0 && len(r.Body) != 1_000_000 || i%5 != 0 && sum(r.Body) != want {
			t.Errorf("%s: %d bytes, not those that were sent", r.URL, len(r.Body))
		}
	}
}

func TestHTTP2TimeoutsLeaveOtherStreamsAlone(t *testing.T) {
	bin := newTLSBin(t, true)
	var urls []string
	for i := range 30 {
		urls = append(urls, bin.URL+[]string{"/get", "/drip?duration=9s&delay=0s&numbytes=9", "/delay/100ms"}[i%3])
	}
	for i, r := range get(t, urls, fetch.WithClient(bin.Client()), fetch.WithTimeout(1500*time.Millisecond)) {
		if i%3 == 1 {
			if !errors.Is(r.Err, fetch.ErrTimeout) || r.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d, error %v; want ErrTimeout", r.URL, r.StatusCode, r.Err)
			}
			continue
		}
		mustSucceed(t, r)
	}
}

func TestTLSWithoutHTTP2(t *testing.T) {
	bin := newTLSBin(t, false)
	for _, r := range get(t, []string{bin.URL + "/get", bin.URL + "/redirect/3", bin.URL + "/bytes/2000000?seed=1"}, fetch.WithClient(bin.Client())) {
		mustSucceed(t, r)
		if r.Proto != "HTTP/1.1" {
			t.Errorf("%s: Proto %s", r.URL, r.Proto)
		}
	}
}

func TestACertificateThatNobodyTrustsIsAnError(t *testing.T) {
	server := httptest.NewUnstartedServer(newBinHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would log the handshake that fails
	server.StartTLS()
	t.Cleanup(server.Close)

	r := getOne(t, server.URL+"/get")
	var cert *tls.CertificateVerificationError
	if !errors.As(r.Err, &cert) || r.StatusCode != 0 {
		t.Errorf("status %d, error %v; want a *tls.CertificateVerificationError", r.StatusCode, r.Err)
	}
}

func TestRedirectsBetweenHTTPAndHTTPS(t *testing.T) {
	plain, secure := newBin(t), newTLSBin(t, true)
	headers := []fetch.Option{
		fetch.WithClient(secure.Client()), fetch.WithHeader("Authorization", "Bearer secret"),
	}
	for _, target := range []string{
		plain.URL + "/redirect-to?url=" + url.QueryEscape(secure.URL+"/headers"),
		secure.URL + "/redirect-to?url=" + url.QueryEscape(plain.URL+"/headers"),
	} {
		r := getOne(t, target, headers...)
		if got := decode(t, r).Headers; got.Get("Authorization") != "" || got.Get("Referer") != "" {
			t.Errorf("%s: the other origin got %v", target, got)
		}
	}
}
