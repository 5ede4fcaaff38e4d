package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// note returns a handler that tells a ledger.
func note(l *ledger) fleet.Handler {
	return func(_ context.Context, d fleet.Delivery) error {
		l.add(d.Request.URL)
		return nil
	}
}

func TestAURLIsFetchedOnceHoweverOftenItIsAdded(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.Dedup = 30 * time.Second })
	h := newHosts(t, 3, nil)
	urls := h.urls(250) // some pages each
	l := newLedger()
	add(t, f, slices.Concat(urls, urls[:100])) // in one call
	add(t, f, urls)                            // while they wait
	stop := start(t, f, note(l))
	waitUntilDone(t, f, 10*time.Second)
	add(t, f, urls) // after they are done
	waitUntilDone(t, f, 10*time.Second)
	stop()
	start(t, f, note(l)) // and at another worker
	add(t, f, urls)
	waitUntilDone(t, f, 10*time.Second)
	again := l.check(t, urls)
	if requests, _ := h.counts(); requests != len(urls) || again > 0 {
		t.Errorf("%d requests for %d URLs, %d handled again", requests, len(urls), again)
	}
}

func TestAURLIsFetchedAgainWhenItWasDoneLongAgo(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.Dedup = time.Second })
	h := newHosts(t, 1, nil)
	start(t, f, note(newLedger()))
	add(t, f, h.urls(10))
	waitUntilDone(t, f, 10*time.Second)
	time.Sleep(3 * time.Second) // a note lives up to two windows
	add(t, f, h.urls(10))
	waitUntilDone(t, f, 10*time.Second)
	if requests, _ := h.counts(); requests != 20 {
		t.Errorf("%d requests, want 20", requests)
	}
}

func TestRequestsHaveMethodsHeadersAndBodies(t *testing.T) {
	f := open(t, nil)
	var mu sync.Mutex
	var got []string
	h := newHosts(t, 1, func(_ string, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("X-Key"), body))
	})
	base := "http://" + h.names[0]
	reqs := []fleet.Request{
		{URL: base + "/post", Method: "POST", Header: http.Header{"X-Key": {"a"}}, Body: []byte("body")},
		{URL: base + "/put", Method: "PUT", Body: []byte{0, 1, 0xff}},
		{URL: base + "/get", Header: http.Header{"X-Key": {"b"}}},
		{URL: base + "/get", Header: http.Header{"X-Key": {"c"}}}, // no GET of a bare URL, so none is dropped
	}
	if n, err := f.AddRequests(t.Context(), slices.Values(reqs)); n != len(reqs) || err != nil {
		t.Fatal(n, err)
	}
	var deliveries []fleet.Request
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		deliveries = append(deliveries, d.Request)
		return nil
	})
	waitUntilDone(t, f, 10*time.Second)
	slices.Sort(got)
	want := []string{"GET /get b ", "GET /get c ", "POST /post a body", "PUT /put  \x00\x01\xff"}
	if !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if len(deliveries) != len(reqs) {
		t.Errorf("%d deliveries", len(deliveries))
	}
}

func TestAURLThatCannotBeFetchedIsHandledToo(t *testing.T) {
	f := open(t, nil)
	urls := []string{"ftp://host/", "no URL", "http://", "http://ho st/"}
	var mu sync.Mutex
	got := map[string]error{}
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got[d.Request.URL] = d.Result.Err
		return nil
	})
	add(t, f, urls)
	waitUntilDone(t, f, 10*time.Second)
	for _, u := range urls {
		if !errors.Is(got[u], fetch.ErrInvalidURL) {
			t.Errorf("%s: %v", u, got[u])
		}
	}
}

// A handler gets no more of them at once than of others.
func TestURLsThatCannotBeFetchedAreHandledWithinTheWindow(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	var urls []string
	for i := range 2000 {
		urls = append(urls, fmt.Sprint("no URL ", i))
	}
	add(t, f, urls)
	var handling atomic.Int32
	release := make(chan struct{})
	l := newLedger()
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		handling.Add(1)
		<-release
		l.add(d.Request.URL)
		return nil
	})
	unblock := sync.OnceFunc(func() { close(release) })
	defer unblock()
	waitFor(t, 20*time.Second, "the handler has some", func() bool { return handling.Load() > 0 })
	time.Sleep(time.Second)
	if n := handling.Load(); n > 256 {
		t.Errorf("%d are with the handler", n)
	}
	unblock()
	waitUntilDone(t, f, 60*time.Second)
	if again := l.check(t, urls); again > 0 {
		t.Errorf("%d handled again", again)
	}
}

func TestWhatAHandlerFailsIsDoneAgainAndAtLastPoison(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.MaxDeliveries = 3 })
	h := newHosts(t, 2, nil)
	urls := h.urls(20)
	bad, flaky := urls[3], urls[5]
	var mu sync.Mutex
	calls := map[string]int{}
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		calls[d.Request.URL]++
		if d.Deliveries != calls[d.Request.URL]-1 {
			t.Errorf("%s: delivery %d, and %d before", d.Request.URL, calls[d.Request.URL], d.Deliveries)
		}
		if d.Request.URL == bad || d.Request.URL == flaky && calls[flaky] == 1 {
			return errors.New("no room")
		}
		return nil
	})
	add(t, f, urls)
	waitUntilDone(t, f, 20*time.Second)
	mu.Lock()
	defer mu.Unlock()
	if calls[bad] != 3 || calls[flaky] != 2 || len(calls) != len(urls) {
		t.Errorf("bad: %d calls, flaky: %d, %d URLs", calls[bad], calls[flaky], len(calls))
	}
	if s, err := f.Status(t.Context()); err != nil || s.Poison != 1 {
		t.Errorf("%d poisoned, %v", s.Poison, err)
	}
}

// A host that names an instant is not called before it, and its refused URL is done later.
func TestARefusedURLIsDoneWhenItsHostIsBack(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	var refused atomic.Int32
	h := newHosts(t, 1, func(_ string, w http.ResponseWriter, _ *http.Request) {
		if refused.Add(1) == 3 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	l := newLedger()
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		if d.Result.StatusCode != 200 {
			t.Errorf("status %d", d.Result.StatusCode)
		}
		l.add(d.Request.URL)
		return nil
	}, fetch.WithHostConcurrency(1)) // without retries
	urls := h.urls(20)
	add(t, f, urls)
	waitUntilDone(t, f, 20*time.Second)
	l.check(t, urls)
	at := h.arrivals(h.names[0])
	if gap := at[3].Sub(at[2]); gap < 2*time.Second {
		t.Errorf("called after %v", gap)
	}
}

// A pause that is longer than a worker waits puts the host back into the queue.
func TestALongPauseCostsNoWorkerAnything(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.Hosts = 1 }) // so that the paused one would be in the way
	var calls atomic.Int32
	var paused string
	h := newHosts(t, 3, func(host string, w http.ResponseWriter, _ *http.Request) {
		if host == paused && calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	paused = h.names[0]
	l := newLedger()
	start(t, f, note(l), fetch.WithMaxRetryAfter(time.Second), fetch.WithHostConcurrency(1))
	urls := h.urls(20)
	add(t, f, urls)
	waitFor(t, 2500*time.Millisecond, "the others are done, and the host is paused and nobody's", func() bool {
		s, err := f.Status(t.Context())
		return err == nil && l.distinct() >= 40 && len(s.Hosts) == 1 && time.Until(s.Hosts[0].PausedUntil) > 0 && s.Hosts[0].Owner == ""
	})
	waitUntilDone(t, f, 20*time.Second)
	l.check(t, urls)
	at := h.arrivals(paused)
	if gap := at[1].Sub(at[0]); gap < 3*time.Second || gap > 5*time.Second {
		t.Errorf("called again after %v", gap)
	}
}

// A host that cannot be reached is left alone for a minute, and in the way of nobody. Its failures and the
// rest of its URLs are kept.
func TestAHostThatCannotBeReachedRests(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.Hosts = 1 })
	h := newHosts(t, 2, nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	var urls []string
	for i := range 300 {
		urls = append(urls, fmt.Sprintf("http://%s/%d", closed.Addr(), i))
	}
	good := h.urls(20)
	add(t, f, slices.Concat(urls, good))
	l := newLedger()
	start(t, f, note(l), fetch.WithMaxHostFailures(3), fetch.WithHostConcurrency(1))
	var s fleet.Status
	waitFor(t, 10*time.Second, "the good ones are done, and the other rests", func() bool {
		s, err = f.Status(t.Context())
		return err == nil && len(s.Hosts) == 1 && s.Hosts[0].Owner == "" && s.Hosts[0].Failures == 3
	})
	l.check(t, good)
	if rests := time.Until(s.Hosts[0].PausedUntil); rests < 50*time.Second || rests > time.Minute {
		t.Errorf("it rests for %v", rests)
	}
	if handled := l.distinct() - len(good); handled > 3 || s.Hosts[0].Requests != 300-handled {
		t.Errorf("%d of its URLs were handled, and %d are left", handled, s.Hosts[0].Requests)
	}
}

func TestAHostThatOnlyRefusesIsGivenUpAtLast(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *fleet.Config) { c.MaxDeliveries = 2 })
	h := newHosts(t, 1, func(_ string, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	l := newLedger()
	start(t, f, note(l), fetch.WithMaxRetryAfter(100*time.Millisecond))
	urls := h.urls(50)
	add(t, f, urls)
	waitUntilDone(t, f, 30*time.Second)
	l.check(t, urls)
}

// putOffFor returns for how long tokens are put off from now on, as workers tell the broker.
func putOffFor(t testing.TB, f *fleet.Fleet) <-chan time.Duration {
	t.Helper()
	conn := connect(t, f)
	waits := make(chan time.Duration, 100)
	_, err := conn.Subscribe("$JS.ACK.fetch-tokens.>", func(m *nats.Msg) {
		var body struct{ Delay time.Duration }
		text, put := bytes.CutPrefix(m.Data, []byte("-NAK "))
		if put && json.Unmarshal(text, &body) == nil {
			waits <- body.Delay
		}
	})
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return waits
}

// What one URL is told by its server is not a pause of the host: others that are added are not to wait for it.
func TestAURLThatIsPutOffForLongClosesItsHostForAMinuteAtMost(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 1, func(_ string, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	waits := putOffFor(t, f)
	add(t, f, h.urls(1))
	start(t, f, note(newLedger()))
	select {
	case wait := <-waits:
		if wait < 50*time.Second || wait > time.Minute {
			t.Errorf("the host is closed for %v", wait)
		}
	case <-time.After(20 * time.Second):
		t.Error("the host is not given back")
	}
}

// Redirects to another host are requests to that: they keep to its limit over the whole fleet, and
// carry no secret there.
func TestARedirectIsFollowedByTheOwnerOfTheHostThatItLeadsTo(t *testing.T) {
	f := open(t, func(c *fleet.Config) { c.MaxRedirects = 3 })
	var h *hosts
	var leaked atomic.Int32
	target := ""
	h = newHosts(t, 10, func(host string, w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/loop"):
			w.Header().Set("Location", "http://"+h.names[1+len(r.URL.Path)%2]+r.URL.Path+"o")
			w.WriteHeader(302)
		case host == target:
			if r.Header.Get("Authorization") != "" || r.Header.Get("X-Own") != "" || r.Header.Get("User-Agent") != "me" {
				leaked.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
			fmt.Fprint(w, "there")
		default:
			w.Header().Set("Location", "http://"+target+"/from/"+host+r.URL.Path)
			w.WriteHeader(302)
		}
	})
	target = h.names[0]
	var mu sync.Mutex
	got := map[string]fetch.Result{}
	handler := func(_ context.Context, d fleet.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got[d.Request.URL] = d.Result
		return nil
	}
	for range 3 {
		start(t, f, handler, fetch.WithHostConcurrency(2), fetch.WithHeader("Authorization", "secret"), fetch.WithHeader("User-Agent", "me"))
	}
	var reqs []fleet.Request
	for _, u := range h.urls(20) {
		if !strings.HasPrefix(u, "http://"+target) {
			reqs = append(reqs, fleet.Request{URL: u, Header: http.Header{"X-Own": {"secret"}}})
		}
	}
	loop := "http://" + h.names[1] + "/loop"
	reqs = append(reqs, fleet.Request{URL: loop})
	if _, err := f.AddRequests(t.Context(), slices.Values(reqs)); err != nil {
		t.Fatal(err)
	}
	waitUntilDone(t, f, 30*time.Second)
	h.checkLimit(t, 2)
	for _, r := range reqs[:len(reqs)-1] {
		res := got[r.URL]
		if string(res.Body) != "there" || res.Redirects != 1 || res.URL != r.URL || !strings.HasPrefix(res.FinalURL, "http://"+target) {
			t.Errorf("%s: %q %v %d redirects, %s", r.URL, res.Body, res.Err, res.Redirects, res.FinalURL)
		}
	}
	if leaked.Load() > 0 {
		t.Errorf("%d requests with a secret, or without what is none", leaked.Load())
	}
	if res := got[loop]; !errors.Is(res.Err, fetch.ErrRedirect) || res.Redirects != 3 {
		t.Errorf("a loop: %v after %d", res.Err, res.Redirects)
	}
}

// A handler that is slow holds up its own hosts, and nothing is fetched far ahead of it.
func TestASlowHandlerHoldsUpNoOtherHost(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 5, nil)
	blocked := make(chan struct{})
	release := sync.OnceFunc(func() { close(blocked) })
	slow := h.names[0]
	l := newLedger()
	start(t, f, func(_ context.Context, d fleet.Delivery) error {
		if d.Host == slow {
			<-blocked
		}
		l.add(d.Request.URL)
		return nil
	}, fetch.WithHostConcurrency(4))
	defer release() // or the worker never ends
	urls := h.urls(500)
	add(t, f, urls)
	waitFor(t, 30*time.Second, "the others are done", func() bool { return l.distinct() == 4*500 })
	if n := len(h.arrivals(slow)); n > 256 {
		t.Errorf("%d requests ahead of the handler", n)
	}
	release()
	waitUntilDone(t, f, 20*time.Second)
	l.check(t, urls)
}

// The rate of a host holds over the whole fleet, also when the host changes hands.
func TestTheRateOfAHostHoldsOverTheFleet(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 1, nil)
	l := newLedger()
	urls := h.urls(60)
	add(t, f, urls)
	began := time.Now()
	for l.distinct() < len(urls) && time.Since(began) < 20*time.Second {
		stop := start(t, f, note(l), fetch.WithHostRate(20, 5))
		time.Sleep(400 * time.Millisecond)
		stop()
	}
	l.check(t, urls)
	at := h.arrivals(h.names[0])
	slices.SortFunc(at, time.Time.Compare)
	for i := range at {
		for j := i + 1; j < len(at); j++ {
			// Arrivals are a little late, and the later less so.
			if most := 5 + 20*(at[j].Sub(at[i])+10*time.Millisecond).Seconds(); float64(j-i+1) > most+1 {
				t.Fatalf("%d starts within %v", j-i+1, at[j].Sub(at[i]))
			}
		}
	}
}
