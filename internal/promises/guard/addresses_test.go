package guard_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
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
	f := fetchtest.NewFetcher(t, fetch.WithPublicOnly(), fetch.WithRetries(3), fetch.WithTimeout(20*time.Second))
	for _, host := range []string{
		"127.0.0.1", "127.0.0.2", "10.0.0.1", "192.168.0.1", "100.100.100.200", "169.254.169.254", "192.0.0.192", "0.0.0.0",
		"[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[fe80::1%25lo]", "[::1%25lo]", "[fd00:ec2::254]", "[2002:7f00:1::]", "[2001::1]",
		"localhost", "LOCALHOST", "private.test", "PRIVATE.test.", "loopback.test", "mapped.test", "six.test", "nat64.test",
		"metadata.test", "several.test", "localhost.test",
		"127.1", "127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "169。254。169。254", "１０．1", "%EF%BC%91%EF%BC%92%EF%BC%97.1",
		"user:secret99@127.0.0.1", "8.8.8.8@127.0.0.1", "8.8.8.8:80@127.0.0.1",
	} {
		for _, scheme := range []string{"http", "https"} {
			rawURL := scheme + "://" + host + port + "/"
			results := f.FetchAll(t.Context(), []string{rawURL})
			fetchtest.CheckResults(t, []string{rawURL}, results)
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
		"0x7f.1", "0177.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.0.0.1.", "127.0.0.1..",
		"127%2e0%2e0%2e1", "%31%32%37.0.0.1", "[::ffff:127.0.0.1", "[127.0.0.1]", "0", "localhost.", "ⓛocalhost",
	} {
		rawURL := "http://" + host + port + "/"
		results := f.FetchAll(t.Context(), []string{rawURL})
		fetchtest.CheckResults(t, []string{rawURL}, results)
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
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	urls := []string{server.URL, "http://127.0.0.2:1/", server.URL + "/2", "http://10.0.0.1/", server.URL + "/3"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback), fetch.WithMaxHostFailures(1))
	fetchtest.CheckResults(t, urls, results)
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
			f := fetchtest.NewFetcher(t, fetch.WithRetries(5), fetch.WithPublicOnly(), opt)
			results := f.FetchAll(t.Context(), []string{target})
			fetchtest.CheckResults(t, []string{target}, results)
			checkIsBlocked(t, results[0])
			checkIsBlocked(t, f.DoAll(t.Context(), []*http.Request{fetchtest.NewRequest(t, "PUT", target, strings.NewReader("data"))})[0])
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
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		hops.Add(1)
		w.Header().Set("Location", req.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	_, serverPort, _ := net.SplitHostPort(server.Listener.Addr().String())
	f := fetchtest.NewFetcher(t, fetch.WithPublicOnly(loopback), fetch.WithRetries(3), fetch.WithRetryIf(func(fetch.Result) bool { return true }))
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
		fetchtest.CheckResults(t, []string{rawURL}, results)
		r := results[0]
		checkIsBlocked(t, r, "127.0.0.2")
		if r.StatusCode != 302 || !strings.HasPrefix(r.FinalURL, server.URL) || int(hops.Load()) != r.Redirects {
			t.Errorf("%s: status %d of %s after %d redirects and %d requests", to, r.StatusCode, r.FinalURL, r.Redirects, hops.Load())
		}
	}
	wire.check(t)
}
