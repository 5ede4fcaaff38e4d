package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A script is the behaviour of a server: each request takes its next bytes.
type script struct {
	mu    sync.Mutex
	bytes []byte
	asked time.Duration // by Retry-After
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

func (s *script) ask(wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked += wait
}

var errScript = errors.New("out of script")

// serve answers one request as the script has it.
func (s *script) serve(req *http.Request) (*http.Response, error) {
	delay := func() error {
		return fetchtest.SleepCtx(req.Context(), time.Duration(s.next())*50*time.Millisecond)
	}
	resp := fetchtest.Respond(req, 200, strings.Repeat("body ", 20))
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
				"", path + "?again", "//b.example" + path, "http://c.example:81" + path, "https://a.example" + path, "ftp://a.example" + path, "http://a b/", "http://%zz/",
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
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, int64(s.next())), fetchtest.ReaderFunc(func([]byte) (int, error) {
				return 0, io.ErrUnexpectedEOF
			})))
		case 10:
			resp.Body = fetchtest.NewStalledBody(req.Context(), "ab")
		case 11:
			slow := resp.Body
			resp.Body = io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) {
				if err := delay(); err != nil {
					return 0, err
				}
				return slow.Read(p[:1])
			}))
		case 12:
			odd := []int{-1, 0, 1, 1 << 20}[s.next()%4]
			resp.Body = io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) {
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
			seconds := s.next()
			resp.Header.Set("Retry-After", fmt.Sprint(seconds))
			s.ask(time.Duration(seconds) * time.Second)
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
	f.Add([]byte("%01.00000000000000000000000000000000"), byte('W'))
	f.Add([]byte("000200\xae00CP0000000000000000000000000"), byte('r'))
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
	var counter fetchtest.InFlight
	var given, closed atomic.Int32
	const slots = 2
	client := fetchtest.NewClient(fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		leave := counter.Enter(req.URL.Host)
		resp, err := scripts[req.URL.Path].serve(req)
		if resp == nil || resp.Body == nil {
			leave()
			return resp, err
		}
		given.Add(1)
		var once sync.Once
		resp.Body = &fetchtest.HookedBody{ReadCloser: resp.Body, OnClose: func() {
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
	f := fetchtest.NewFetcher(t, opts...)
	if flags&0x80 != 0 {
		fetchtest.Collect(t, urls, f.Stream(t.Context(), slices.Values(urls)))
	} else {
		fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
	}
	// Every attempt ends by its timeout, and they run two at a time, or one. A redirect may ask to wait, and so
	// may a refusal, from which the pace of the host follows for all others.
	most := time.Duration(len(urls))*scriptTimeout + time.Second
	for _, s := range scripts {
		most += time.Duration(len(urls)) * s.asked
	}
	if took := time.Since(start); took > most {
		t.Errorf("took %v", took)
	}
	if counter.Most() > slots {
		t.Errorf("%d requests at once", counter.Most())
	}
	if given.Load() != closed.Load() {
		t.Errorf("%d bodies, %d closed", given.Load(), closed.Load())
	}
}
