package watching_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A diary notes the hooks of net/http/httptrace that are called, in their order.
type diary struct {
	mu    sync.Mutex
	notes []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// take returns the notes so far, and begins anew.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := d.notes
	d.notes = nil
	return notes
}

func (d *diary) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(address string) { d.note("GetConn") },
		GotConn: func(i httptrace.GotConnInfo) {
			d.note("GotConn reused %v, %v", i.Reused, i.Conn.RemoteAddr() != nil)
		},
		GotFirstResponseByte: func() { d.note("GotFirstResponseByte") },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			d.note("Got1xxResponse %d %s", code, h.Get("Link"))
			return nil
		},
		ConnectStart:      func(network, _ string) { d.note("ConnectStart %s", network) },
		ConnectDone:       func(network, _ string, err error) { d.note("ConnectDone %s %v", network, err) },
		TLSHandshakeStart: func() { d.note("TLSHandshakeStart") },
		TLSHandshakeDone:  func(s tls.ConnectionState, err error) { d.note("TLSHandshakeDone %s %v", s.NegotiatedProtocol, err) },
		WroteHeaderField: func(name string, values []string) {
			d.note("WroteHeaderField %s: %s", name, strings.Join(values, ", "))
		},
		WroteHeaders: func() { d.note("WroteHeaders") },
		WroteRequest: func(i httptrace.WroteRequestInfo) { d.note("WroteRequest %v", i.Err) },
	}
}

// traced has each request traced.
func (d *diary) traced() fetch.Option {
	return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			return next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), d.trace())))
		})
	})
}

func answerTraced(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/hints" {
		w.Header().Set("Link", "</style>")
		w.WriteHeader(http.StatusEarlyHints)
	}
	io.WriteString(w, "ok")
}

// The own client tells what net/http tells of the same requests, in the same order.
func TestTheOwnClientTellsTracesAsNetHTTPDoes(t *testing.T) {
	plain, _ := fetchtest.NewServer(t, answerTraced)
	secure, trust := fetchtest.NewSecureServer(t, answerTraced)
	http1 := trust.Clone()
	http1.NextProtos = []string{"http/1.1"}
	for name, test := range map[string]struct {
		base   string
		config *tls.Config
	}{
		"HTTP/1.1": {plain.URL, nil}, "HTTP/1.1 over TLS": {secure.URL, http1}, "HTTP/2": {secure.URL, trust},
	} {
		t.Run(name, func(t *testing.T) {
			injected := &http.Transport{TLSClientConfig: test.config.Clone(), ForceAttemptHTTP2: name == "HTTP/2"}
			t.Cleanup(injected.CloseIdleConnections)
			var ours, theirs diary
			own := fetchtest.NewFetcher(t, fetch.WithTLSConfig(test.config), ours.traced())
			other := fetchtest.NewFetcher(t, fetch.WithClient(&http.Client{Transport: injected}), theirs.traced())
			for _, path := range []string{"/", "/", "/hints"} {
				fetchtest.MustFetch(t, own, test.base+path)
				fetchtest.MustFetch(t, other, test.base+path)
				got, want := ours.take(), theirs.take()
				if name == "HTTP/2" { // which writes its head on another goroutine
					got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: the own client tells\n%s\nnet/http tells\n%s", path, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		})
	}
}
