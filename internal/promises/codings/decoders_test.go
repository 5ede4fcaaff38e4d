package codings_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

var errOdd = errors.New("odd")

// failing is a decoder that does not open.
func failing(err error) func(io.Reader) (io.Reader, error) {
	return func(io.Reader) (io.Reader, error) { return nil, err }
}

// reading is a decoder whose reader is f, with r to read from.
func reading(f func(r io.Reader, p []byte) (int, error)) func(io.Reader) (io.Reader, error) {
	return func(r io.Reader) (io.Reader, error) {
		return fetchtest.ReaderFunc(func(p []byte) (int, error) { return f(r, p) }), nil
	}
}

// overCoded is a transport whose answers are in a coding.
func overCoded(coding, body string) fetch.Option {
	return fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, body, "Content-Encoding", coding)
		resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/2.0", 2, 0 // where other errors are those of a stream
		return resp, nil
	})
}

func TestErrorsOfDecodersAreErrorsOfTheirURL(t *testing.T) {
	for _, test := range []struct {
		name string
		open func(io.Reader) (io.Reader, error)
		errs []error
	}{
		{"it does not open", failing(errOdd), []error{fetch.ErrProtocol, errOdd}},
		{"it opens to nothing", failing(nil), []error{fetch.ErrProtocol}},
		{"it opens to the end", failing(io.EOF), []error{fetch.ErrProtocol}},
		{"it finds the end too early", failing(io.ErrUnexpectedEOF), truncated},
		{"it fails", reading(func(io.Reader, []byte) (int, error) { return 0, errOdd }), []error{fetch.ErrProtocol, errOdd}},
		{"it fails after some bytes", reading(func(_ io.Reader, p []byte) (int, error) { return copy(p, "hello"), errOdd }), []error{fetch.ErrProtocol, errOdd}},
		{"it says that time is over", reading(func(io.Reader, []byte) (int, error) { return 0, context.DeadlineExceeded }), []error{fetch.ErrProtocol}},
		{"it returns a negative count", reading(func(io.Reader, []byte) (int, error) { return -1, nil }), []error{fetch.ErrProtocol}},
		{"it returns a count too large", reading(func(_ io.Reader, p []byte) (int, error) { return len(p) + 1, nil }), []error{fetch.ErrProtocol}},
		{"it gets nowhere", reading(func(io.Reader, []byte) (int, error) { return 0, nil }), []error{fetch.ErrProtocol, io.ErrNoProgress}},
		{"it never ends", reading(func(_ io.Reader, p []byte) (int, error) { return len(p), nil }), tooLarge},
	} {
		for _, coding := range []string{"turn", "gzip, turn", "turn, turn"} {
			t.Run(test.name+"/"+coding, func(t *testing.T) {
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithDecoder("turn", test.open), overCoded(coding, "some bytes"), fetch.WithMaxBody(1000))
				for _, want := range test.errs {
					if coding == "gzip, turn" && want == fetch.ErrBodyTooLarge {
						want = fetch.ErrProtocol // it never was gzip
					}
					if !errors.Is(r.Err, want) {
						t.Errorf("error %v, want %v", r.Err, want)
					}
				}
			})
		}
	}
}

// What has become of the message decides, although the decoder has its own idea.
func TestAFailureOfTheMessageIsTheCause(t *testing.T) {
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"it hides the error": reading(func(r io.Reader, p []byte) (int, error) {
			n, err := r.Read(p)
			if err != nil {
				err = io.EOF
			}
			return n, err
		}),
		"it has another": reading(func(r io.Reader, p []byte) (int, error) {
			n, err := r.Read(p)
			if err != nil {
				err = errOdd
			}
			return n, err
		}),
		"it does not open": func(r io.Reader) (io.Reader, error) {
			_, err := io.ReadAll(r)
			if err != nil {
				return nil, errOdd
			}
			return strings.NewReader("read"), nil
		},
		"it stops at once": reading(func(io.Reader, []byte) (int, error) { return 0, io.EOF }),
	} {
		t.Run(name, func(t *testing.T) {
			opts := []fetch.Option{fetch.WithDecoder("turn", open), fetch.WithRetries(1), fetchtest.WithoutBackOff}
			rawURL, requests := answering(t, framings[0].cut("Content-Encoding: turn\r\n", "some bytes"))
			r := fetchtest.GetOne(t, rawURL, opts...)
			if !errors.Is(r.Err, fetch.ErrTruncated) || requests.Load() != 2 {
				t.Errorf("error %v after %d requests", r.Err, requests.Load())
			}
			synctest.Test(t, func(t *testing.T) {
				r := fetchtest.GetOne(t, "http://a.example/", append(opts, fetch.WithTimeout(time.Second), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 200, "", "Content-Encoding", "turn")
					resp.Body, resp.ContentLength = fetchtest.NewStalledBody(req.Context(), "some bytes"), -1
					return resp, nil
				}))...)
				if !errors.Is(r.Err, fetch.ErrTimeout) || r.Took != 2*time.Second {
					t.Errorf("error %v after %v", r.Err, r.Took)
				}
			})
		})
	}
}

func TestADecoderTakesThePlaceOfOurs(t *testing.T) {
	ours := func(text string) func(io.Reader) (io.Reader, error) {
		return func(io.Reader) (io.Reader, error) { return strings.NewReader(text), nil }
	}
	for _, coding := range []string{"gzip", "x-gzip"} {
		for _, given := range []string{"gzip", "X-GZIP"} {
			r := fetchtest.GetOne(t, "http://a.example/", fetch.WithDecoder(given, ours("first")), fetch.WithDecoder(given, ours("last")), overCoded(coding, "x"))
			if r.Err != nil || string(r.Body) != "last" {
				t.Errorf("%s for %s: %q, %v", given, coding, r.Body, r.Err)
			}
		}
	}
}

// A closing counts how often it is closed.
type closing struct {
	io.Reader
	closed *atomic.Int32
}

func (c closing) Close() error {
	c.closed.Add(1)
	return errOdd
}

func TestDecodersAreClosed(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		opts []fetch.Option
	}{
		"read":        {"some bytes", nil},
		"too large":   {strings.Repeat("some bytes", 100), []fetch.Option{fetch.WithMaxBody(100)}},
		"not read":    {"some bytes", []fetch.Option{fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return nil })}},
		"hardly read": {"some bytes", []fetch.Option{fetch.WithBodyFunc(readOne)}},
		"of no use":   {"some bytes", []fetch.Option{fetch.WithDecoder("gzip", failing(errOdd))}},
		"an error":    {"some bytes", []fetch.Option{fetch.WithStatusErrors()}},
		"read again":  {"some bytes", []fetch.Option{fetch.WithRetries(1), fetchtest.WithoutBackOff, fetch.WithRetryIf(func(fetch.Result) bool { return true })}},
		"an exit":     {"some bytes", []fetch.Option{fetch.WithBodyFunc(exiting)}},
		"the deadline": {"some bytes", []fetch.Option{fetch.WithBodyFunc(func(ctx context.Context, _ fetch.Result, r io.Reader) error {
			readOne(ctx, fetch.Result{}, r)
			return errOdd
		})}},
	} {
		t.Run(name, func(t *testing.T) {
			var opened, closed atomic.Int32
			r := fetchtest.GetOne(t, "http://a.example/", append(test.opts, overCoded("turn, turn", test.body), fetch.WithDecoder("turn", func(r io.Reader) (io.Reader, error) {
				opened.Add(1)
				return closing{r, &closed}, nil
			}))...)
			if opened.Load() != closed.Load() {
				t.Errorf("%d opened, %d closed: %v", opened.Load(), closed.Load(), r.Err)
			}
		})
	}
}

func readOne(_ context.Context, _ fetch.Result, r io.Reader) error {
	_, err := r.Read(make([]byte, 1))
	return err
}

func exiting(ctx context.Context, result fetch.Result, r io.Reader) error {
	readOne(ctx, result, r)
	runtime.Goexit()
	return nil
}

// The bodies of redirects and of attempts that are not the last are of no interest.
func TestOnlyTheLastBodyIsDecoded(t *testing.T) {
	var opened atomic.Int32
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(1), fetchtest.WithoutBackOff, fetch.WithDecoder("turn", func(r io.Reader) (io.Reader, error) {
		opened.Add(1)
		return r, nil
	}), fetchtest.Over(fetchtest.InTurn(
		func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, 503, "x", "Content-Encoding", "turn"), nil
		},
		func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, 302, "x", "Content-Encoding", "turn", "Location", "/next"), nil
		},
		func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, 200, "x", "Content-Encoding", "turn"), nil
		},
	)))
	_ = r
	if opened.Load() > 1 {
		t.Errorf("%d bodies were decoded", opened.Load())
	}
}

// A decoder may read on a goroutine of its own, ahead of its reader, as that of zstd does. Its
// Close waits for the goroutine.
func TestADecoderMayReadAhead(t *testing.T) {
	ahead := func(r io.Reader) (io.Reader, error) {
		out, in := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := io.Copy(in, r)
			in.CloseWithError(err)
			r.Read(make([]byte, 1)) // once more than it should
		}()
		return closeFunc{out, func() { out.Close(); <-done }}, nil
	}
	body := strings.Repeat(text, 10_000)
	for _, coding := range []string{"turn", "turn, gzip", "gzip, turn", "turn, gzip, turn, gzip"} {
		sent := body
		for _, c := range strings.Split(coding, ", ") {
			if c == "gzip" {
				sent = zipped(sent)
			}
		}
		for _, cut := range []bool{false, true} {
			reply := chunked("Content-Encoding: "+coding+"\r\n", sent)
			if !cut {
				reply += "0\r\n\r\n"
			}
			rawURL, _ := answering(t, reply)
			for _, way := range ways {
				r, got := way.fetch(t, rawURL, fetch.WithDecoder("turn", ahead))
				if cut != errors.Is(r.Err, fetch.ErrTruncated) || !cut && (r.Err != nil || got != body) {
					t.Errorf("%s, %s, cut %v: %d bytes, %v", coding, way.name, cut, len(got), r.Err)
				}
			}
		}
		// It is left before its end, and the server says no more.
		rawURL := fetchtest.Listen(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, chunked("Content-Encoding: "+coding+"\r\n", sent))
			fetchtest.UntilClosed(conn)
		})
		start := time.Now()
		r := fetchtest.GetOne(t, rawURL, fetch.WithDecoder("turn", ahead), fetch.WithBodyFunc(readOne))
		if r.Err != nil || time.Since(start) > 10*time.Second {
			t.Errorf("%s, left early: %v after %v", coding, r.Err, time.Since(start))
		}
	}
}

type closeFunc struct {
	io.Reader
	close func()
}

func (c closeFunc) Close() error {
	c.close()
	return nil
}

// Code of a decoder is the caller's: a panic comes out there, and Goexit is an error of the URL.
func TestPanicsOfDecoders(t *testing.T) {
	boom := errors.New("boom")
	places := map[string]func(explode func()) func(io.Reader) (io.Reader, error){
		"open": func(explode func()) func(io.Reader) (io.Reader, error) {
			return func(io.Reader) (io.Reader, error) { explode(); return nil, nil }
		},
		"Read": func(explode func()) func(io.Reader) (io.Reader, error) {
			return reading(func(io.Reader, []byte) (int, error) { explode(); return 0, io.EOF })
		},
		"Close": func(explode func()) func(io.Reader) (io.Reader, error) {
			return func(r io.Reader) (io.Reader, error) { return closeFunc{r, explode}, nil }
		},
	}
	for name, place := range places {
		for _, coding := range []string{"turn", "turn, gzip", "deflate, turn", "turn, turn"} {
			t.Run(name+"/"+coding, func(t *testing.T) {
				body := "some bytes"
				if strings.HasSuffix(coding, "gzip") {
					body = zipped(body)
				}
				var closed atomic.Int32
				urls := []string{"http://a.example/1", "http://bad.example/", "http://a.example/2"}
				over := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Host != "bad.example" {
						return fetchtest.Respond(req, 200, "good"), nil
					}
					resp := fetchtest.Respond(req, 200, body, "Content-Encoding", coding)
					resp.Body = &fetchtest.HookedBody{ReadCloser: resp.Body, OnClose: func() { closed.Add(1) }}
					return resp, nil
				})
				t.Run("panic", func(t *testing.T) {
					defer func() {
						if err, ok := recover().(error); !ok || !errors.Is(err, boom) || !strings.Contains(err.Error(), "TestPanicsOfDecoders") {
							t.Errorf("panicked with %.300v", err)
						}
						if closed.Load() == 0 {
							t.Error("the body is open")
						}
					}()
					fetch.FetchAll(t.Context(), urls, over, fetch.WithDecoder("turn", place(func() { panic(boom) })))
					t.Error("no panic")
				})
				t.Run("Goexit", func(t *testing.T) {
					closed.Store(0)
					results := fetch.FetchAll(t.Context(), urls, over, fetch.WithDecoder("turn", place(runtime.Goexit)))
					fetchtest.CheckResults(t, urls, results)
					if results[0].Err != nil || results[1].Err == nil || results[2].Err != nil {
						t.Errorf("errors %v", fetch.JoinErrors(results))
					}
					if closed.Load() == 0 {
						t.Error("the body is open")
					}
				})
			})
		}
	}
}

// The own client's gzip and a caller's are one and the same to a server.
func TestADecoderOfTheStandardLibrary(t *testing.T) {
	rawURL, _ := answering(t, framings[0].send("Content-Encoding: gzip\r\n", zipped(text)+"\n \n"))
	for _, way := range ways {
		r, body := way.fetch(t, rawURL, fetch.WithDecoder("gzip", func(r io.Reader) (io.Reader, error) {
			gz, err := gzip.NewReader(r)
			if err == nil {
				gz.Multistream(false)
			}
			return gz, err
		}))
		if r.Err != nil || body != text {
			t.Errorf("%s: %q, %v", way.name, body, r.Err)
		}
	}
}
