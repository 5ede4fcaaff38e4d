package fetch_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

// The guard through the API. What decides is tested in internal/netguard: which addresses
// are public, and that the hook of the dialer fails closed. Here the question is whether
// each connection that the library makes passes it, and what comes of the refusal.
//
// Not tested, because it cannot be, or is not promised:
//   - net.Dialer ignores its Control when it has a ControlContext: the guard is a
//     ControlContext, and no dialer of the caller's is ever used.
//   - A name is looked up before its address is refused, and that query leaves.
//   - Programs that the caller starts, and clients of other libraries, look names up again.

var loopback = netip.MustParsePrefix("127.0.0.1/32")

// checkIsBlocked checks the error of a URL that the guard refused, and that it tells
// nothing of the address but what the URL has itself.
func checkIsBlocked(t testing.TB, r fetch.Result, hidden ...string) {
	t.Helper()
	if !errors.Is(r.Err, fetch.ErrBlocked) || r.Attempts != 1 || r.History != nil {
		t.Errorf("%s: %v after %d attempts, want ErrBlocked after one", r.URL, r.Err, r.Attempts)
		return
	}
	if errors.Is(r.Err, fetch.ErrTimeout) || errors.Is(r.Err, fetch.ErrProtocol) {
		t.Errorf("%s: %v counts as something else as well", r.URL, r.Err)
	}
	for _, text := range []string{r.Err.Error(), fetch.JoinErrors([]fetch.Result{r}).Error()} {
		for _, address := range hidden {
			if strings.Contains(text, address) {
				t.Errorf("%s: the error shows %s: %s", r.URL, address, text)
			}
		}
	}
}

// A tripwire is a listener that nothing is to connect to.
type tripwire struct {
	listener net.Listener
}

func newTripwire(t testing.TB, address string) *tripwire {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("cannot listen:", err)
	}
	t.Cleanup(func() { l.Close() })
	return &tripwire{listener: l}
}

func (w *tripwire) port() string {
	_, port, _ := net.SplitHostPort(w.listener.Addr().String())
	return port
}

// check fails the test when something has connected. Connections come out in their
// order, so that its own must be the first.
func (w *tripwire) check(t testing.TB) {
	t.Helper()
	own, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := w.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		t.Errorf("%v had connected to %v", first.RemoteAddr(), w.listener.Addr())
	}
}

func TestGuardBlocksWhateverLeadsToAnAddressThatIsNotPublic(t *testing.T) {
	names := answerNames(t, map[string][]string{
		"private.test":   {"10.1.2.3"},
		"loopback.test":  {"127.0.0.1"},
		"mapped.test":    {"::ffff:127.0.0.1"},
		"six.test":       {"::1"},
		"nat64.test":     {"64:ff9b::7f00:1"},
		"metadata.test":  {"169.254.169.254"},
		"several.test":   {"10.1.2.3", "127.0.0.1", "::1", "fd00::1"},
		"localhost.test": {"127.0.0.1", "::1"},
		// Resolvers of the C library take these for numbers; that of Go asks for them, so answer.
		"127.1": {"127.0.0.1"}, "0x7f.1": {"127.0.0.1"}, "0177.0.0.1": {"127.0.0.1"}, "2130706433": {"127.0.0.1"},
	})
	wire := newTripwire(t, "127.0.0.1:0")
	port := ":" + wire.port()
	f := newFetcher(t, fetch.WithPublicOnly(), fetch.WithRetries(3), fetch.WithTimeout(20*time.Second))
	for _, host := range []string{
		"127.0.0.1", "127.0.0.2", "10.0.0.1", "192.168.0.1", "100.100.100.200", "169.254.169.254", "192.0.0.192", "0.0.0.0",
		"[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[fe80::1%25lo]", "[::1%25lo]", "[fd00:ec2::254]", "[2002:7f00:1::]", "[2001::1]",
		"localhost", "LOCALHOST", "private.test", "PRIVATE.test.", "loopback.test", "mapped.test", "six.test", "nat64.test",
		"metadata.test", "several.test", "localhost.test",
		"user:secret99@127.0.0.1", "8.8.8.8@127.0.0.1", "8.8.8.8:80@127.0.0.1",
	} {
		for _, scheme := range []string{"http", "https"} {
			rawURL := scheme + "://" + host + port + "/"
			results := f.FetchAll(t.Context(), []string{rawURL})
			checkResults(t, []string{rawURL}, results)
			if strings.HasSuffix(strings.TrimSuffix(strings.ToLower(host), "."), ".test") {
				checkIsBlocked(t, results[0], "10.1.2.3", "127.0.0.1", "::1", "7f00", "169.254", "fd00")
			} else {
				checkIsBlocked(t, results[0])
			}
		}
	}
	// What these spellings are depends on the resolver, and on who parses them: an address
	// that is blocked, a name, or no URL. None must get through.
	for _, host := range []string{
		"127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.0.0.1.", "127.0.0.1..",
		"127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "127%2e0%2e0%2e1", "%31%32%37.0.0.1", "[::ffff:127.0.0.1", "[127.0.0.1]", "0", "localhost.", "ⓛocalhost",
	} {
		rawURL := "http://" + host + port + "/"
		results := f.FetchAll(t.Context(), []string{rawURL})
		checkResults(t, []string{rawURL}, results)
		if results[0].Err == nil {
			t.Errorf("%s: reached", rawURL)
		}
	}
	wire.check(t)
	if names.asked.Load() == 0 {
		t.Error("the names were not looked up in this test")
	}
}

func TestGuardLeavesOtherURLsAlone(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	urls := []string{server.URL, "http://127.0.0.2:1/", server.URL + "/2", "http://10.0.0.1/", server.URL + "/3"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback), fetch.WithMaxHostFailures(1))
	checkResults(t, urls, results)
	for i, r := range results {
		if i%2 == 1 {
			checkIsBlocked(t, r)
		} else if !r.OK() {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
	}
}

func TestBlockedIsNeverRetried(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	target := "http://127.0.0.1:" + wire.port() + "/"
	asked := 0
	for name, opt := range map[string]fetch.Option{
		"by default":       fetch.WithRetries(5),
		"by WithRetryIf":   fetch.WithRetryIf(func(fetch.Result) bool { asked++; return true }),
		"with status errs": fetch.WithStatusErrors(),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFetcher(t, fetch.WithRetries(5), fetch.WithPublicOnly(), opt)
			results := f.FetchAll(t.Context(), []string{target})
			checkResults(t, []string{target}, results)
			checkIsBlocked(t, results[0])
			checkIsBlocked(t, f.DoAll(t.Context(), []*http.Request{newRequest(t, "PUT", target, strings.NewReader("data"))})[0])
		})
	}
	if asked != 0 {
		t.Errorf("WithRetryIf was asked %d times about what it cannot decide", asked)
	}
	wire.check(t)
}

func TestGuardBlocksRedirects(t *testing.T) {
	wire := newTripwire(t, "127.0.0.2:0")
	answerNames(t, map[string][]string{"inside.test": {"127.0.0.2"}})
	var hops atomic.Int32
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		hops.Add(1)
		w.Header().Set("Location", req.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	_, serverPort, _ := net.SplitHostPort(server.Listener.Addr().String())
	f := newFetcher(t, fetch.WithPublicOnly(loopback), fetch.WithRetries(3), fetch.WithRetryIf(func(fetch.Result) bool { return true }))
	for _, to := range []string{
		"http://127.0.0.2:" + wire.port() + "/",
		"//127.0.0.2:" + wire.port() + "/",
		"https://127.0.0.2:" + wire.port() + "/",
		"http://inside.test:" + wire.port() + "/",
		"http://[::ffff:127.0.0.2]:" + wire.port() + "/",
		"http://127.0.0.1@127.0.0.2:" + wire.port() + "/",
		"http://127.0.0.2:" + serverPort + "/", // the same port as the one allowed
		server.URL + "/?to=http://127.0.0.2:" + wire.port() + "/",
	} {
		hops.Store(0)
		rawURL := server.URL + "/?to=" + to
		results := f.FetchAll(t.Context(), []string{rawURL})
		checkResults(t, []string{rawURL}, results)
		r := results[0]
		checkIsBlocked(t, r, "127.0.0.2")
		if r.StatusCode != 302 || !strings.HasPrefix(r.FinalURL, server.URL) || int(hops.Load()) != r.Redirects {
			t.Errorf("%s: status %d of %s after %d redirects and %d requests", to, r.StatusCode, r.FinalURL, r.Redirects, hops.Load())
		}
	}
	wire.check(t)
}

// The name changes between two dials, but not for a connection that is open already.
func TestGuardChecksANameAtEachDial(t *testing.T) {
	names := answerNames(t, map[string][]string{"rebound.test": {"127.0.0.1"}})
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	wire := newTripwire(t, "127.0.0.2:"+port)
	f := newFetcher(t, fetch.WithPublicOnly(loopback))
	urls := []string{"http://rebound.test:" + port + "/"}
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))

	names.answer("rebound.test", "127.0.0.2")
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	if _, _, total := conns.counts(); total != 1 {
		t.Errorf("%d connections, want the one that was checked", total)
	}
	f.Close()
	results := f.FetchAll(t.Context(), urls)
	checkResults(t, urls, results)
	checkIsBlocked(t, results[0], "127.0.0.2")
	wire.check(t)
}

// Of several answers those that are allowed are used, whatever their order.
func TestGuardTakesTheAllowedOfSeveralAnswers(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	four, six := newTripwire(t, "127.0.0.2:"+port), newTripwire(t, "[::1]:"+port)
	answerNames(t, map[string][]string{
		"last.test":  {"::1", "127.0.0.2", "10.0.0.1", "127.0.0.1"},
		"first.test": {"127.0.0.1", "127.0.0.2", "::1"},
	})
	urls := []string{"http://last.test:" + port + "/", "http://first.test:" + port + "/"}
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback)))
	four.check(t)
	six.check(t)
}

func TestGuardAllowsWhatItIsTold(t *testing.T) {
	answerNames(t, map[string][]string{"name.test": {"127.0.0.1"}})
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Host) })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, row := range []struct {
		host  string
		allow []string
		want  bool
	}{
		{"127.0.0.1", []string{"127.0.0.1/32"}, true},
		{"127.0.0.1", []string{"10.0.0.0/8", "127.0.0.0/8"}, true},
		{"[::ffff:127.0.0.1]", []string{"127.0.0.0/8"}, true},
		{"name.test", []string{"127.0.0.0/8"}, true},
		{"127.0.0.1", []string{"127.0.0.2/32"}, false},
		{"127.0.0.1", []string{"::/0"}, false},
		{"127.0.0.1", []string{"::1/128"}, false},
		{"name.test", []string{"127.0.0.2/32"}, false},
		{"127.0.0.1", nil, false},
	} {
		t.Run(fmt.Sprint(row.host, row.allow), func(t *testing.T) {
			var allow []netip.Prefix
			for _, prefix := range row.allow {
				allow = append(allow, netip.MustParsePrefix(prefix))
			}
			urls := []string{"http://" + row.host + ":" + port + "/"}
			results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(allow...))
			checkResults(t, urls, results)
			if row.want && !results[0].OK() {
				t.Error(results[0].Err)
			}
			if !row.want {
				checkIsBlocked(t, results[0])
			}
		})
	}
}

// The allow list of the last one holds, not both.
func TestTheLastGuardWins(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	urls := []string{"http://127.0.0.1:" + wire.port() + "/"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback), fetch.WithPublicOnly())
	checkResults(t, urls, results)
	checkIsBlocked(t, results[0])
	wire.check(t)
}

func TestGuardKeepsNoReferenceToTheAllowList(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f := newFetcher(t, fetch.WithPublicOnly(allow...))
	allow[0] = loopback
	urls := []string{"http://127.0.0.1:" + wire.port() + "/"}
	checkIsBlocked(t, f.FetchAll(t.Context(), urls)[0])
	wire.check(t)
}

// The address decides, whatever name the request asks for.
func TestAHostHeaderChangesNoAddress(t *testing.T) {
	wire := newTripwire(t, "127.0.0.2:0")
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Host) })
	inside := "http://127.0.0.2:" + wire.port() + "/"
	for name, opt := range map[string]fetch.Option{
		"WithHeader":      fetch.WithHeader("Host", "8.8.8.8"),
		"WithRequestFunc": fetch.WithRequestFunc(func(req *http.Request) error { req.Host = "8.8.8.8"; return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			urls := []string{inside, server.URL}
			results := fetch.FetchAll(t.Context(), urls, opt, fetch.WithPublicOnly(loopback))
			checkResults(t, urls, results)
			checkIsBlocked(t, results[0])
			if got := string(results[1].Body); got != "8.8.8.8" {
				t.Errorf("Host %q, %v", got, results[1].Err)
			}
		})
	}
	t.Run("DoAll", func(t *testing.T) {
		req, opaque := newRequest(t, "GET", inside, nil), newRequest(t, "GET", inside, nil)
		req.Host = "127.0.0.1"
		opaque.URL.Opaque = "//127.0.0.1/"
		for _, r := range newFetcher(t, fetch.WithPublicOnly(loopback)).DoAll(t.Context(), []*http.Request{req, opaque}) {
			checkIsBlocked(t, r)
		}
	})
	wire.check(t)
}

// What an injected client adds must not lead around the guard: a CheckRedirect can
// change where a redirect leads, and a Jar only sees it.
func TestHooksOfTheClientAreGuardedToo(t *testing.T) {
	wire := newTripwire(t, "127.0.0.2:0")
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/next", http.StatusFound) })
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
	checkResults(t, urls, results)
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
		"Proxy":            {newClient(&http.Transport{Proxy: http.ProxyFromEnvironment}), "Proxy"},
		"DefaultTransport": {newClient(http.DefaultTransport), "Proxy"},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"Dial": {newClient(&http.Transport{Dial: old}), "Dial "},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"DialTLS":               {newClient(&http.Transport{DialTLS: old}), "DialTLS "},
		"DialTLSContext":        {newClient(&http.Transport{DialTLSContext: dial}), "DialTLSContext "},
		"TLSNextProto":          {newClient(&http.Transport{TLSNextProto: protocols}), "TLSNextProto "},
		"another RoundTripper":  {newClient(answerAfter(0)), "roundTripFunc"},
		"a wrapped Transport":   {newClient(struct{ *http.Transport }{&http.Transport{}}), "Transport"},
		"no Transport":          {&http.Client{}, "Transport"},
		"a nil Transport":       {newClient((*http.Transport)(nil)), "Transport"},
		"http.DefaultClient":    {http.DefaultClient, "Transport"},
		"a file RoundTripper":   {newClient(http.NewFileTransport(http.Dir("."))), "fileTransport"},
		"Proxy and DialContext": {newClient(&http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dial}), "Proxy"},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		"a used one with a Dial": {newClient(used(&http.Transport{Dial: old})), "Dial "},
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
				checkResults(t, urls, results)
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

// What dials in the caller's transport, to a Unix socket or past every rule, is
// replaced, and what it knows for a scheme is not taken over.
func TestOtherWaysOutOfATransportAreNotTaken(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	target := "http://127.0.0.1:" + wire.port() + "/"
	var dialled, tripped atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", wire.listener.Addr().String())
	}}
	transport.RegisterProtocol("http", roundTripFunc(func(req *http.Request) (*http.Response, error) {
		tripped.Add(1)
		return respond(req, 200, "inside"), nil
	}))
	results := fetch.FetchAll(t.Context(), []string{target}, fetch.WithClient(newClient(transport)), fetch.WithPublicOnly())
	checkResults(t, []string{target}, results)
	checkIsBlocked(t, results[0])
	if dialled.Load() != 0 || tripped.Load() != 0 {
		t.Errorf("its DialContext was called %d times, its protocol %d times", dialled.Load(), tripped.Load())
	}
	wire.check(t)
}

// A connection that is open already has not passed the guard.
func TestGuardUsesNoConnectionOfTheCallers(t *testing.T) {
	var requests atomic.Int32
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, "ok")
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 3, IdleConnTimeout: time.Minute, ProxyConnectHeader: http.Header{"X-A": {"a"}}}
	defer transport.CloseIdleConnections()
	client := newClient(transport)
	urls := []string{server.URL}
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client)))
	before := exported(transport)
	open, _, total := conns.counts()

	f := newFetcher(t, fetch.WithClient(client), fetch.WithPublicOnly())
	results := f.FetchAll(t.Context(), urls)
	checkResults(t, urls, results)
	checkIsBlocked(t, results[0])
	if requests.Load() != 1 {
		t.Error("the blocked request was sent")
	}
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithPublicOnly(loopback)))
	f.Close()

	// And the caller's are none the worse for it.
	if after := exported(transport); !reflect.DeepEqual(before, after) {
		t.Errorf("the transport was changed:\nbefore %v\nafter  %v", before, after)
	}
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(client)))
	// The guarded one has left, as FetchAll ends what it opened.
	for range 200 {
		if now, _, all := conns.counts(); now == open && all == total+1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	now, _, all := conns.counts()
	t.Errorf("%d connections are open, %d were opened; it was %d and %d", now, all, open, total)
}

// newSecureServer returns a server for HTTP/2 on TLS, and what trusts it.
func newSecureServer(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// net/http sets TLSNextProto itself when a Transport is first used. That is no reason to
// refuse it, and the guarded clone speaks HTTP/2 if the caller's does.
func TestATransportUsedOverHTTP2CanBeGuarded(t *testing.T) {
	server, trust := newSecureServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Proto) })
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
			client := newClient(transport)
			urls := []string{server.URL}
			get := func(opts ...fetch.Option) fetch.Result {
				results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithClient(client))...)
				checkResults(t, urls, results)
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
	server, trust := newSecureServer(t, func(w http.ResponseWriter, req *http.Request) {
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
	f := newFetcher(t, fetch.WithClient(newClient(transport)), fetch.WithPublicOnly(loopback))
	mustAllBeFine(t, []string{outside}, f.FetchAll(t.Context(), []string{outside}))
	urls := []string{inside, outside + "?to=" + inside}
	results := f.FetchAll(t.Context(), urls)
	checkResults(t, urls, results)
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
		// The proxy itself may be dialled, what is behind it not.
		for _, r := range fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback)) {
			checkIsBlocked(t, r)
		}
		// The proxy is there: without the guard it is asked.
		mustAllBeFine(t, urls[:1], fetch.FetchAll(t.Context(), urls[:1]))
		return
	}
	var asked atomic.Int32
	proxy, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { asked.Add(1) })
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

// fakeNames answers lookups of Go's own resolver in memory.
type fakeNames struct {
	asked atomic.Int32
	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

// answerNames has names, without a trailing dot, resolve to addresses until the test ends. There are no others.
func answerNames(t testing.TB, names map[string][]string) *fakeNames {
	f := &fakeNames{addrs: map[string][]netip.Addr{}}
	for name, addrs := range names {
		f.answer(name, addrs...)
	}
	namesOfTest.Store(f)
	t.Cleanup(func() { namesOfTest.Store(nil) })
	return f
}

// namesOfTest are those of the test that runs, or nil.
var namesOfTest atomic.Pointer[fakeNames]

// The library's dialer has no Resolver of its own, so that net.DefaultResolver is the place to put
// one. It is never changed again: a dial that a test has abandoned may still look at it.
func init() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, server string) (net.Conn, error) {
		f := namesOfTest.Load()
		if f == nil {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
		client, here := net.Pipe()
		go f.serve(here)
		return client, nil
	}}
}

func (f *fakeNames) answer(name string, addrs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[name] = nil
	for _, addr := range addrs {
		f.addrs[name] = append(f.addrs[name], netip.MustParseAddr(addr))
	}
}

// serve answers on a connection that is no packet connection: as over TCP, each
// message has its length in front (RFC 1035, section 4.2.2).
func (f *fakeNames) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		reply := f.reply(query)
		binary.BigEndian.PutUint16(length[:], uint16(len(reply)))
		if _, err := conn.Write(append(length[:], reply...)); err != nil {
			return
		}
	}
}

// reply answers the one question of a query with A or AAAA records.
func (f *fakeNames) reply(query []byte) []byte {
	f.asked.Add(1)
	const head, a, aaaa = 12, 1, 28
	var labels []string
	end := head
	for query[end] != 0 {
		length := int(query[end])
		labels = append(labels, strings.ToLower(string(query[end+1:end+1+length])))
		end += 1 + length
	}
	end += 5 // the root, type and class
	kind := binary.BigEndian.Uint16(query[end-4:])
	f.mu.Lock()
	addrs, known := f.addrs[strings.Join(labels, ".")]
	f.mu.Unlock()

	var count uint16
	var records []byte
	for _, addr := range addrs {
		if kind == a && addr.Is4() || kind == aaaa && addr.Is6() {
			count++
			records = append(records, 0xc0, head) // the name: that of the question
			records = binary.BigEndian.AppendUint16(records, kind)
			records = append(records, 0, 1, 0, 0, 0, 0) // class IN, not to be kept
			records = binary.BigEndian.AppendUint16(records, uint16(len(addr.AsSlice())))
			records = append(records, addr.AsSlice()...)
		}
	}
	code := byte(0)
	if !known {
		code = 3 // no such name
	}
	reply := append([]byte(nil), query[:2]...)
	reply = append(reply, 0x81, 0x80|code, 0, 1) // a response to one question
	reply = binary.BigEndian.AppendUint16(reply, count)
	reply = append(reply, 0, 0, 0, 0) // no authorities, nothing more
	reply = append(reply, query[head:end]...)
	return append(reply, records...)
}
