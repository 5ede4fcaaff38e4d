package soundness_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The torture runs a small scenario over connections in memory and counts every
// operation: dials, reads, writes, bodies, hooks. Then it runs the scenario again
// with one of them failing, for each operation and each way to fail.

// A harm is done to an operation: a way to fail.
type harm string

const (
	sound   harm = ""
	fails   harm = "an error"
	ends    harm = "an early end"
	short   harm = "a short count"
	idles   harm = "a count of zero"
	excess  harm = "an impossible count"
	blocks  harm = "blocking"
	late    harm = "coming too late"
	nothing harm = "neither a response nor an error"
	lies    harm = "the wrong answer"
	panics  harm = "a panic"
	exits   harm = "Goexit"
)

// harmRate: one of so many operations fails, where several do.
const harmRate = 25

// harmsOf has the ways in which each kind of operation can fail. Dials and connections
// run on goroutines of net/http, where nobody can catch a panic.
var harmsOf = map[string][]harm{
	"dial":           {fails, blocks, late},
	"read":           {fails, ends, short, blocks},
	"write":          {fails, short, blocks},
	"close":          {fails},
	"deadline":       {fails},
	"round trip":     {fails, nothing, panics, exits},
	"response read":  {fails, ends, short, idles, excess, blocks, panics, exits},
	"response close": {fails, panics, exits},
	"request read":   {fails, short, blocks, panics, exits},
	"request close":  {fails, panics, exits},
	"GetBody":        {fails, panics, exits},
	"RequestFunc":    {fails, blocks, panics, exits},
	"CheckRedirect":  {fails, blocks, panics, exits},
	"Jar":            {panics, exits},
	"RetryIf":        {lies, panics, exits},
	"BodyFunc":       {fails, short, blocks, panics, exits},
	"HostLimits":     {fails, panics, exits},
	"Limiter":        {fails, blocks, panics, exits},
}

func isNetwork(kind string) bool {
	return slices.Contains([]string{"dial", "read", "write", "close", "deadline"}, kind)
}

// An operation is the nth call of its kind for a host, or for one of its connections.
type operation struct {
	kind, host, conn string
	n                int
}

func (o operation) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %d", o.kind, o.host, o.conn, o.n)), " ")
}

// errTorn is what operations of the network fail with: a connection that was reset.
// errHook is what the others fail with.
var (
	errTorn = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	errHook = errors.New("torture")
)

// tear has a name to look for in a stack.
func tear() { panic(errHook) }

const (
	tortureTimeout = 10 * time.Second
	tortureRetries = 2
)

// A torture is one run of the scenario.
type torture struct {
	t       *testing.T
	stories []story
	decide  func(operation) harm

	listener  *fetchtest.MemoryListener
	transport *http.Transport
	flight    fetchtest.InFlight
	starts    fetchtest.StartLog

	mu      sync.Mutex
	calm    bool // nothing is counted, and nothing fails
	counts  map[operation]int
	ops     []operation
	struck  int
	dials   map[string]int // of each host
	asked   map[string]int // the server, by path
	open    map[string]int // bodies
	bodies  map[int]string // that the BodyFunc got
	permits int
	used    int
}

func newTorture(t *testing.T, stories []story, decide func(operation) harm) *torture {
	r := &torture{
		t: t, stories: stories, decide: decide,
		counts: map[operation]int{},
		dials:  map[string]int{}, asked: map[string]int{},
		open: map[string]int{}, bodies: map[int]string{},
	}
	r.listener = fetchtest.ServePipes(t, http.HandlerFunc(r.serve))
	r.transport = &http.Transport{DialContext: r.dial}
	t.Cleanup(func() {
		time.Sleep(time.Minute) // for dials that come too late
		r.transport.CloseIdleConnections()
	})
	return r
}

// strike counts an operation and says how it is to fail.
func (r *torture) strike(kind, host, conn string) harm {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calm {
		return sound
	}
	op := operation{kind: kind, host: host, conn: conn}
	r.counts[op]++
	op.n = r.counts[op]
	r.ops = append(r.ops, op)
	f := r.decide(op)
	if f != sound {
		r.struck++
	}
	return f
}

// explode does what all strangers' code can do.
func explode(f harm) {
	switch f {
	case panics:
		tear()
	case exits:
		runtime.Goexit()
	}
}

func (r *torture) pacify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm = true
}

func (r *torture) opened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[what]++
}

func (r *torture) closed(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[what]--
}
