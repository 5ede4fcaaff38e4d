package fleet_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// What is stored in between must be what was given: whatever the bytes of a URL or a header are,
// and however long.
func TestOddRequestsComeThroughAsTheyAre(t *testing.T) {
	type seen struct{ uri, field string }
	var mu sync.Mutex
	var asked []seen
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, seen{r.RequestURI, r.Header.Get("X-Odd")})
	}))
	t.Cleanup(server.Close)
	urls := []string{
		"http://../dots",
		"http://.../dots",
		"http://" + strings.Repeat("a", 5_000) + "/",
		"http://" + strings.Repeat("é", 3_000) + "/",
		"http://" + strings.Repeat("1.", 3_000) + "/",
		"",
		"//",
		"%",
		"http://\xff/",
		server.URL + "/\xff",
		server.URL + "/\xfe",
		server.URL + "/a\u2028b<>&",
		server.URL + "/?" + strings.Repeat("&", 400<<10),
		server.URL + "/?" + strings.Repeat("\x01", 100<<10),
		server.URL + "/last",
	}
	f := open(t, nil)
	add(t, f, urls)
	odd := fleet.Request{URL: server.URL + "/odd", Header: http.Header{"X-Odd": {"caf\xe9"}}}
	if n, err := f.AddRequests(t.Context(), slices.Values([]fleet.Request{odd})); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var handled []string
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		handled = append(handled, d.Request.URL)
		return nil
	})
	waitUntilDone(t, f, 30*time.Second)
	want := append(slices.Clone(urls), odd.URL)
	slices.Sort(want)
	slices.Sort(handled)
	for i := range max(len(want), len(handled)) {
		if i >= len(want) || i >= len(handled) || want[i] != handled[i] {
			t.Errorf("%d handled of %d; %d: %.60q instead of %.60q", len(handled), len(want), i, at(handled, i), at(want, i))
			break
		}
	}
	for _, s := range []seen{{"/%FF", ""}, {"/%FE", ""}, {"/odd", "caf\xe9"}, {"/last", ""}} {
		if !slices.Contains(asked, s) {
			t.Errorf("%q was not asked for", s)
		}
	}
	if s, err := f.Status(t.Context()); err != nil || s.Poison > 0 {
		t.Errorf("%d poisoned, %v", s.Poison, err)
	}
}

func at(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return "nothing"
}

// No message may be so large that the broker does not take it: that would be tried for ever.
func TestWhatIsTooLargeHoldsNothingUp(t *testing.T) {
	h := newHosts(t, 2, nil)
	var mu sync.Mutex
	results := map[string]fetch.Result{}
	h.handler = func(_ string, w http.ResponseWriter, r *http.Request) {
		var host string
		switch r.URL.Path {
		case "/host":
			host = strings.Repeat("a", 5_000)
		case "/location":
			host = h.names[1] + "/" + strings.Repeat("x", 700<<10)
		case "/body":
			w.Write(make([]byte, 2<<20))
			return
		default:
			return
		}
		w.Header().Set("Location", "http://"+host)
		w.WriteHeader(http.StatusFound)
	}
	f := open(t, func(c *fleet.Config) { c.MaxDeliveries = 1 })
	url := func(path string) string { return "http://" + h.names[0] + path }
	large := fleet.Request{URL: url("/location"), Header: http.Header{"X-Large": {strings.Repeat("y", 400<<10)}}}
	odd := fleet.Request{URL: url("/poison"), Header: http.Header{"X-Odd": {strings.Repeat("\xff", 500<<10)}}}
	tooLarge := fleet.Request{URL: url("/"), Body: make([]byte, 800<<10)}
	for _, r := range []fleet.Request{{URL: url("/host")}, large, odd, {URL: url("/body")}, {URL: url("/last")}} {
		if n, err := f.AddRequests(t.Context(), slices.Values([]fleet.Request{r})); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := f.AddRequests(t.Context(), slices.Values([]fleet.Request{tooLarge})); n != 0 || err == nil || !strings.Contains(err.Error(), tooLarge.URL) {
		t.Errorf("%d, %v", n, err)
	}
	start(t, f, func(ctx context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		results[d.Request.URL] = d.Result
		if d.Request.URL == odd.URL {
			return errors.New(strings.Repeat("\x00", 1<<20))
		}
		return f.Publish(ctx, d)
	})
	waitUntilDone(t, f, 30*time.Second)
	mu.Lock()
	defer mu.Unlock()
	if len(results) != 5 {
		t.Errorf("%d of 5 came to the handler", len(results))
	}
	if err := results[large.URL].Err; !errors.Is(err, fetch.ErrRedirect) {
		t.Errorf("a redirect that cannot be queued: %v", err)
	}
	if err := results[url("/host")].Err; err == nil || errors.Is(err, fetch.ErrRedirect) {
		t.Errorf("a host that no name can have: %v", err)
	}
	if s, err := f.Status(t.Context()); err != nil || s.Poison != 3 { // two are too large to be published
		t.Errorf("%d poisoned, %v", s.Poison, err)
	}
	for _, p := range poison(t, f) {
		var exact fleet.Request
		if p.Request.URL == odd.URL && (gob.NewDecoder(bytes.NewReader(p.Exact)).Decode(&exact) != nil || !reflect.DeepEqual(exact, odd)) {
			t.Error("a poisoned request is not what was added")
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// URLs whose hosts are too long for a queue share one with those that have none, and with nothing else in
// common none of them closes it for the others.
func TestAHostThatIsTooLongHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	paused, down := "http://"+strings.Repeat("p", 2_000)+"/", "http://"+strings.Repeat("d", 2_000)+"/"
	proxy := fetch.WithTransport(func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "d") {
				return nil, &net.OpError{Op: "dial", Err: errors.New("nobody there")}
			}
			return &http.Response{
				StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}, Body: http.NoBody, Request: r,
			}, nil
		})
	})
	f := open(t, nil)
	var urls []string
	for i := range 20 {
		urls = append(urls, fmt.Sprint(paused, i), fmt.Sprint(down, i), fmt.Sprint("no URL ", i))
	}
	add(t, f, urls)
	var mu sync.Mutex
	errs := map[string]error{}
	l := newLedger()
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		errs[d.Request.URL] = d.Result.Err
		l.add(d.Request.URL)
		return nil
	}, proxy, fetch.WithMaxHostFailures(3))
	waitUntilDone(t, f, 15*time.Second)
	more := []string{"no URL any more", paused + "more", down + "more"}
	add(t, f, more)
	waitUntilDone(t, f, 15*time.Second)
	if again := l.check(t, append(urls, more...)); again > 0 {
		t.Errorf("%d handled again", again)
	}
	mu.Lock()
	defer mu.Unlock()
	if err := errs[paused+"more"]; !errors.Is(err, fetch.ErrHostPaused) {
		t.Errorf("of a host that pauses: %v", err)
	}
}

// poison returns what was given up.
func poison(t *testing.T, f *fleet.Fleet) (all []fleet.Poisoned) {
	t.Helper()
	for _, data := range messages(t, f, "fetch-poison") {
		var p fleet.Poisoned
		if err := json.Unmarshal(data, &p); err != nil {
			t.Error(err)
		}
		all = append(all, p)
	}
	return all
}

func TestABrokerOfSmallMessagesIsAnError(t *testing.T) {
	s, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: t.TempDir(), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, MaxPayload: 64 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	if _, err := fleet.Open(t.Context(), fleet.Config{URL: s.ClientURL()}); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Error(err)
	}
}
