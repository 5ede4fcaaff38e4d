package compat

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

func TestEveryStatusIsAResult(t *testing.T) {
	bin := newBin(t)
	var urls []string
	for code := 100; code <= 599; code++ {
		urls = append(urls, fmt.Sprintf("%s/status/%d", bin.URL, code))
	}
	for i, r := range get(t, urls) {
		code := 100 + i
		if code == http.StatusSwitchingProtocols { // a client that asked for no upgrade must not accept one
			if !errors.Is(r.Err, fetch.ErrProtocol) || r.StatusCode != code {
				t.Errorf("status 101: status %d, error %v; want ErrProtocol", r.StatusCode, r.Err)
			}
			continue
		}
		want, hops := statusResult(code)
		if r.Err != nil || r.StatusCode != want || r.Redirects != hops {
			t.Errorf("status %d: status %d after %d redirects, error %v; want %d after %d", code, r.StatusCode, r.Redirects, r.Err, want, hops)
		}
	}
}

// statusResult says what /status/code ends with: informational heads are
// followed by a 200, and go-httpbin gives some 3xx a Location.
func statusResult(code int) (status, hops int) {
	switch code {
	case 301, 302, 303, 307:
		return 200, 2 // by way of /redirect/1
	case 308:
		return 200, 1
	}
	if code < 200 {
		return 200, 0
	}
	return code, 0
}

func TestStatusErrorsKeepHeaderAndBody(t *testing.T) {
	bin := newBin(t)
	results := get(t, []string{
		bin.URL + "/status/418",
		bin.URL + "/status/401",
		bin.URL + "/status/304",
		bin.URL + "/status/204",
		bin.URL + "/status/206",
	}, fetch.WithStatusErrors())

	for i, want := range []int{418, 401, 304, 0, 0} {
		var status *fetch.StatusError
		switch found := errors.As(results[i].Err, &status); {
		case found != (want != 0):
			t.Errorf("%s: error %v", results[i].URL, results[i].Err)
		case found && status.StatusCode != want:
			t.Errorf("%s: StatusError of %d", results[i].URL, status.StatusCode)
		}
	}
	if got := string(results[0].Body); got != "I'm a teapot!" {
		t.Errorf("body of the 418: %q", got)
	}
	if got := results[1].Header.Get("WWW-Authenticate"); got == "" {
		t.Error("the 401 lost its WWW-Authenticate")
	}
}

func TestRedirectsAreFollowedToTheEnd(t *testing.T) {
	bin := newBin(t)
	to := func(target, code string) string {
		return "/redirect-to?url=" + url.QueryEscape(target) + "&status_code=" + code
	}
	for _, test := range []struct {
		name, path string
		hops       int
		final      string
	}{
		{"one", "/redirect/1", 1, "/get"},
		{"as many as the default allows", "/redirect/10", 10, "/get"},
		{"relative", "/relative-redirect/4", 4, "/get"},
		{"absolute", "/absolute-redirect/4", 4, "/get"},
		{"absolute by query", "/redirect/4?absolute=true", 4, "/get"},
		{"into a page", "/links/5", 1, "/links/5/0"},
		{"301", to("/get?a=1", "301"), 1, "/get?a=1"},
		{"302", to("/get?a=1", "302"), 1, "/get?a=1"},
		{"303", to("/get?a=1", "303"), 1, "/get?a=1"},
		{"307", to("/get?a=1", "307"), 1, "/get?a=1"},
		{"308", to("/get?a=1", "308"), 1, "/get?a=1"},
		{"300 is a result", to("/get", "300"), 0, to("/get", "300")},
		{"304 is a result", to("/get", "304"), 0, to("/get", "304")},
		{"305 is a result", to("/get", "305"), 0, to("/get", "305")},
		{"to a full URL", to(bin.URL+"/get", "302"), 1, "/get"},
		{"to a URL without scheme", to(strings.TrimPrefix(bin.URL, "http:")+"/get", "302"), 1, "/get"},
		{"with dots in the path", to("/a/../anything/./x", "302"), 1, "/anything/x"},
		{"with escapes in the path", to("/anything/a%2Fb%20c", "302"), 1, "/anything/a%2Fb%20c"},
		{"from a HEAD-like empty body", "/redirect-to?url=/bytes/0", 1, "/bytes/0"},
		{"twice", to(to("/get", "301"), "308"), 2, "/get"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := getOne(t, bin.URL+test.path)
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			if r.Redirects != test.hops || r.FinalURL != bin.URL+test.final {
				t.Errorf("%d redirects to %s, want %d to %s", r.Redirects, r.FinalURL, test.hops, test.final)
			}
		})
	}
}

func TestRedirectsThatMustNotBeFollowedAreErrors(t *testing.T) {
	bin := newBin(t)
	for _, test := range []struct {
		name, path string
		hops       int
	}{
		{"one more than the default allows", "/redirect/11", 10},
		{"to another scheme", "/redirect-to?url=ftp://127.0.0.1/file", 0},
		{"to a file", "/redirect-to?url=file:///etc/hostname", 0},
		{"to no host", "/redirect-to?url=http:///get", 0},
		{"to a bad port", "/redirect-to?url=http://127.0.0.1:99999/", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := getOne(t, bin.URL+test.path)
			if !errors.Is(r.Err, fetch.ErrRedirect) {
				t.Fatalf("error %v, want ErrRedirect", r.Err)
			}
			if r.StatusCode != http.StatusFound || r.Header.Get("Location") == "" || r.Redirects != test.hops {
				t.Errorf("status %d, header %v, %d redirects; want the 302 after %d", r.StatusCode, r.Header, r.Redirects, test.hops)
			}
		})
	}
}

func TestWithNoRedirectsThe3xxIsTheResult(t *testing.T) {
	bin := newBin(t)
	r := getOne(t, bin.URL+"/redirect/3", fetch.WithMaxRedirects(0))
	if r.Err != nil || r.StatusCode != http.StatusFound || r.Header.Get("Location") != "/relative-redirect/2" || r.Redirects != 0 {
		t.Errorf("status %d, Location %q, error %v", r.StatusCode, r.Header.Get("Location"), r.Err)
	}
}

func TestHeadersDoNotFollowARedirectToAnotherOrigin(t *testing.T) {
	first, second := newBin(t), newBin(t)
	target, err := url.Parse(second.URL + "/headers")
	if err != nil {
		t.Fatal(err)
	}
	target.User = url.UserPassword("mallory", "planted") // what a server puts into Location is no credential of ours
	r := getOne(t, first.URL+"/redirect-to?url="+url.QueryEscape(target.String()),
		fetch.WithHeader("Authorization", "Bearer secret"),
		fetch.WithHeader("Cookie", "session=secret"),
		fetch.WithHeader("X-Api-Key", "secret"),
		fetch.WithHeader("Accept", "application/json"),
		fetch.WithHeader("Accept-Language", "eo"),
		fetch.WithHeader("User-Agent", "compat"),
	)
	mustSucceed(t, r)
	if r.FinalURL != second.URL+"/headers" {
		t.Errorf("FinalURL is %s", r.FinalURL)
	}
	got := decode(t, r).Headers
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "Referer"} {
		if got.Values(name) != nil {
			t.Errorf("%s went to the other origin: %q", name, got.Values(name))
		}
	}
	for name, want := range map[string]string{"Accept": "application/json", "Accept-Language": "eo", "User-Agent": "compat"} {
		if got.Get(name) != want {
			t.Errorf("%s is %q at the other origin, want %q", name, got.Get(name), want)
		}
	}
}

func TestRequestFuncSignsWithinAnOriginOnly(t *testing.T) {
	first, second := newBin(t), newBin(t)
	sign := fetch.WithRequestFunc(func(req *http.Request) error {
		req.Header.Set("Authorization", "Bearer token-of-"+req.URL.Path)
		return nil
	})
	results := get(t, []string{
		first.URL + "/bearer",
		first.URL + "/redirect-to?url=/bearer",
		first.URL + "/redirect-to?url=" + second.URL + "/bearer",
	}, sign)
	for i, want := range []int{200, 200, 401} {
		if results[i].Err != nil || results[i].StatusCode != want {
			t.Errorf("%s: status %d, error %v; want %d", results[i].URL, results[i].StatusCode, results[i].Err, want)
		}
	}
	if !strings.Contains(string(results[1].Body), "token-of-/bearer") {
		t.Errorf("the redirect was not signed for its own path: %s", results[1].Body)
	}
}

func TestABodyIsNotSentToAnotherOrigin(t *testing.T) {
	first, second := newBin(t), newBin(t)
	for _, code := range []string{"307", "308"} {
		target := first.URL + "/redirect-to?status_code=" + code + "&url=" + url.QueryEscape(second.URL+"/anything")
		r := doOne(t, newRequest(t, http.MethodPost, target, strings.NewReader("secret")))
		if !errors.Is(r.Err, fetch.ErrRedirect) || strconv.Itoa(r.StatusCode) != code {
			t.Errorf("%s: status %d, error %v; want ErrRedirect with the redirect's status", code, r.StatusCode, r.Err)
		}
	}
}

func TestABodyThatCannotBeReadAgainIsSentOnce(t *testing.T) {
	var posts atomic.Int32
	handler := newBinHandler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()

	// A reader of an unknown kind leaves GetBody nil.
	body := struct{ io.Reader }{strings.NewReader("once")}
	r := doOne(t, newRequest(t, http.MethodPost, server.URL+"/redirect-to?url=/anything&status_code=307", body))
	if r.StatusCode != http.StatusTemporaryRedirect || posts.Load() != 1 {
		t.Errorf("status %d after %d POSTs, want the 307 after one", r.StatusCode, posts.Load())
	}
}

func TestGzipIsDecoded(t *testing.T) {
	bin := newBin(t)
	r := getOne(t, bin.URL+"/gzip")
	if !decode(t, r).Gzipped {
		t.Errorf("body: %q", r.Body)
	}
	if r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Length") != "" {
		t.Errorf("the header describes the encoded body: %v", r.Header)
	}
}

func TestTheBodyLimitCountsDecodedBytes(t *testing.T) {
	bin := newBin(t)
	// 64 KiB of one letter come as some hundred bytes of gzip.
	target := bin.URL + "/gzip?" + strings.Repeat("a", 64<<10)
	results := get(t, []string{target}, fetch.WithMaxBody(1<<10))
	if !errors.Is(results[0].Err, fetch.ErrBodyTooLarge) || results[0].StatusCode != http.StatusOK {
		t.Errorf("status %d, error %v; want ErrBodyTooLarge", results[0].StatusCode, results[0].Err)
	}
	mustSucceed(t, getOne(t, target))
}

// A server that sends deflate although only gzip was asked for gets its body decoded all the
// same, unlike with net/http.
func TestDeflateIsDecoded(t *testing.T) {
	bin := newBin(t)
	r := getOne(t, bin.URL+"/deflate")
	mustSucceed(t, r)
	if got := r.Header.Get("Content-Encoding"); got != "" {
		t.Fatalf("Content-Encoding %q", got)
	}
	var e echo
	if err := r.JSON(&e); err != nil || !e.Deflate {
		t.Errorf("%v: %q", err, r.Body)
	}
}

func TestStreamsAreReadToTheLastChunk(t *testing.T) {
	bin := newBin(t)
	var urls []string
	var want [][]byte
	for seed, size := range []int{0, 1, 9, 10, 11, 1000, 10 << 10, 100_000, 1 << 20} {
		for _, chunk := range []int{7, 4096, 1 << 20} {
			if size/chunk > 2000 {
				continue // thousands of flushes test the server's patience, not the client
			}
			urls = append(urls, fmt.Sprintf("%s/stream-bytes/%d?seed=%d&chunk_size=%d", bin.URL, size, seed, chunk))
			want = append(want, randomBytes(size, int64(seed)))
		}
	}
	for i, r := range get(t, urls) {
		mustSucceed(t, r)
		if !bytes.Equal(r.Body, want[i]) {
			t.Errorf("%s: %d bytes, want others or %d", r.URL, len(r.Body), len(want[i]))
		}
	}
}

func TestStreamedLinesAllArrive(t *testing.T) {
	bin := newBin(t)
	for _, test := range []struct {
		path, separator string
		lines           int
	}{
		{"/stream/1", "\n", 1},
		{"/stream/100", "\n", 100},
		{"/jsonl?count=20&duration=100ms", "\n", 20},
		{"/sse?count=20&duration=100ms", "\n\n", 20}, // ends with a trailer
	} {
		r := getOne(t, bin.URL+test.path)
		mustSucceed(t, r)
		if got := strings.Count(string(r.Body), test.separator); got != test.lines {
			t.Errorf("%s: %d lines, want %d", test.path, got, test.lines)
		}
	}
}

func TestADripIsWaitedForUntilItsEnd(t *testing.T) {
	bin := newBin(t)
	results := get(t, []string{
		bin.URL + "/drip?duration=300ms&delay=100ms&numbytes=10",
		bin.URL + "/drip?duration=300ms&delay=0s&numbytes=100&code=503",
		bin.URL + "/drip?duration=0s&delay=0s&numbytes=100000",
	})
	for i, want := range []int{10, 100, 100_000} {
		r := results[i]
		if r.Err != nil || string(r.Body) != strings.Repeat("*", want) {
			t.Errorf("%s: %d bytes, error %v", r.URL, len(r.Body), r.Err)
		}
	}
	if results[1].StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", results[1].StatusCode)
	}
	if results[0].Took < 350*time.Millisecond {
		t.Errorf("Took is %v for a drip of 400 ms", results[0].Took)
	}
}

func TestSlowAnswersTimeOutAlone(t *testing.T) {
	bin := newBin(t)
	started := time.Now()
	results := get(t, []string{
		bin.URL + "/delay/9s",
		bin.URL + "/drip?duration=9s&delay=0s&numbytes=10",
		bin.URL + "/redirect-to?url=/delay/9s",
		bin.URL + "/get",
		bin.URL + "/delay/50ms",
	}, fetch.WithTimeout(time.Second))
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the batch took %v", took)
	}
	for i, wantStatus := range []int{0, 200, 302} {
		r := results[i]
		var timeout interface{ Timeout() bool }
		if !errors.Is(r.Err, fetch.ErrTimeout) || !errors.Is(r.Err, context.DeadlineExceeded) || !errors.As(r.Err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: error %v, want a timeout", r.URL, r.Err)
		}
		if r.StatusCode != wantStatus {
			t.Errorf("%s: status %d, want that of the last head, %d", r.URL, r.StatusCode, wantStatus)
		}
	}
	mustSucceed(t, results[3:]...)
}

func TestWaitingForASlotIsNotChargedToTheTimeout(t *testing.T) {
	bin := newBin(t)
	results := get(t, repeat(bin.URL+"/delay/250ms", 16),
		fetch.WithConcurrency(2), fetch.WithTimeout(1500*time.Millisecond)) // 2 s in all
	mustSucceed(t, results...)
	if last := slices.MaxFunc(results, func(a, b fetch.Result) int { return int(a.Waited - b.Waited) }); last.Waited < 1500*time.Millisecond {
		t.Errorf("the longest wait was %v: nothing queued for long enough to show it", last.Waited)
	}
}

func TestTheJarGetsCookiesOfRedirectsAndGivesThemBack(t *testing.T) {
	bin := newBin(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := bin.Client()
	client.Jar = jar

	r := getOne(t, bin.URL+"/cookies/set?flavor=ginger&size=xl", fetch.WithClient(client))
	if got := decode(t, r).Cookies; got["flavor"] != "ginger" || got["size"] != "xl" {
		t.Errorf("after the redirect the server saw %v", got)
	}
	r = getOne(t, bin.URL+"/cookies/delete?size=", fetch.WithClient(client))
	if got := decode(t, r).Cookies; len(got) != 1 || got["flavor"] != "ginger" {
		t.Errorf("after one was deleted the server saw %v", got)
	}
	r = getOne(t, bin.URL+"/cookies/set?lost=1")
	if got := decode(t, r).Cookies; len(got) != 0 {
		t.Errorf("without a jar the server saw %v", got)
	}
}

func TestAJarIsSharedByAWholeBatch(t *testing.T) {
	bin := newBin(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := bin.Client()
	client.Jar = jar
	var urls []string
	for i := range 50 {
		urls = append(urls, fmt.Sprintf("%s/cookies/set?name%d=value%[2]d", bin.URL, i))
	}
	for i, r := range get(t, urls, fetch.WithClient(client)) {
		if got := decode(t, r).Cookies[fmt.Sprintf("name%d", i)]; got != fmt.Sprintf("value%d", i) {
			t.Errorf("%s: the redirect came without its own cookie, but %q", r.URL, got)
		}
	}
	r := getOne(t, bin.URL+"/cookies", fetch.WithClient(client))
	if got := decode(t, r).Cookies; len(got) != 50 {
		t.Errorf("%d cookies in the jar, want 50", len(got))
	}
}

func TestBasicAuthByUserinfoOrHeader(t *testing.T) {
	bin := newBin(t)
	withUser := func(user *url.Userinfo, path string) string {
		u, err := url.Parse(bin.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		u.User = user
		return u.String()
	}
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hunter2"))
	for _, test := range []struct {
		name, url string
		opts      []fetch.Option
		status    int
	}{
		{"userinfo", withUser(url.UserPassword("user", "hunter2"), "/basic-auth/user/hunter2"), nil, 200},
		{"hidden", withUser(url.UserPassword("user", "hunter2"), "/hidden-basic-auth/user/hunter2"), nil, 200},
		{"escaped userinfo", withUser(url.UserPassword("us@er", "hunter2:/%?"), "/basic-auth/us@er/hunter2:%2F%25%3F"), nil, 200},
		{"on a redirect", withUser(url.UserPassword("user", "hunter2"), "/redirect-to?url=/basic-auth/user/hunter2"), nil, 200},
		{"wrong password", withUser(url.UserPassword("user", "hunter3"), "/basic-auth/user/hunter2"), nil, 401},
		{"no password", withUser(url.User("user"), "/basic-auth/user/hunter2"), nil, 401},
		{"none", bin.URL + "/basic-auth/user/hunter2", nil, 401},
		{"none, hidden", bin.URL + "/hidden-basic-auth/user/hunter2", nil, 404},
		{"header", bin.URL + "/basic-auth/user/hunter2", []fetch.Option{fetch.WithHeader("Authorization", header)}, 200},
		{"digest is not answered", withUser(url.UserPassword("user", "hunter2"), "/digest-auth/auth/user/hunter2"), nil, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := getOne(t, test.url, test.opts...)
			if r.Err != nil || r.StatusCode != test.status {
				t.Errorf("status %d, error %v; want %d", r.StatusCode, r.Err, test.status)
			}
		})
	}
}

func TestAPasswordIsNotInTheErrorText(t *testing.T) {
	bin := newBin(t)
	target := strings.Replace(bin.URL, "http://", "http://user:hunter2@", 1)
	results := get(t, []string{
		target + "/status/500",
		target + "/redirect-to?url=ftp://user:hunter2@127.0.0.1/",
		target + "/delay/9s",
	}, fetch.WithStatusErrors(), fetch.WithTimeout(500*time.Millisecond))
	for _, r := range results {
		if r.Err == nil || strings.Contains(r.Err.Error(), "hunter2") || strings.Contains(fmt.Sprintf("%+v", r.Err), "hunter2") {
			t.Errorf("error %v", r.Err)
		}
	}
	if err := fetch.JoinErrors(results); strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestRanges(t *testing.T) {
	bin := newBin(t)
	const alphabet = "abcdefghijklmnopqrstuvwxyz"
	target := bin.URL + "/range/26"
	for _, test := range []struct {
		name, ranges string
		status       int
		body         string
	}{
		{"whole", "", 200, alphabet},
		{"middle", "bytes=10-14", 206, "klmno"},
		{"to the end", "bytes=20-", 206, "uvwxyz"},
		{"the last", "bytes=-3", 206, "xyz"},
		{"beyond the end", "bytes=26-30", 416, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := newRequest(t, http.MethodGet, target, nil)
			if test.ranges != "" {
				req.Header.Set("Range", test.ranges)
			}
			r := doOne(t, req)
			if r.Err != nil || r.StatusCode != test.status {
				t.Fatalf("status %d, error %v; want %d", r.StatusCode, r.Err, test.status)
			}
			if test.body != "" && string(r.Body) != test.body {
				t.Errorf("body %q, want %q", r.Body, test.body)
			}
			if test.status != 200 && r.Header.Get("Content-Range") == "" {
				t.Errorf("no Content-Range in %v", r.Header)
			}
		})
	}
}

func TestSeveralRangesComeAsMultipart(t *testing.T) {
	bin := newBin(t)
	r := getOne(t, bin.URL+"/range/26", fetch.WithHeader("Range", "bytes=0-2,23-25"))
	if r.Err != nil || r.StatusCode != http.StatusPartialContent {
		t.Fatalf("status %d, error %v", r.StatusCode, r.Err)
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(bytes.NewReader(r.Body), params["boundary"])
	for _, want := range []string{"abc", "xyz"} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); string(got) != want {
			t.Errorf("part %q, error %v; want %q", got, err, want)
		}
	}
}

func TestAFileIsFetchedInParallelRanges(t *testing.T) {
	bin := newBin(t)
	const size, part = 1 << 20, 64 << 10
	var reqs []*http.Request
	for from := 0; from < size; from += part {
		reqs = append(reqs, newRequest(t, http.MethodGet, fmt.Sprintf("%s/range/%d", bin.URL, size), nil,
			"Range", fmt.Sprintf("bytes=%d-%d", from, from+part-1)))
	}
	var joined []byte
	for _, r := range do(t, reqs) {
		mustSucceed(t, r)
		joined = append(joined, r.Body...)
	}
	if whole := getOne(t, fmt.Sprintf("%s/range/%d", bin.URL, size)); !bytes.Equal(joined, whole.Body) {
		t.Error("the parts do not make up the whole")
	}
}

func TestUnstableAnswersAreResultsOfTheirOwn(t *testing.T) {
	bin := newBin(t)
	var urls []string
	for seed := range 200 {
		urls = append(urls, fmt.Sprintf("%s/unstable?failure_rate=0.4&seed=%d", bin.URL, seed))
	}
	failures := 0
	for seed, r := range get(t, urls) {
		want := http.StatusOK
		if rand.New(rand.NewSource(int64(seed))).Float64() < 0.4 { // as go-httpbin rolls it
			want = http.StatusInternalServerError
			failures++
		}
		if r.Err != nil || r.StatusCode != want {
			t.Errorf("%s: status %d, error %v; want %d", r.URL, r.StatusCode, r.Err, want)
		}
	}
	if failures == 0 || failures == len(urls) {
		t.Errorf("%d of %d failed: not unstable", failures, len(urls))
	}
}

func TestHeadHasTheHeaderAndNoBody(t *testing.T) {
	bin := newBin(t)
	var reqs []*http.Request
	for _, path := range []string{"/head", "/get", "/html", "/bytes/5000000", "/gzip", "/stream-bytes/1000",
		"/range/1000", "/status/404", "/redirect/3", "/drip?duration=10ms&delay=0s&numbytes=100", "/etag/abc"} {
		reqs = append(reqs, newRequest(t, http.MethodHead, bin.URL+path, nil))
	}
	results := do(t, reqs, fetch.WithMaxBody(1000)) // a limit on bodies does not concern an announced length
	for _, r := range results {
		if r.Err != nil || len(r.Body) != 0 {
			t.Errorf("%s: status %d, %d bytes, error %v", r.URL, r.StatusCode, len(r.Body), r.Err)
		}
	}
	if got := results[3].Header.Get("Content-Length"); got != "5000000" {
		t.Errorf("Content-Length %q, want that of the GET", got)
	}
	if r := results[8]; r.StatusCode != http.StatusOK || r.Redirects != 3 {
		t.Errorf("%s: status %d after %d redirects", r.URL, r.StatusCode, r.Redirects)
	}
}

func TestBodiesOfEveryMethodArriveAsSent(t *testing.T) {
	bin := newBin(t)
	const text, form, object = "text/plain", "application/x-www-form-urlencoded", "application/json"
	unsized := func(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} } // goes out in chunks
	tests := []struct {
		method, path string
		body         io.Reader
		contentType  string
		want         func(echo) bool
	}{
		{"POST", "/post", strings.NewReader("hello"), text, func(e echo) bool { return e.Data == "hello" }},
		{"POST", "/post", unsized("in chunks"), text, func(e echo) bool { return e.Data == "in chunks" }},
		{"POST", "/post", nil, text, func(e echo) bool { return e.Data == "" }},
		{"POST", "/post", strings.NewReader("a=1&a=2&b=3"), form, func(e echo) bool { return slices.Equal(e.Form["a"], []string{"1", "2"}) }},
		{"PUT", "/put", strings.NewReader(`{"n":1}`), object, func(e echo) bool { return fmt.Sprint(e.JSON) == "map[n:1]" }},
		{"PATCH", "/patch", bytes.NewReader([]byte("patch")), text, func(e echo) bool { return e.Data == "patch" }},
		{"DELETE", "/delete", strings.NewReader("a=1"), form, func(e echo) bool { return e.Form.Get("a") == "1" }},
		{"DELETE", "/delete", nil, text, func(e echo) bool { return e.Data == "" }},
		{"QUERY", "/anything", strings.NewReader("q"), text, func(e echo) bool { return e.Data == "q" }},
		{"GET", "/anything", strings.NewReader("a GET with a body"), text, func(e echo) bool { return e.Data == "a GET with a body" }},
	}
	var reqs []*http.Request
	for _, test := range tests {
		reqs = append(reqs, newRequest(t, test.method, bin.URL+test.path, test.body, "Content-Type", test.contentType))
	}
	for i, r := range do(t, reqs) {
		mustSucceed(t, r)
		if e := decode(t, r); e.Method != tests[i].method || !tests[i].want(e) {
			t.Errorf("%s %s: the server saw %+v", tests[i].method, tests[i].path, e)
		}
	}
}

func TestUploadsAreSentWhole(t *testing.T) {
	bin := newBin(t)
	var reqs []*http.Request
	for i := range 8 {
		reqs = append(reqs, newRequest(t, http.MethodPut, bin.URL+"/upload", bytes.NewReader(make([]byte, 1<<20+i))))
	}
	for i, r := range do(t, reqs, fetch.WithConcurrency(4)) {
		var answer struct {
			Received int `json:"bytes_received"`
		}
		if err := r.JSON(&answer); err != nil || answer.Received != 1<<20+i {
			t.Errorf("%d bytes arrived, error %v; want %d", answer.Received, err, 1<<20+i)
		}
	}
}

func TestConditionalRequestsAreAnsweredWithoutABody(t *testing.T) {
	bin := newBin(t)
	reqs := []*http.Request{
		newRequest(t, http.MethodGet, bin.URL+"/etag/abc", nil),
		newRequest(t, http.MethodGet, bin.URL+"/etag/abc", nil, "If-None-Match", `"abc"`),
		newRequest(t, http.MethodGet, bin.URL+"/etag/abc", nil, "If-Match", `"xyz"`),
		newRequest(t, http.MethodGet, bin.URL+"/cache", nil, "If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"),
	}
	results := do(t, reqs)
	for i, want := range []int{200, 304, 412, 304} {
		if r := results[i]; r.Err != nil || r.StatusCode != want {
			t.Errorf("%s %v: status %d, error %v; want %d", r.URL, reqs[i].Header, r.StatusCode, r.Err, want)
		}
	}
}

func TestLargeBodiesArriveIntact(t *testing.T) {
	bin := newBin(t)
	const size = 2 << 20
	var urls, want []string
	for seed := range 4 {
		urls = append(urls, fmt.Sprintf("%s/bytes/%d?seed=%d", bin.URL, size+seed, seed))
		want = append(want, sum(randomBytes(size+seed, int64(seed))))
	}
	for i, r := range get(t, urls) {
		mustSucceed(t, r)
		if sum(r.Body) != want[i] {
			t.Errorf("%s: another hash", r.URL)
		}
	}
}

func TestTheBodyLimitIsExact(t *testing.T) {
	bin := newBin(t)
	for _, path := range []string{"/bytes/2000000?seed=1", "/stream-bytes/2000000?seed=1", "/bytes/100?seed=1"} {
		size := len(getOne(t, bin.URL+path).Body)
		mustSucceed(t, getOne(t, bin.URL+path, fetch.WithMaxBody(int64(size))))
		if r := getOne(t, bin.URL+path, fetch.WithMaxBody(int64(size-1))); !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
			t.Errorf("%s with a limit one byte short: error %v", path, r.Err)
		}
	}
}

func TestBodyFuncSeesTheWholeBody(t *testing.T) {
	bin := newBin(t)
	paths := []string{"/bytes/3000000?seed=1", "/stream-bytes/300000?seed=2", "/gzip", "/status/404", "/redirect-to?url=/bytes/1000?seed=3"}
	var urls []string
	for _, path := range paths {
		urls = append(urls, bin.URL+path)
	}
	var mu sync.Mutex
	got := map[int]int{}
	results := get(t, urls, fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
		n, err := io.Copy(io.Discard, body)
		mu.Lock()
		defer mu.Unlock()
		got[r.Index] = int(n)
		return err
	}))
	for i, r := range results {
		if whole := getOne(t, urls[i]); r.Err != nil || r.Body != nil || got[i] != len(whole.Body) {
			t.Errorf("%s: f read %d of %d bytes, Body has %d, error %v", r.URL, got[i], len(whole.Body), len(r.Body), r.Err)
		}
	}
}

func TestJSONDecodesAnAnswerOrNamesTheURL(t *testing.T) {
	bin := newBin(t)
	results := get(t, []string{bin.URL + "/json", bin.URL + "/status/404", bin.URL + "/html"})

	var show struct {
		Slideshow struct {
			Title  string
			Slides []struct{ Title string }
		}
	}
	if err := results[0].JSON(&show); err != nil || show.Slideshow.Title == "" || len(show.Slideshow.Slides) == 0 {
		t.Errorf("decoded to %+v, error %v", show, err)
	}
	var status *fetch.StatusError
	if err := results[1].JSON(&show); !errors.As(err, &status) || status.StatusCode != 404 {
		t.Errorf("error of a 404: %v", err)
	}
	var syntax *json.SyntaxError
	if err := results[2].JSON(&show); !errors.As(err, &syntax) || !strings.Contains(err.Error(), bin.URL+"/html") {
		t.Errorf("error of a page: %v", err)
	}
}

func TestManyAtOnceKeepToTheirLimitsAndIndices(t *testing.T) {
	const hosts, perHost, hostLimit = 3, 600, 5
	var servers []*httptest.Server
	var most [hosts]atomic.Int32
	for i := range hosts {
		var inFlight atomic.Int32
		handler := newBinHandler()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := inFlight.Add(1)
			defer inFlight.Add(-1)
			for old := most[i].Load(); n > old && !most[i].CompareAndSwap(old, n); old = most[i].Load() {
			}
			handler.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		servers = append(servers, server)
	}
	var urls []string
	for i := range hosts * perHost {
		target := fmt.Sprintf("/anything/%d", i)
		if i%3 == 0 {
			target = "/redirect-to?url=" + target
		}
		urls = append(urls, servers[i/perHost].URL+target)
	}
	verify := func(t *testing.T, i int, r fetch.Result) {
		t.Helper()
		mustSucceed(t, r)
		if want := fmt.Sprintf("%s/anything/%d", servers[i/perHost].URL, i); decode(t, r).URL != want || r.FinalURL != want {
			t.Errorf("result %d is of %s, want %s", i, r.FinalURL, want)
		}
	}

	f, err := fetch.New(fetch.WithConcurrency(12), fetch.WithHostConcurrency(hostLimit))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	t.Run("FetchAll", func(t *testing.T) {
		for i, r := range f.FetchAll(t.Context(), urls) {
			check(t, i, http.MethodGet, urls[i], r)
			verify(t, i, r)
		}
	})
	t.Run("Stream", func(t *testing.T) {
		seen := map[int]bool{}
		for r := range f.Stream(t.Context(), slices.Values(urls)) {
			check(t, r.Index, http.MethodGet, urls[r.Index], r)
			verify(t, r.Index, r)
			seen[r.Index] = true
		}
		if len(seen) != len(urls) {
			t.Errorf("%d of %d results", len(seen), len(urls))
		}
	})
	t.Run("Stream in order", func(t *testing.T) {
		next := 0
		for r := range fetch.Stream(t.Context(), slices.Values(urls[:300]), fetch.WithInOrder(), fetch.WithHostConcurrency(hostLimit)) {
			check(t, next, http.MethodGet, urls[next], r)
			verify(t, next, r)
			next++
		}
		if next != 300 {
			t.Errorf("%d of 300 results", next)
		}
	})
	for i := range most {
		if n := most[i].Load(); n > hostLimit || n < 2 {
			t.Errorf("host %d had up to %d requests in flight, the limit is %d", i, n, hostLimit)
		}
	}
}

func TestACancelKeepsWhatIsDone(t *testing.T) {
	bin := newBin(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(500*time.Millisecond, func() { cancel(cause) })

	var urls []string
	for i := range 40 {
		urls = append(urls, bin.URL+[]string{"/get", "/delay/9s", "/drip?duration=9s&delay=0s&numbytes=9", "/redirect-to?url=/delay/9s"}[i%4])
	}
	started := time.Now()
	results := fetch.FetchAll(ctx, urls)
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(results) != len(urls) {
		t.Fatalf("%d results for %d URLs", len(results), len(urls))
	}
	for i, r := range results {
		check(t, i, http.MethodGet, urls[i], r)
		if i%4 == 0 {
			mustSucceed(t, r)
		} else if !errors.Is(r.Err, context.Canceled) || !errors.Is(r.Err, cause) || errors.Is(r.Err, fetch.ErrTimeout) {
			t.Errorf("%s: error %v", r.URL, r.Err)
		}
	}
}

// randomBytes are those that go-httpbin makes of a seed.
func randomBytes(n int, seed int64) []byte {
	rng := rand.New(rand.NewSource(seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Intn(256))
	}
	return b
}
