package clients

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/batchhttp/fetch"
	"github.com/klauspost/compress/gzhttp"
)

// gzhttp around the Fetcher's own client undoes gzip and zstd itself: fetch leaves that alone.
func TestGzhttp(t *testing.T) {
	text := strings.Repeat("hello ", 1000)
	s := newServer(t, gzhttp.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	})))
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"gzip and zstd": func(next http.RoundTripper) http.RoundTripper {
			return gzhttp.Transport(next, gzhttp.TransportEnableZstd(true))
		},
		"gzip": func(next http.RoundTripper) http.RoundTripper { return gzhttp.Transport(next) },
	} {
		r := getOne(t, s.URL, fetch.WithTransport(wrap))
		mustBeFine(t, []fetch.Result{r}, text)
		if r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the header says %q of a text", name, r.Header.Get("Content-Encoding"))
		}
	}
	mustBeFine(t, []fetch.Result{getOne(t, s.URL)}, text)
}

// brotli is undone by a decoder, around which any RoundTripper may stand.
func TestBrotli(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		out := brotli.HTTPCompressor(w, r)
		defer out.Close()
		io.WriteString(out, "hello")
	})
	mustBeFine(t, []fetch.Result{getOne(t, s.URL, fetch.WithDecoder("br", func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }),
		fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper { return roundTrip(next.RoundTrip) }))}, "hello")
	if got := s.seen()[0].Header.Get("Accept-Encoding"); !strings.Contains(got, "br") {
		t.Errorf("asked for %q", got)
	}
}
