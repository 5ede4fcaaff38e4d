package compat

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/batchhttp/fetch"
	"github.com/klauspost/compress/zstd"
)

// withBrotli and withZstd are what the comment of WithDecoder has.
func withBrotli() fetch.Option {
	return fetch.WithDecoder("br", func(r io.Reader) (io.Reader, error) {
		return brotli.NewReader(r), nil
	})
}

func withZstd() fetch.Option {
	return fetch.WithDecoder("zstd", func(r io.Reader) (io.Reader, error) {
		d, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	})
}

// coders are codings as their own libraries write them.
var coders = map[string]func(io.Writer) io.WriteCloser{
	"br":   func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
	"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"zstd": func(w io.Writer) io.WriteCloser {
		e, err := zstd.NewWriter(w)
		if err != nil {
			panic(err)
		}
		return e
	},
}

func coded(t *testing.T, body []byte, codings ...string) []byte {
	t.Helper()
	for _, coding := range codings {
		var b bytes.Buffer
		w := coders[coding](&b)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body = b.Bytes()
	}
	return body
}

// A server of the real world takes the coding that it likes best of those asked for.
func TestBrotliAndZstdAreAskedForAndDecoded(t *testing.T) {
	text := []byte(strings.Repeat("a text for which a coding pays, ", 20_000))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for _, coding := range []string{"br", "zstd", "gzip"} {
			if strings.Contains(req.Header.Get("Accept-Encoding"), coding) {
				w.Header().Set("Content-Encoding", coding)
				w.Header().Set("X-Coding", coding)
				w.Write(coded(t, text, coding))
				return
			}
		}
		w.WriteHeader(http.StatusNotAcceptable)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	client := fetch.WithClient(server.Client())
	for _, test := range []struct {
		opts []fetch.Option
		want string
	}{
		{nil, "gzip"},
		{[]fetch.Option{withZstd()}, "zstd"},
		{[]fetch.Option{withBrotli()}, "br"},
		{[]fetch.Option{withZstd(), withBrotli()}, "br"},
	} {
		opts := append(test.opts, client)
		for _, r := range []fetch.Result{getOne(t, server.URL, opts...), doOne(t, newRequest(t, "GET", server.URL, nil), opts...)} {
			mustSucceed(t, r)
			if r.Header.Get("X-Coding") != test.want || r.Header.Get("Content-Encoding") != "" || !bytes.Equal(r.Body, text) {
				t.Errorf("%s over %s: %d bytes, header %v", test.want, r.Proto, len(r.Body), r.Header)
			}
		}
	}
}

func TestBrotliAndZstdInOtherCodings(t *testing.T) {
	text := []byte(strings.Repeat("a text for which a coding pays, ", 20_000))
	for _, codings := range [][]string{{"br"}, {"zstd"}, {"br", "gzip"}, {"gzip", "zstd"}, {"zstd", "br", "gzip"}} {
		body := coded(t, text, codings...)
		name := strings.Join(codings, ", ")
		sent := body
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Encoding", name)
			w.Write(sent)
		}))
		r := getOne(t, server.URL, withBrotli(), withZstd())
		mustSucceed(t, r)
		if !bytes.Equal(r.Body, text) || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d bytes, header %v", name, len(r.Body), r.Header)
		}
		// As it was sent, which the header says.
		last := codings[len(codings)-1]
		if r := getOne(t, server.URL); last != "gzip" && (!bytes.Equal(r.Body, body) || r.Header.Get("Content-Encoding") != name) {
			t.Errorf("%s without decoders: %d bytes, header %v", name, len(r.Body), r.Header)
		}
		sent = body[:len(body)/2]
		if r := getOne(t, server.URL, withBrotli(), withZstd()); !errors.Is(r.Err, fetch.ErrTruncated) {
			t.Errorf("%s, cut: %v", name, r.Err)
		}
		sent = []byte("this is in no coding")
		if r := getOne(t, server.URL, withBrotli(), withZstd()); !errors.Is(r.Err, fetch.ErrProtocol) && !errors.Is(r.Err, fetch.ErrTruncated) {
			t.Errorf("%s, which it is not: %v", name, r.Err)
		}
		server.Close()
	}
}

// A small body that becomes large is cut off there.
func TestTheLimitHoldsForDecodersOfOthers(t *testing.T) {
	for _, codings := range [][]string{{"br"}, {"zstd"}, {"br", "br"}, {"zstd", "gzip"}} {
		bomb := coded(t, make([]byte, 64<<20), codings...)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Encoding", strings.Join(codings, ", "))
			w.Write(bomb)
		}))
		if r := getOne(t, server.URL, withBrotli(), withZstd(), fetch.WithMaxBody(1<<20)); !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
			t.Errorf("%v: %d bytes, %v", codings, len(r.Body), r.Err)
		}
		server.Close()
	}
}

// A decoder that reads ahead must not keep a connection, or a goroutine, when the body is left.
func TestABodyInZstdMayBeLeft(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Encoding", "zstd")
		e, _ := zstd.NewWriter(w)
		for i := 0; req.Context().Err() == nil && i < 1<<20; i++ {
			e.Write([]byte(strings.Repeat("a text without end, ", 1000)))
			e.Flush()
			http.NewResponseController(w).Flush()
		}
	}))
	defer server.Close()
	r := getOne(t, server.URL, withZstd(), fetch.WithMaxBody(100_000))
	if !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
		t.Errorf("%d bytes, %v", len(r.Body), r.Err)
	}
}
