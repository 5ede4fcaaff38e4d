package watching_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// wrapped counts the requests through a RoundTripper around another.
func wrapped(n *atomic.Int64) fetch.Option {
	return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			n.Add(1)
			// As middleware for tracing does: a clone, in a context of its own.
			type key struct{}
			return next.RoundTrip(req.Clone(context.WithValue(req.Context(), key{}, "span")))
		})
	})
}

func TestAWrappedClientKeepsThePool(t *testing.T) {
	const slots = 32
	barrier := make(chan struct{})
	var waiting atomic.Int32
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if waiting.Add(1) == slots { // all that can be are in flight at once
			close(barrier)
		}
		<-barrier
		io.WriteString(w, "ok")
	})
	var n atomic.Int64
	urls := fetchtest.Numbered(server.URL, 640)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), wrapped(&n)))
	if conns.Opened() != slots || n.Load() != int64(len(urls)) {
		t.Errorf("%d connections for %d slots, %d requests", conns.Opened(), slots, n.Load())
	}
	if !conns.WaitForNone() {
		t.Error("connections are left")
	}
}

func TestTransportsAreWrappedInTheirOrder(t *testing.T) {
	layer := func(name string) fetch.Option {
		return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context())
				req.Header.Set("X-Layers", req.Header.Get("X-Layers")+name)
				return next.RoundTrip(req)
			})
		})
	}
	show := func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Header.Get("X-Layers")) }
	server, _ := fetchtest.NewServer(t, show)
	for name, opts := range map[string][]fetch.Option{
		"own":              nil,
		"injected":         {fetch.WithClient(server.Client())},
		"guarded":          {fetch.WithPublicOnly(loopback)},
		"guarded injected": {fetch.WithPublicOnly(loopback), fetch.WithClient(&http.Client{Transport: &http.Transport{}})},
	} {
		r := fetchtest.GetOne(t, server.URL, append(opts, layer("inner"), layer("outer"))...)
		if string(r.Body) != "outerinner" {
			t.Errorf("%s: %q, %v", name, r.Body, r.Err)
		}
	}
}

func TestTheGuardStaysInside(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(http.ResponseWriter, *http.Request) {})
	var n atomic.Int64
	r := fetchtest.GetOne(t, server.URL, fetch.WithPublicOnly(), wrapped(&n))
	if !errors.Is(r.Err, fetch.ErrBlocked) || conns.Opened() != 0 || n.Load() != 1 {
		t.Errorf("%v, %d connections, %d requests", r.Err, conns.Opened(), n.Load())
	}
}

// A header that the RoundTripper changes against the rules is that of one request all the same.
func TestNoHeaderIsSharedWithAWrappedClient(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Header.Get("X-Last")) })
	urls := fetchtest.Numbered(server.URL, 100)
	var n atomic.Int64
	results := fetch.FetchAll(t.Context(), urls, fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			req.Header.Set("X-Last", req.Header.Get("X-Last")+fmt.Sprint(n.Add(1)%10))
			return next.RoundTrip(req)
		})
	}))
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		if len(r.Body) != 1 {
			t.Errorf("%s: %q", r.URL, r.Body)
		}
	}
}

var errBreaker = errors.New("circuit breaker is open")

func TestAnErrorOfAWrapIsItsOwn(t *testing.T) {
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(2), fetch.WithTransport(func(http.RoundTripper) http.RoundTripper {
		return fetchtest.RoundTripFunc(fetchtest.Failing(errBreaker))
	}))
	if !errors.Is(r.Err, errBreaker) || errors.Is(r.Err, fetch.ErrProtocol) || r.Attempts != 1 {
		t.Errorf("%v after %d attempts", r.Err, r.Attempts)
	}
}

func TestAJarKeepsThePool(t *testing.T) {
	const slots = 16
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/login" {
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "s"})
			http.Redirect(w, req, "/landed", http.StatusFound)
			return
		}
		io.WriteString(w, req.Header.Get("Cookie"))
	})
	jar, _ := cookiejar.New(nil)
	f := fetchtest.NewFetcher(t, fetch.WithJar(jar), fetch.WithConcurrency(slots))
	urls := []string{server.URL + "/login"}
	results := f.FetchAll(t.Context(), urls)
	fetchtest.MustAllBeFine(t, urls, results)
	urls = fetchtest.Numbered(server.URL, 500)
	results = append(results, f.FetchAll(t.Context(), urls)...)
	for _, r := range results {
		if string(r.Body) != "session=s" {
			t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
		}
	}
	if conns.Opened() > slots {
		t.Errorf("%d connections for %d slots", conns.Opened(), slots)
	}
	if len(jar.Cookies(&url.URL{Scheme: "http", Host: server.Listener.Addr().String()})) != 1 {
		t.Error("the jar is empty")
	}
}

func TestATLSConfigIsThatOfTheOwnClient(t *testing.T) {
	server, trust := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, req *http.Request) {
		name := "nobody"
		if certs := req.TLS.PeerCertificates; len(certs) > 0 {
			name = "client"
		}
		fmt.Fprint(w, req.Proto, " ", name)
	})
	server.TLS.ClientAuth = tls.RequestClientCert
	trust.NextProtos = nil
	withCertificate := trust.Clone()
	withCertificate.Certificates = []tls.Certificate{fetchtest.Certificates().Good}
	http1 := trust.Clone()
	http1.NextProtos = []string{"http/1.1"}
	for name, test := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"an authority":         {trust, "HTTP/2.0 nobody"},
		"a client certificate": {withCertificate, "HTTP/2.0 client"},
		"HTTP/1.1 only":        {http1, "HTTP/1.1 nobody"},
	} {
		option := fetch.WithTLSConfig(test.config)
		test.config.RootCAs = nil                        // that of the option is a clone
		for _, method := range []string{"GET", "POST"} { // POST goes over net/http with HTTP/1.1
			f := fetchtest.NewFetcher(t, option)
			r := f.Do(t.Context(), fetchtest.NewRequest(t, method, server.URL, nil))
			fetchtest.CheckResult(t, 0, server.URL, r)
			if string(r.Body) != test.want {
				t.Errorf("%s, %s: %q, %v; want %q", name, method, r.Body, r.Err, test.want)
			}
		}
	}
	if r := fetchtest.GetOne(t, server.URL, fetch.WithTLSConfig(nil)); !fetchtest.As[*tls.CertificateVerificationError](r.Err) {
		t.Errorf("without an authority: %v", r.Err)
	}
}

// A tunnel's handshakes are net/http's.
func TestATLSConfigHoldsWithinATunnel(t *testing.T) {
	server, trust := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Proto) })
	trust.NextProtos = nil
	http1 := trust.Clone()
	http1.NextProtos = []string{"http/1.1"}
	proxy := newTunnel(t)
	for config, want := range map[*tls.Config]string{trust: "HTTP/2.0", http1: "HTTP/1.1"} {
		before := proxy.tunnels.Load()
		r := fetchtest.GetOne(t, server.URL, fetch.WithTLSConfig(config), fetch.WithProxy(proxy.choose))
		if string(r.Body) != want || proxy.tunnels.Load() != before+1 {
			t.Errorf("%q, %v, %d tunnels; want %s", r.Body, r.Err, proxy.tunnels.Load()-before, want)
		}
	}
}

// A tunnel is a proxy that connects.
type tunnel struct {
	*httptest.Server
	tunnels atomic.Int64
}

func newTunnel(t *testing.T) *tunnel {
	p := &tunnel{}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *tunnel) serve(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		io.WriteString(w, "proxied "+req.URL.String())
		return
	}
	p.tunnels.Add(1)
	join(w, req.Host)
}

func (p *tunnel) choose(*http.Request) (*url.URL, error) { return url.Parse(p.URL) }

func TestAProxyIsChosenForEachRequest(t *testing.T) {
	proxy := newTunnel(t)
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "direct") })
	errProxy := errors.New("no proxy for this")
	var mu sync.Mutex
	asked := map[int]bool{} // by the Index that the context tells
	choose := func(req *http.Request) (*url.URL, error) {
		info, _ := fetch.InfoOf(req.Context())
		mu.Lock()
		asked[info.Index] = true
		mu.Unlock()
		switch req.URL.Path {
		case "/proxied":
			return proxy.choose(req)
		case "/error":
			return nil, errProxy
		}
		return nil, nil
	}
	urls := []string{server.URL + "/proxied", server.URL + "/direct", server.URL + "/error"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithProxy(choose), fetch.WithRetries(2))
	fetchtest.CheckResults(t, urls, results)
	if string(results[0].Body) != "proxied "+urls[0] || string(results[1].Body) != "direct" {
		t.Errorf("%q %v, %q %v", results[0].Body, results[0].Err, results[1].Body, results[1].Err)
	}
	if err := results[2].Err; !errors.Is(err, errProxy) || errors.Is(err, fetch.ErrProtocol) || results[2].Attempts != 1 {
		t.Errorf("%v after %d attempts", err, results[2].Attempts)
	}
	if len(asked) != 3 {
		t.Errorf("asked for %v", asked)
	}
}

// Code of the caller's runs in handshakes and dials, too: it stops its batch, or ends its URL.
func TestWhatBlowsUpInAHandshakeOrADial(t *testing.T) {
	secure, trust := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	plain, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	for name, blow := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		once := func() func() {
			var first atomic.Bool
			return func() {
				if first.CompareAndSwap(false, true) {
					blow()
				}
			}
		}
		inHandshake, inDial := once(), once()
		config := trust.Clone()
		config.NextProtos = []string{"http/1.1"}
		config.VerifyConnection = func(tls.ConnectionState) error { inHandshake(); return nil }
		dialHook := fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				return next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
					ConnectStart: func(string, string) { inDial() },
				})))
			})
		})
		for where, f := range map[string]*fetch.Fetcher{
			secure.URL: fetchtest.NewFetcher(t, fetch.WithTLSConfig(config)),
			plain.URL:  fetchtest.NewFetcher(t, dialHook),
		} {
			var r fetch.Result
			value, _ := fetchtest.Recovered(func() { r = f.FetchAll(t.Context(), []string{where})[0] })
			if panics := name == "panic"; panics && !strings.Contains(fmt.Sprint(value), "boom") || !panics && (value != nil || r.Err == nil) {
				t.Errorf("%s, %s: %.100v came out, %v", name, where, value, r.Err)
			}
			fetchtest.MustFetch(t, f, fetchtest.Numbered(where, 20)...)
		}
	}
}
