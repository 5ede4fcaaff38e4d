package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// FuzzLocation answers with a redirect to anywhere.
func FuzzLocation(f *testing.F) {
	for _, location := range []string{
		"", "/", "x", "?y", "#z", "//b.example", "//", "///", "http://", "http:///", "http:x", "https://a.example/", "http://a.example:80",
		"http://a.example.:080/", "HTTP://A.EXAMPLE", "http://u:p@a.example/", "http://u:p@b c/?q=@x", "ftp://a.example", "file:///etc/passwd",
		"javascript:x", "http://[::1", "http://[::1%25lo]/", "http://a.example:99999", "http://a.example:0", "/%zz", "/\x00", "/\x1b[31m", "/\r\nX: y",
		"http://İ.example", "http://\u212a.example", "/../../..", ":", "http://a.example\\@b.example", "http://.", "//::", "\t/x", " http://b.example",
		strings.Repeat("/..", 1000), "http://" + strings.Repeat("a", 5000),
	} {
		for _, status := range []int{301, 307} {
			f.Add(location, status)
		}
	}
	f.Fuzz(func(t *testing.T, location string, status int) {
		if status < 300 || status > 399 || strings.Contains(location, "canary") {
			t.Skip("no redirect, or a canary of its own")
		}
		for _, location := range []string{location, location + "?t=canary", location + "#canary", "http://canary:canary@" + location} {
			var log recorder
			req := newRequest(t, "GET", "http://a.example/dir/start", nil, "X-Api-Key", "canary")
			r := sendOne(t, req, fetch.WithMaxRedirects(3), over(log.over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/dir/start" && req.URL.RawQuery == "" {
					return respond(req, status, "", "Location", location), nil
				}
				return respond(req, 200, ""), nil
			})))
			if r.Err != nil {
				checkRedirectError(t, location, r.Err)
			}
			for i, s := range log.take() {
				u, err := url.Parse(s.url)
				if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || i > 3 {
					t.Errorf("request %d went to %q", i, s.url)
					continue
				}
				home := sameOrigin(t, "http://a.example", s.url) || sameOrigin(t, "https://a.example", s.url)
				if _, ok := s.header["X-Api-Key"]; ok && !home {
					t.Errorf("the header of the caller went to %q", s.url)
				}
			}
		}
	})
}

func checkRedirectError(t *testing.T, location string, err error) {
	t.Helper()
	if !errors.Is(err, fetch.ErrRedirect) {
		t.Errorf("error is %v", err)
	}
	text := err.Error()
	if strings.Contains(text, "canary") {
		t.Errorf("Location %q shows in %q", location, text)
	}
	if len(text) > 2000 {
		t.Errorf("an error text of %d bytes", len(text))
	}
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] >= 0x7f {
			t.Errorf("byte %#x in %q", text[i], text)
			return
		}
	}
}

// A script is the behaviour of a server: each request takes its next bytes.
type script struct {
	mu    sync.Mutex
	bytes []byte
}

func (s *script) next() byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return b
}

var errScript = errors.New("out of script")

// serve answers one request as the script has it.
func (s *script) serve(req *http.Request) (*http.Response, error) {
	delay := func() error {
		return sleepCtx(req.Context(), time.Duration(s.next())*50*time.Millisecond)
	}
	resp := respond(req, 200, strings.Repeat("body ", 20))
	resp.Header.Set("Connection", "keep-alive")
	for {
		switch op := s.next(); op % 16 {
		case 0, 1, 2:
			return resp, nil
		case 3:
			resp.StatusCode = 100 + int(s.next())*4 // 100 to 1120
		case 4:
			resp.StatusCode = int(s.next())
		case 5:
			resp.StatusCode = []int{301, 302, 303, 307, 308}[s.next()%5]
			path := req.URL.Path // by which the script of the next hop is found
			resp.Header.Set("Location", []string{
				"", path + "?again", "//b.example" + path, "http://c.example:81" + path, "https://a.example" + path, "ftp://a.example" + path, "http://a b/", "%zz",
			}[s.next()%8])
		case 6:
			if err := delay(); err != nil {
				return nil, err
			}
		case 7:
			return nil, errScript
		case 8:
			resp.ContentLength = []int64{-1, 0, 1, 99, 101, 1 << 20, 1 << 40, math.MaxInt64, math.MinInt64}[s.next()%9]
		case 9:
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, int64(s.next())), readerFunc(func([]byte) (int, error) {
				return 0, io.ErrUnexpectedEOF
			})))
		case 10:
			resp.Body = newStalledBody(req.Context(), "ab")
		case 11:
			slow := resp.Body
			resp.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if err := delay(); err != nil {
					return 0, err
				}
				return slow.Read(p[:1])
			}))
		case 12:
			odd := []int{-1, 0, 1, 1 << 20}[s.next()%4]
			resp.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if odd == 1 {
					return len(p), nil // without end
				}
				return odd, nil
			}))
		case 13:
			switch s.next() % 4 {
			case 0:
				return nil, nil
			case 1:
				resp.Body = nil
				return resp, nil
			case 2:
				resp.Header = http.Header{}
			case 3:
				resp.Request = nil
			}
		case 14:
			resp.Header.Set("X-Junk", "\x1b\x00\xff"+string(rune(s.next())))
			resp.Status = "200 \x1b[31m"
			resp.Header.Set("Retry-After", fmt.Sprint(s.next()))
		case 15:
			resp.Header.Set("Set-Cookie", "a="+string(rune(s.next())))
			resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/2.0", 2, 0
		}
	}
}

// FuzzServer lets a server do as a string of bytes says to a batch of six URLs.
func FuzzServer(f *testing.F) {
	f.Add([]byte{}, byte(0))
	for op := range byte(16) {
		f.Add([]byte{op, 1, op, 2, op, 3, op, 4, 0, op, 5, op, 6, op, 7, op, 8, 9, op, op, op}, op)
		f.Add([]byte{6, op, op, 5, op, op, 11, op, op, 8, op, 0, op, 13, op, 0, 3, op, op, 12, op, op, op}, op*16+3)
	}
	f.Add([]byte("\x05\x01\x01\x00\x05\x02\x02\x00\x05\x03\x03\x00\x05\x04\x04\x00\x05\x00\x05\x00"), byte(0xff))
	f.Fuzz(func(t *testing.T, program []byte, flags byte) {
		if len(program) > 200 {
			t.Skip("long ones are no more telling")
		}
		synctest.Test(t, func(t *testing.T) { runScript(t, program, flags) })
	})
}

const scriptTimeout = 3 * time.Second

func runScript(t *testing.T, program []byte, flags byte) {
	urls := []string{
		"http://a.example/0?secretsecret", "http://user:passpass@a.example/1", "http://b.example/2", "http://a.example/3", "https://a.example/4", "http://a.example/3",
	}
	// Each URL has a part of the program for itself, so that the order in which
	// requests come does not matter.
	scripts := map[string]*script{}
	for i := range urls {
		part := len(program) / len(urls)
		scripts[fmt.Sprintf("/%d", i)] = &script{bytes: program[i*part : (i+1)*part]}
	}
	var counter inFlight
	var given, closed atomic.Int32
	const slots = 2
	client := newClient(roundTripFunc(func(req *http.Request) (*http.Response, error) {
		leave := counter.enter(req.URL.Host)
		resp, err := scripts[req.URL.Path].serve(req)
		if resp == nil || resp.Body == nil {
			leave()
			return resp, err
		}
		given.Add(1)
		var once sync.Once
		resp.Body = &hookedBody{resp.Body, func() {
			once.Do(func() { closed.Add(1) })
			leave()
		}}
		return resp, err
	}))
	opts := []fetch.Option{fetch.WithClient(client), fetch.WithConcurrency(slots), fetch.WithTimeout(scriptTimeout), fetch.WithMaxRedirects(4), fetch.WithMaxBody(1000)}
	for bit, opt := range []fetch.Option{
		fetch.WithStatusErrors(), fetch.WithHostConcurrency(1), fetch.WithDedup(), fetch.WithInOrder(), fetch.WithLookahead(1),
		fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.Copy(io.Discard, body)
			return err
		}),
	} {
		if flags>>bit&1 != 0 {
			opts = append(opts, opt)
		}
	}
	start := time.Now()
	f := newFetcher(t, opts...)
	if flags&0x80 != 0 {
		collect(t, urls, f.Stream(t.Context(), slices.Values(urls)))
	} else {
		checkResults(t, urls, f.FetchAll(t.Context(), urls))
	}
	// Every attempt ends by its timeout, and they run two at a time, or one.
	if took := time.Since(start); took > time.Duration(len(urls))*scriptTimeout+time.Second {
		t.Errorf("took %v", took)
	}
	if counter.most() > slots {
		t.Errorf("%d requests at once", counter.most())
	}
	if given.Load() != closed.Load() {
		t.Errorf("%d bodies, %d closed", given.Load(), closed.Load())
	}
}
