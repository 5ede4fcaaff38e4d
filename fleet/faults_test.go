package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/batchhttp/fetch/fleet"
)

// freePorts returns addresses on loopback that are free, or were just now.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// A cluster is of NATS servers in processes of their own.
type cluster struct {
	t       testing.TB
	urls    []string
	configs []string
	nodes   []*process
}

func startCluster(t testing.TB, n int, settings string) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: make([]*process, n)}
	dir := t.TempDir()
	ports := freePorts(t, 2*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
		c.urls = append(c.urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	for i := range n {
		text := fmt.Sprintf("server_name: n%d\nlisten: 127.0.0.1:%d\njetstream { store_dir: %q\n%s }\n", i, ports[i], filepath.Join(dir, fmt.Sprint(i)), settings)
		if n > 1 {
			text += fmt.Sprintf("cluster { name: test, listen: 127.0.0.1:%d, routes: [%s] }\n", ports[n+i], strings.Join(routes, ", "))
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.configs = append(c.configs, path)
	}
	for i := range n {
		c.start(i)
	}
	return c
}

func (c *cluster) start(i int, env ...string) {
	c.t.Helper()
	env = append([]string{"FLEET_TEST_ROLE=broker", "FLEET_TEST_CONFIG=" + c.configs[i]}, env...)
	c.nodes[i] = startProcess(c.t, func(string) {}, env...)
	select {
	case <-c.nodes[i].first:
	case <-c.nodes[i].ended:
		c.t.Fatalf("a broker ended: %s", c.nodes[i].stderr)
	}
}

func (c *cluster) url() string { return strings.Join(c.urls, ",") }

func openAt(t testing.TB, url string, lease time.Duration, replicas int) *fleet.Fleet {
	t.Helper()
	return open(t, func(c *fleet.Config) {
		*c = fleet.Config{URL: url, Lease: lease, Replicas: replicas}
	})
}

// The broker is killed, and comes back after a second: nothing is lost, and no limit exceeded,
// whatever it has forgotten of the tokens that it handed out.
func TestTheBrokerIsKilled(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	c := startCluster(t, 1, "")
	f := openAt(t, c.url(), lease, 1)
	h := newHosts(t, 40, slowly(10*time.Millisecond))
	urls := h.urls(150)
	add(t, f, urls)
	l := newLedger()
	for range 2 {
		startWorker(t, c.url(), lease, l)
	}
	for _, part := range []int{10, 3} {
		waitFor(t, time.Minute, "a part is done", func() bool { return l.distinct() >= len(urls)/part })
		c.nodes[0].kill()
		time.Sleep(time.Second)
		c.start(0)
	}
	waitUntilDone(t, f, time.Minute)
	again := l.check(t, urls)
	_, repeated := h.counts()
	h.checkLimit(t, 2)
	t.Logf("%d repeated, %d handled again", repeated, again)
	if most := 2 * (2*len(h.names) + 2*64); repeated > most { // in flight, or not written down, at each kill
		t.Errorf("%d repeated, and %d were in flight", repeated, most)
	}
}

// A cluster of three loses a node, another after that has come back, and so on.
func TestANodeOfAClusterIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a cluster is slow to elect")
	}
	const lease = 4 * time.Second
	c := startCluster(t, 3, "")
	f := openAt(t, c.url(), lease, 3)
	h := newHosts(t, 40, slowly(20*time.Millisecond))
	urls := h.urls(150)
	add(t, f, urls)
	l := newLedger()
	for range 2 {
		startWorker(t, c.url(), lease, l, "FLEET_TEST_REPLICAS=3")
	}
	for i := range 3 {
		waitFor(t, time.Minute, "a part is done", func() bool { return l.distinct() >= len(urls)*(i+1)/6 })
		c.nodes[i].kill()
		time.Sleep(time.Second)
		c.start(i)
		time.Sleep(time.Second)
	}
	waitUntilDone(t, f, 2*time.Minute)
	again := l.check(t, urls)
	_, repeated := h.counts()
	h.checkLimit(t, 2)
	t.Logf("%d repeated, %d handled again", repeated, again)
	if most := 3 * (2*len(h.names) + 2*64); repeated > most {
		t.Errorf("%d repeated, and %d were in flight", repeated, most)
	}
}

// configure replaces a part of a node's settings, from its next start on.
func (c *cluster) configure(i int, old, with string) {
	c.t.Helper()
	text, err := os.ReadFile(c.configs[i])
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.configs[i], []byte(strings.Replace(string(text), old, with, 1)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// A broker that refuses the credentials for a while is no worse than one that is away.
func TestTheBrokerRefusesTheCredentialsForAWhile(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	var refused atomic.Int32
	f := open(t, func(config *fleet.Config) {
		*config = fleet.Config{URL: c.url(), Lease: time.Second, Options: []nats.Option{
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { refused.Add(1) }),
		}}
	})
	h := newHosts(t, 3, nil)
	l := newLedger()
	start(t, f, note(l))
	add(t, f, h.urls(5))
	waitUntilDone(t, f, 10*time.Second)
	const login = "authorization { user: u, password: x }\n"
	c.configure(0, "", login)
	c.nodes[0].kill()
	c.start(0)
	waitFor(t, 20*time.Second, "it was refused some times", func() bool { return refused.Load() >= 4 })
	c.configure(0, login, "")
	c.nodes[0].kill()
	c.start(0)
	more := h.urls(10)
	add(t, f, more)
	waitUntilDone(t, f, 20*time.Second)
	l.check(t, more)
}

// A connection that is closed for good is an error of all that goes on, not a reason to wait for ever.
func TestAConnectionThatIsClosedForGoodIsAnError(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	f := open(t, func(config *fleet.Config) {
		*config = fleet.Config{URL: c.url(), Lease: time.Second, Options: []nats.Option{nats.NoReconnect()}}
	})
	ended := make(chan error, 3)
	h := newHosts(t, 1, nil)
	l := newLedger()
	go func() { ended <- f.Run(t.Context(), note(l)) }()
	go func() {
		_, err := f.Add(t.Context(), func(yield func(string) bool) {
			for yield(h.urls(1)[0]) {
				time.Sleep(time.Millisecond)
			}
		})
		ended <- err
	}()
	waitFor(t, 10*time.Second, "both are at work", func() bool { return l.distinct() > 0 })
	c.nodes[0].kill()
	go func() {
		_, err := f.Status(t.Context())
		ended <- err
	}()
	for range 3 {
		select {
		case err := <-ended:
			if !errors.Is(err, nats.ErrConnectionClosed) {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on for ever")
		}
	}
}

// A cable is a way to the broker that can be cut: nothing goes through, and nobody is told.
type cable struct {
	listener net.Listener
	to       string

	mu  sync.Mutex
	cut bool
	on  *sync.Cond
}

func newCable(t testing.TB, to string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: listener, to: strings.TrimPrefix(to, "nats://")}
	c.on = sync.NewCond(&c.mu)
	t.Cleanup(func() {
		c.set(false)
		listener.Close()
	})
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", c.to)
			if err != nil {
				near.Close()
				continue
			}
			go c.carry(near, far)
			go c.carry(far, near)
		}
	}()
	return c
}

func (c *cable) url() string { return "nats://" + c.listener.Addr().String() }

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	c.on.Broadcast()
}

func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		c.mu.Lock()
		for c.cut {
			c.on.Wait()
		}
		c.mu.Unlock()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// A worker that loses the broker stops before another takes its hosts, and comes back under
// another name.
func TestTheNetworkOfAWorkerIsCut(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	f := open(t, func(c *fleet.Config) { c.Lease = lease })
	h := newHosts(t, 30, slowly(20*time.Millisecond))
	urls := h.urls(600)
	add(t, f, urls)
	l := newLedger()
	c := newCable(t, f.URL())
	startWorker(t, c.url(), lease, l)
	startWorker(t, f.URL(), lease, l)
	var before map[string]string
	waitFor(t, time.Minute, "both have hosts", func() bool {
		before = owners(t, f)
		names := slices.Compact(slices.Sorted(maps.Values(before)))
		return len(names) == 2 && l.distinct() > 0
	})
	cut := time.Now()
	c.set(true)
	time.Sleep(2 * lease)
	slowest := h.slowestReturn(t, ofTheDead(t, f, before), cut.Add(lease*3/4+50*time.Millisecond))
	c.set(false)
	waitFor(t, 10*time.Second, "the worker is back", func() bool {
		s, err := f.Status(t.Context())
		return err == nil && len(s.Workers) == 2
	})
	waitUntilDone(t, f, time.Minute)
	again := l.check(t, urls)
	_, repeated := h.counts()
	h.checkLimit(t, 2)
	t.Logf("%d repeated, %d handled again, hosts went on %v after the worker had given them up", repeated, again, slowest)
	if slowest == 0 || slowest > lease {
		t.Errorf("hosts went on after %v", slowest)
	}
}

// A host that asked for five seconds is not called earlier by the one that takes over from its killed
// owner.
func TestAPauseOutlivesTheOwner(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	f := open(t, func(c *fleet.Config) { c.Lease = lease })
	var once sync.Once
	refused := make(chan time.Time, 1)
	h := newHosts(t, 4, nil)
	paused := h.names[0]
	h.handler = func(host string, w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		if host == paused && len(h.arrivals(host)) > 20 {
			once.Do(func() {
				w.Header().Set("Retry-After", "5")
				w.WriteHeader(http.StatusTooManyRequests)
				refused <- time.Now()
			})
		}
	}
	urls := h.urls(300)
	add(t, f, urls)
	l := newLedger()
	workers := []*process{startWorker(t, f.URL(), lease, l), startWorker(t, f.URL(), lease, l)}
	at := <-refused
	time.Sleep(50 * time.Millisecond)
	for _, w := range workers { // one of them owns it
		w.kill()
	}
	startWorker(t, f.URL(), lease, l)
	waitUntilDone(t, f, time.Minute)
	l.check(t, urls)
	h.checkLimit(t, 2)
	early, first := 0, time.Duration(0)
	for _, arrival := range h.arrivals(paused) {
		switch after := arrival.Sub(at); {
		case after <= 40*time.Millisecond: // sent before its answer was read
		case after < 5*time.Second-10*time.Millisecond:
			early++
		case first == 0:
			first = after
		}
	}
	t.Logf("called again %v after the refusal", first)
	if early > 0 || first > 8*time.Second {
		t.Errorf("%d calls in the pause, the first after it at %v", early, first)
	}
}

// A host that accepts connections and never answers has 5,000 URLs, and they are listed first.
func TestADeadHostHoldsUpNoOther(t *testing.T) {
	others := func(dead int) time.Duration {
		f := open(t, nil)
		h := newHosts(t, 50, slowly(20*time.Millisecond))
		hole, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer hole.Close()
		var urls []string
		for i := range dead {
			urls = append(urls, fmt.Sprintf("http://%s/%d", hole.Addr(), i))
		}
		good := h.urls(150)
		add(t, f, slices.Concat(urls, good))
		l := newLedger()
		workers := []*process{startWorker(t, f.URL(), time.Second, l), startWorker(t, f.URL(), time.Second, l)}
		waitFor(t, time.Minute, "a good one is done", func() bool { return l.distinct() > 0 })
		began := time.Now()
		waitFor(t, time.Minute, "the good ones are done", func() bool { return l.distinct() >= len(good) })
		took := time.Since(began)
		for _, w := range workers {
			w.kill()
		}
		return took
	}
	without, with := others(0), others(5000)
	for range 3 { // the machine has other things to do
		t.Logf("%v without the dead host, %v with it", without, with)
		if with <= without*11/10 {
			return
		}
		without, with = min(without, others(0)), min(with, others(5000))
	}
	t.Errorf("%v with a dead host, %v without", with, without)
}

// A URL that kills its workers ends among the poison, and all others are handled: those too that are
// in flight each time.
func TestAURLThatKillsItsWorkersIsPoison(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	f := open(t, func(c *fleet.Config) { c.Lease = lease })
	h := newHosts(t, 3, func(_ string, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(300 * time.Millisecond)
		}
	})
	urls := append([]string{"http://" + h.names[0] + "/slow", "http://" + h.names[2] + "/slow"}, h.urls(60)...)
	deadly := "http://" + h.names[1] + "/deadly"
	add(t, f, append([]string{deadly}, urls...))
	l := newLedger()
	deaths := 0
	waitUntil := time.Now().Add(50 * time.Second)
	for backlog(t, f) > 0 && time.Now().Before(waitUntil) {
		w := startWorker(t, f.URL(), lease, l, "FLEET_TEST_DEADLY=/deadly")
		for alive := true; alive && backlog(t, f) > 0 && time.Now().Before(waitUntil); {
			select {
			case <-w.ended:
				deaths++
				alive = false
			case <-time.After(50 * time.Millisecond):
			}
		}
		w.kill()
	}
	l.check(t, urls)
	s, err := f.Status(t.Context())
	if err != nil || s.Poison != 1 || deaths < 3 || deaths > 6 {
		t.Errorf("%d workers died, %+v, %v", deaths, s, err)
	}
	t.Logf("%d workers died of it", deaths)
}

// fill adds URLs until the broker refuses the smallest, and returns those that were counted.
func fill(t testing.TB, f *fleet.Fleet, h *hosts) (counted []string) {
	t.Helper()
	made := 0
	for _, size := range []int{1000, 100, 1} { // of what is stored at once, in URLs
		for full := false; !full; {
			var urls []string
			for range size {
				made++
				urls = append(urls, fmt.Sprintf("http://%s/%d/%s", h.names[made%len(h.names)], made, strings.Repeat("x", size)))
			}
			n, err := f.Add(t.Context(), slices.Values(urls))
			switch {
			case err == nil:
				counted = append(counted, urls...)
			case n < len(urls):
				full = true
				t.Logf("%d URLs stored, then %v", len(counted)+n, err)
			default:
				t.Fatalf("%d of %d stored, and %v", n, len(urls), err)
			}
			if made > 100_000 {
				t.Fatal("it is never full")
			}
		}
	}
	return counted
}

// The disk of the broker is full: Add says so, and what it has counted is handled when there is
// room again.
func TestTheDiskOfTheBrokerIsFull(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "max_file_store: 3MB")
	f := openAt(t, c.url(), time.Second, 1)
	h := newHosts(t, 10, nil)
	hold := make(chan struct{})
	var holding atomic.Bool
	h.handler = func(host string, w http.ResponseWriter, r *http.Request) {
		if holding.Load() {
			<-hold
		}
		slowly(5*time.Millisecond)(host, w, r)
	}
	l := newLedger()
	first := h.urls(5)
	add(t, f, first)
	startWorker(t, c.url(), time.Second, l)
	waitUntilDone(t, f, 10*time.Second)
	holding.Store(true)
	counted := append(fill(t, f, h), first...)
	holding.Store(false)
	close(hold)
	time.Sleep(2 * time.Second) // the worker cannot become the owner of anything, or write down what it does
	before := l.distinct()
	c.nodes[0].kill()
	c.configure(0, "3MB", "1GB")
	c.start(0)
	waitUntilDone(t, f, time.Minute)
	again := l.check(t, counted)
	t.Logf("%d handled while it was full, %d handled again", before, again)
	h.checkLimit(t, 4)
}

// MaxBytes keeps producers from filling the disk: workers go on, and make room.
func TestABacklogThatIsFullIsWorkedOff(t *testing.T) {
	f := open(t, func(c *fleet.Config) { c.MaxBytes = 1 << 20 })
	h := newHosts(t, 10, nil)
	counted := fill(t, f, h)
	l := newLedger()
	start(t, f, note(l))
	waitUntilDone(t, f, 30*time.Second)
	l.check(t, counted)
	more := h.urls(5)
	add(t, f, more)
	waitUntilDone(t, f, 30*time.Second)
	l.check(t, more)
}

// What workers put back is stored although the backlog is full: it would stay full otherwise.
func TestWhatIsPutBackIntoAFullBacklogIsWorkedOff(t *testing.T) {
	for name, c := range map[string]struct{ redirects, fails bool }{"redirects": {redirects: true}, "failures": {fails: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, func(c *fleet.Config) { c.MaxBytes = 128 << 10 })
			h := newHosts(t, 5, nil)
			other := newHosts(t, 1, nil)
			h.handler = func(_ string, w http.ResponseWriter, r *http.Request) {
				if c.redirects {
					w.Header().Set("Location", "http://"+other.names[0]+r.URL.Path)
					w.WriteHeader(http.StatusFound)
				}
			}
			counted := fill(t, f, h)
			l := newLedger()
			start(t, f, func(_ context.Context, d fleet.Delivery) error {
				if c.fails && d.Deliveries == 0 {
					return errors.New("not yet")
				}
				l.add(d.Request.URL)
				return nil
			})
			waitUntilDone(t, f, time.Minute)
			l.check(t, counted)
		})
	}
}

// Whatever is killed and when, nothing is lost, no limit is exceeded, and little is done again.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, 2, 3}
	if text := os.Getenv("FLEET_SEED"); text != "" {
		seeds = seeds[:1]
		fmt.Sscan(text, &seeds[0])
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { killAtRandom(t, rand.New(rand.NewPCG(seed, 13))) })
	}
}

func killAtRandom(t *testing.T, random *rand.Rand) {
	t.Parallel()
	const lease = time.Second
	c := startCluster(t, 1, "")
	f := openAt(t, c.url(), lease, 1)
	answers := make([]time.Duration, 30)
	for i := range answers {
		answers[i] = time.Duration(random.IntN(30)) * time.Millisecond
	}
	h := newHosts(t, len(answers), nil)
	h.handler = func(host string, w http.ResponseWriter, r *http.Request) {
		slowly(answers[slices.Index(h.names, host)])(host, w, r)
	}
	var urls []string
	for _, name := range h.names {
		for i := range 1 + random.IntN(250) {
			urls = append(urls, fmt.Sprintf("http://%s/%d", name, i))
		}
	}
	add(t, f, urls)
	l := newLedger()
	var workers []*process
	for range 3 {
		workers = append(workers, startWorker(t, c.url(), lease, l))
	}
	kills := 0
	for range 5 {
		time.Sleep(time.Duration(200+random.IntN(900)) * time.Millisecond)
		switch i := random.IntN(4); {
		case i == 3:
			c.nodes[0].kill()
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
			c.start(0)
		default:
			workers[i].kill()
			workers[i] = startWorker(t, c.url(), lease, l)
		}
		kills++
	}
	waitUntilDone(t, f, time.Minute)
	again := l.check(t, urls)
	_, repeated := h.counts()
	h.checkLimit(t, 2)
	t.Logf("%d URLs, %d kills: %d repeated, %d of them handled before", len(urls), kills, repeated, again)
	if repeated > kills*2*len(h.names) {
		t.Errorf("%d repeated", repeated)
	}
}
