// Package compat tests fetch against servers that others wrote: go-httpbin,
// nginx and Redis where they are installed, with the decoders of others, and with lists of domains of others. Where fetch promises to do as net/http does,
// net/http does the same beside it and the answers are compared.
//
// It is a module of its own, so that its requirements are not those of fetch.
package compat

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/mccutchen/go-httpbin/v2/httpbin"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newBin starts go-httpbin with a limit that lets large bodies through.
func newBin(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(newBinHandler())
	t.Cleanup(server.Close)
	return server
}

func newBinHandler() http.Handler {
	return httpbin.New(httpbin.WithMaxBodySize(64 << 20))
}

// get fetches the URLs and checks what holds for the results of every batch.
func get(t *testing.T, urls []string, opts ...fetch.Option) []fetch.Result {
	t.Helper()
	results := fetch.FetchAll(t.Context(), urls, opts...)
	if len(results) != len(urls) {
		t.Fatalf("%d results for %d URLs", len(results), len(urls))
	}
	for i, r := range results {
		check(t, i, http.MethodGet, urls[i], r)
	}
	return results
}

// getOne is get for a single URL.
func getOne(t *testing.T, url string, opts ...fetch.Option) fetch.Result {
	t.Helper()
	return get(t, []string{url}, opts...)[0]
}

// do sends the requests and checks what holds for the results of every batch.
func do(t *testing.T, reqs []*http.Request, opts ...fetch.Option) []fetch.Result {
	t.Helper()
	f, err := fetch.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	results := f.DoAll(t.Context(), reqs)
	if len(results) != len(reqs) {
		t.Fatalf("%d results for %d requests", len(results), len(reqs))
	}
	for i, r := range results {
		check(t, i, reqs[i].Method, reqs[i].URL.String(), r)
	}
	return results
}

// doOne is do for a single request.
func doOne(t *testing.T, req *http.Request, opts ...fetch.Option) fetch.Result {
	t.Helper()
	return do(t, []*http.Request{req}, opts...)[0]
}

// newRequest builds a request; header is a list of names and values.
func newRequest(t *testing.T, method, url string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// check fails the test if r breaks a promise that fetch makes for each result
// of each batch, whatever the server does.
func check(t *testing.T, index int, method, given string, r fetch.Result) {
	t.Helper()
	if r.Index != index || r.URL != given {
		t.Errorf("result %d is that of %d, %q; want %q", index, r.Index, r.URL, given)
	}
	if r.Attempts > 1 != (r.History != nil) || r.History != nil && len(r.History) != r.Attempts {
		t.Errorf("%s: %d attempts, %d in the history", given, r.Attempts, len(r.History))
	}
	if (r.StatusCode == 0) != (r.Proto == "") || (r.StatusCode == 0) != (r.FinalURL == "") {
		t.Errorf("%s: status %d with Proto %q and FinalURL %q", given, r.StatusCode, r.Proto, r.FinalURL)
	}
	if u, err := url.Parse(r.FinalURL); err != nil || u.User != nil {
		t.Errorf("%s: FinalURL is %q", given, r.FinalURL)
	}
	if r.Err == nil {
		checkComplete(t, method, r)
	} else {
		checkFailed(t, method, r)
	}
}

// checkComplete fails the test if r, which has no error, cannot be whole.
func checkComplete(t *testing.T, method string, r fetch.Result) {
	t.Helper()
	if r.StatusCode < 200 || r.Header == nil || r.Attempts < 1 {
		t.Errorf("%s: no error, status %d, header %v, %d attempts", r.URL, r.StatusCode, r.Header, r.Attempts)
	}
	length, err := strconv.Atoi(r.Header.Get("Content-Length"))
	// Nothing follows the head of these, and under WithBodyFunc there is no Body to measure.
	bodiless := method == http.MethodHead || r.StatusCode == http.StatusNoContent || r.StatusCode == http.StatusNotModified
	if err == nil && r.Body != nil && !bodiless && len(r.Body) != length {
		t.Errorf("%s: no error, and %d of %d bytes", r.URL, len(r.Body), length)
	}
	if bodiless && len(r.Body) > 0 {
		t.Errorf("%s: a body of %d bytes after %s, status %d", r.URL, len(r.Body), method, r.StatusCode)
	}
}

// checkFailed fails the test if the error of r is not made as documented.
func checkFailed(t *testing.T, method string, r fetch.Result) {
	t.Helper()
	e, ok := r.Err.(*fetch.Error)
	if !ok {
		t.Errorf("%s: Err is a %T", r.URL, r.Err)
		return
	}
	if e.Method != method || e.Attempts != r.Attempts || strings.ContainsAny(e.URL, "?#@") {
		t.Errorf("%s: Error is of %s %s, attempt %d", r.URL, e.Method, e.URL, e.Attempts)
	}
	text := r.Err.Error()
	if !strings.HasPrefix(text, "fetch: "+method+" ") || strings.Count(text, "fetch: ") != 1 || strings.ContainsAny(text, "\r\n\x00") {
		t.Errorf("%s: the error reads %q", r.URL, text)
	}
	var status *fetch.StatusError
	if r.Body != nil && !errors.As(r.Err, &status) {
		t.Errorf("%s: an error and a body of %d bytes", r.URL, len(r.Body))
	}
}

// mustSucceed fails the test at once if a result is not a 2xx without error.
func mustSucceed(t *testing.T, results ...fetch.Result) {
	t.Helper()
	for _, r := range results {
		if !r.OK() {
			t.Fatalf("%s: status %d, error %v", r.URL, r.StatusCode, r.Err)
		}
	}
}

// echo is what go-httpbin says about the request that it got.
type echo struct {
	Method  string
	URL     string
	Args    url.Values
	Headers http.Header
	Data    string
	Form    url.Values
	JSON    any
	Gzipped bool
	Deflate bool `json:"deflated"`
	Cookies map[string]string
}

// decode returns the JSON body of r, which must be there.
func decode(t *testing.T, r fetch.Result) echo {
	t.Helper()
	var e echo
	if err := r.JSON(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// repeat returns n copies of url, each told apart by a query.
func repeat(url string, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s?i=%d", url, i)
	}
	return urls
}
