package guard_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The hooks of an injected client must not lead around the guard: a CheckRedirect can
// change where a redirect leads, and a Jar only sees it.
func TestHooksOfTheClientAreGuardedToo(t *testing.T) {
	wire := newTripwire(t, "127.0.0.2:0")
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/next", http.StatusFound) })
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}, Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		req.URL.Host = "127.0.0.2:" + wire.port()
		return nil
	}}
	urls := []string{server.URL}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithPublicOnly(loopback))
	fetchtest.CheckResults(t, urls, results)
	checkIsBlocked(t, results[0], "127.0.0.2")
	wire.check(t)
}

func TestAnUnguardableClientIsAnOptionError(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialled") }
	old := func(string, string) (net.Conn, error) { return nil, errors.New("dialled") }
	protocols := map[string]func(string, *tls.Conn) http.RoundTripper{}
	for name, c := range map[string]struct {
		client *http.Client
		names  string
	}{
		"Proxy":            {fetchtest.NewClient(&http.Transport{Proxy: http.ProxyFromEnvironment}), "Proxy"},
		"DefaultTransport": {fetchtest.NewClient(http.DefaultTransport), "Proxy"},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"Dial": {fetchtest.NewClient(&http.Transport{Dial: old}), "Dial "},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"DialTLS":               {fetchtest.NewClient(&http.Transport{DialTLS: old}), "DialTLS "},
		"DialTLSContext":        {fetchtest.NewClient(&http.Transport{DialTLSContext: dial}), "DialTLSContext "},
		"TLSNextProto":          {fetchtest.NewClient(&http.Transport{TLSNextProto: protocols}), "TLSNextProto "},
		"another RoundTripper":  {fetchtest.NewClient(fetchtest.AnswerAfter(0)), "RoundTripFunc"},
		"a wrapped Transport":   {fetchtest.NewClient(struct{ *http.Transport }{&http.Transport{}}), "Transport"},
		"no Transport":          {&http.Client{}, "Transport"},
		"a nil Transport":       {fetchtest.NewClient((*http.Transport)(nil)), "Transport"},
		"http.DefaultClient":    {http.DefaultClient, "Transport"},
		"a file RoundTripper":   {fetchtest.NewClient(http.NewFileTransport(http.Dir("."))), "fileTransport"},
		"Proxy and DialContext": {fetchtest.NewClient(&http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial}), "Proxy"},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"a used one with a Dial": {fetchtest.NewClient(used(&http.Transport{Dial: old})), "Dial "},
	} {
		t.Run(name, func(t *testing.T) {
			// Neither order is a way around it.
			for _, opts := range [][]fetch.Option{
				{fetch.WithClient(c.client), fetch.WithPublicOnly()},
				{fetch.WithPublicOnly(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")), fetch.WithClient(c.client)},
			} {
				f, err := fetch.New(opts...)
				if f != nil || err == nil || !strings.Contains(err.Error(), c.names) || !strings.HasPrefix(err.Error(), "fetch: ") {
					t.Errorf("New gave %v, want one that names %s", err, c.names)
				}
				urls := []string{"http://127.0.0.1:1/"}
				results := fetch.FetchAll(t.Context(), urls, opts...)
				fetchtest.CheckResults(t, urls, results)
				if r := results[0]; r.Attempts != 0 || !strings.Contains(fmt.Sprint(r.Err), c.names) {
					t.Errorf("FetchAll: %v after %d attempts", r.Err, r.Attempts)
				}
			}
		})
	}
	// Taken back, the client does no harm.
	if _, err := fetch.New(fetch.WithClient(http.DefaultClient), fetch.WithPublicOnly(), fetch.WithClient(nil)); err != nil {
		t.Error(err)
	}
}

// used returns a transport that has tried a request.
func used(transport *http.Transport) *http.Transport {
	req, err := http.NewRequest("GET", "http://127.0.0.1:1/", nil)
	if err != nil {
		panic(err)
	}
	if resp, err := transport.RoundTrip(req); err == nil {
		resp.Body.Close()
	}
	return transport
}

// Functions that dial in the caller's transport, to a Unix socket or past every rule, are
// replaced, and transports registered for a scheme are not taken over.
func TestOtherWaysOutOfATransportAreNotTaken(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	target := "http://127.0.0.1:" + wire.port() + "/"
	var dialled, tripped atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", wire.listener.Addr().String())
	}}
	transport.RegisterProtocol("http", fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		tripped.Add(1)
		return fetchtest.Respond(req, 200, "inside"), nil
	}))
	results := fetch.FetchAll(t.Context(), []string{target}, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithPublicOnly())
	fetchtest.CheckResults(t, []string{target}, results)
	checkIsBlocked(t, results[0])
	if dialled.Load() != 0 || tripped.Load() != 0 {
		t.Errorf("its DialContext was called %d times, its protocol %d times", dialled.Load(), tripped.Load())
	}
	wire.check(t)
}

// A connection that is open already has not passed the guard.
func TestGuardUsesNoConnectionOfTheCallers(t *testing.T) {
	var requests atomic.Int32
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, "ok")
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 3, IdleConnTimeout: time.Minute, ProxyConnectHeader: http.Header{"X-A": {"a"}}}
	defer transport.CloseIdleConnections()
	client := fetchtest.NewClient(transport)
	urls := []string{server.URL}
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client)))
	before := fetchtest.Exported(transport)
	open, _, total := conns.Counts()

	f := fetchtest.NewFetcher(t, fetch.WithClient(client), fetch.WithPublicOnly())
	results := f.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	checkIsBlocked(t, results[0])
	if requests.Load() != 1 {
		t.Error("the blocked request was sent")
	}
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithPublicOnly(loopback)))
	f.Close()

	// And the caller's are none the worse for it.
	if after := fetchtest.Exported(transport); !reflect.DeepEqual(before, after) {
		t.Errorf("the transport was changed:\nbefore %v\nafter  %v", before, after)
	}
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client)))
	// The guarded one has left, as FetchAll ends what it opened.
	for range 200 {
		if now, _, all := conns.Counts(); now == open && all == total+1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	now, _, all := conns.Counts()
	t.Errorf("%d connections are open, %d were opened; it was %d and %d", now, all, open, total)
}

// net/http sets TLSNextProto itself when a Transport is first used. That is no reason to
// refuse it, and the guarded clone speaks HTTP/2 if the caller's does.
func TestATransportUsedOverHTTP2CanBeGuarded(t *testing.T) {
	server, trust := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Proto) })
	http2 := new(http.Protocols)
	http2.SetHTTP1(true)
	http2.SetHTTP2(true)
	// The config of one that has none is set by net/http, which then has to find the roots.
	bare := &http.Transport{}
	bare.Clone()
	bare.TLSClientConfig.RootCAs = trust.RootCAs
	for name, transport := range map[string]*http.Transport{
		"ForceAttemptHTTP2": {TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true},
		"Protocols":         {TLSClientConfig: trust.Clone(), Protocols: http2},
		"nothing set":       bare,
	} {
		t.Run(name, func(t *testing.T) {
			defer transport.CloseIdleConnections()
			trust := transport.TLSClientConfig
			if trust.RootCAs == nil {
				t.Fatal("no roots")
			}
			client := fetchtest.NewClient(transport)
			urls := []string{server.URL}
			get := func(opts ...fetch.Option) fetch.Result {
				results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithClient(client))...)
				fetchtest.CheckResults(t, urls, results)
				return results[0]
			}
			if r := get(); r.Proto != "HTTP/2.0" {
				t.Fatalf("the caller's own: %s, %v", r.Proto, r.Err)
			}
			if transport.TLSNextProto == nil {
				t.Fatal("net/http has not set TLSNextProto: this tests nothing")
			}
			if r := get(fetch.WithPublicOnly(loopback)); r.Proto != "HTTP/2.0" {
				t.Errorf("guarded: %s, %v", r.Proto, r.Err)
			}
			checkIsBlocked(t, get(fetch.WithPublicOnly()))
		})
	}
}

// net/http pools connections of HTTP/2 by name and port. Another name is dialled, and so
// checked, even if the certificate of an open connection covers it.
func TestHTTP2SharesNoConnectionBetweenNames(t *testing.T) {
	var requests atomic.Int32
	server, trust := fetchtest.NewSecureServer(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		if to := req.URL.Query().Get("to"); to != "" {
			http.Redirect(w, req, to, http.StatusFound)
		}
	})
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	wire := newTripwire(t, "127.0.0.2:"+port)
	answerNames(t, map[string][]string{"outside.test": {"127.0.0.1"}, "inside.test": {"127.0.0.2"}})
	trust.InsecureSkipVerify = true // the certificate has neither name
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	outside, inside := "https://outside.test:"+port+"/", "https://inside.test:"+port+"/"
	f := fetchtest.NewFetcher(t, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithPublicOnly(loopback))
	fetchtest.MustAllBeFine(t, []string{outside}, f.FetchAll(t.Context(), []string{outside}))
	urls := []string{inside, outside + "?to=" + inside}
	results := f.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		checkIsBlocked(t, r, "127.0.0.2")
	}
	if requests.Load() != 2 {
		t.Errorf("%d requests reached the server, want 2", requests.Load())
	}
	wire.check(t)
}

// The environment is read once, so that this needs a process of its own.
func TestTheGuardUsesNoProxyOfTheEnvironment(t *testing.T) {
	const behind = "FETCH_TEST_GUARD_BEHIND_PROXY"
	// An address of documentation, which nobody has. The proxy would answer for it.
	urls := []string{"http://192.0.2.1/", "http://192.0.2.1:8080/", "https://192.0.2.1/"}
	if os.Getenv(behind) != "" {
		// The proxy itself may be dialled, but not the host behind it.
		for _, r := range fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback)) {
			checkIsBlocked(t, r)
		}
		// The proxy is there: without the guard it is asked.
		fetchtest.MustAllBeFine(t, urls[:1], fetch.FetchAll(t.Context(), urls[:1]))
		return
	}
	var asked atomic.Int32
	proxy, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { asked.Add(1) })
	program, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), behind+"=1", "REQUEST_METHOD=")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		cmd.Env = append(cmd.Env, name+"="+proxy.URL)
	}
	cmd.Env = append(cmd.Env, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("behind the proxy: %v\n%s", err, out)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times, want once, without the guard", n)
	}
}
