package soundness_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Each host of the scenario but plain.test serves one URL, so that a harm has one victim.

var (
	largeBody   = strings.Repeat("0123456789abcdef", 40<<6)
	requestText = strings.Repeat("request ", 1<<9)
)

// A story is a URL and the end that it must come to when nothing fails.
type story struct {
	method, url string
	final       string // if another
	body        string
	attempts    int
	once        bool // the request's body cannot be had again
}

// has reports whether the story takes the host in; without a host it may be any.
func (s story) has(host string) bool {
	return host == "" || hostOfURL(s.url) == host || hostOfURL(s.final) == host
}

var stories = []story{
	{method: "GET", url: "http://plain.test/1", body: "plain", attempts: 1},
	{method: "GET", url: "http://plain.test/2", body: "plain", attempts: 1},
	{method: "GET", url: "http://moved.test/", final: "http://landed.test/", body: "landed", attempts: 1},
	{method: "GET", url: "http://busy.test/", body: "busy no more", attempts: 2},
	{method: "GET", url: "http://large.test/", body: largeBody, attempts: 1},
	{method: "GET", url: "http://chunked.test/", body: largeBody, attempts: 1},
	{method: "POST", url: "http://post.test/", final: "http://post.test/again", body: requestText, attempts: 1},
	{method: "PUT", url: "http://put.test/", body: requestText, attempts: 2},
	{method: "POST", url: "http://once.test/", body: requestText, attempts: 1, once: true},
}

// storiesAround returns the stories of a host, and those before and after: the rest is too
// far away to matter. Without a host it returns all.
func storiesAround(host string) (around []story) {
	for i, s := range stories {
		before, after := stories[(i+len(stories)-1)%len(stories)], stories[(i+1)%len(stories)]
		if s.has(host) || before.has(host) || after.has(host) {
			around = append(around, s)
		}
	}
	return around
}

func (r *torture) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.asked[req.Host+req.URL.Path]++
	first := r.asked[req.Host+req.URL.Path] == 1
	r.mu.Unlock()
	switch req.Host {
	case "plain.test":
		io.WriteString(w, "plain")
	case "moved.test":
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		http.Redirect(w, req, "http://landed.test/", http.StatusFound)
	case "landed.test":
		io.WriteString(w, "landed")
	case "busy.test":
		if first {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "busy no more")
	case "large.test":
		w.Header().Set("Content-Length", fmt.Sprint(len(largeBody)))
		io.WriteString(w, largeBody)
	case "chunked.test":
		w.Header().Set("Connection", "close")
		for chunk := range slices.Chunk([]byte(largeBody), 32<<10) {
			w.Write(chunk)
			w.(http.Flusher).Flush()
		}
	case "put.test":
		if first {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
		w.Write(body)
	case "post.test":
		if req.URL.Path == "/" {
			http.Redirect(w, req, "/again", http.StatusTemporaryRedirect)
			return
		}
		w.Write(body)
	case "once.test":
		w.Write(body)
	}
}

// requests yields the requests of the scenario.
func (r *torture) requests(yield func(*http.Request) bool) {
	for _, story := range r.stories {
		req := fetchtest.NewRequest(r.t, story.method, story.url, nil)
		if story.method != "GET" {
			// Else net/http would not look into bodies of unknown length at once.
			req.ContentLength = int64(len(requestText))
			req.Body = r.newRequestBody(req.URL.Host)
			req.Header.Set("Idempotency-Key", "1")
			if !story.once {
				req.GetBody = r.getBody(req.URL.Host)
			}
		}
		if !yield(req) {
			return
		}
	}
}

// plainOptions have no hook: what fails is the network, and bodies.
func (r *torture) plainOptions(concurrency int) []fetch.Option {
	return []fetch.Option{
		fetchtest.Over(r.roundTrip),
		fetch.WithConcurrency(concurrency),
		fetch.WithHostConcurrency(1),
		fetch.WithTimeout(tortureTimeout),
		fetch.WithRetries(tortureRetries),
		fetch.WithBackoff(time.Second, time.Second),
		fetch.WithRate(100, 1),
	}
}

// hookedOptions have every hook there is.
func (r *torture) hookedOptions(concurrency int) []fetch.Option {
	return append(r.plainOptions(concurrency),
		fetch.WithClient(&http.Client{
			Transport:     fetchtest.RoundTripFunc(r.roundTrip),
			Jar:           tortureJar{r},
			CheckRedirect: r.checkRedirect,
		}),
		fetch.WithRequestFunc(r.requestFunc),
		fetch.WithBodyFunc(r.bodyFunc),
		fetch.WithRetryIf(r.retryIf),
		fetch.WithHostLimits(r.hostLimits),
		fetch.WithLimiter(fetchtest.LimiterFunc(r.limiter)),
	)
}

func (r *torture) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	r.mu.Lock()
	r.dials[host]++
	name := fmt.Sprintf("conn %d", r.dials[host])
	r.mu.Unlock()
	switch r.strike("dial", host, "") {
	case fails:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case blocks:
		return nil, fetchtest.UntilDone(ctx)
	case late:
		time.Sleep(2 * tortureTimeout)
	}
	conn, err := r.listener.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	dead, _ := net.Pipe()
	return &tortureConn{Conn: conn, dead: dead, run: r, host: host, name: name}, nil
}

// A tortureConn blocks on the other half of a dead pipe, which knows deadlines as well.
type tortureConn struct {
	net.Conn
	dead       net.Conn
	run        *torture
	host, name string
}

func (c *tortureConn) Read(p []byte) (int, error) {
	switch c.run.strike("read", c.host, c.name) {
	case fails:
		return 0, errTorn
	case ends:
		return 0, io.EOF
	case blocks:
		n, err := c.dead.Read(p)
		return n, asSocket(err)
	case short:
		p = p[:1]
	}
	n, err := c.Conn.Read(p)
	return n, asSocket(err)
}

func (c *tortureConn) Write(p []byte) (int, error) {
	switch c.run.strike("write", c.host, c.name) {
	case fails:
		return 0, errTorn
	case blocks:
		n, err := c.dead.Write(p)
		return n, asSocket(err)
	case short:
		n, _ := c.Conn.Write(p[:len(p)/2])
		return n, errTorn
	}
	n, err := c.Conn.Write(p)
	return n, asSocket(err)
}

// asSocket gives the errors of a pipe those of a socket.
func asSocket(err error) error {
	if err == io.ErrClosedPipe {
		return net.ErrClosed
	}
	return err
}

func (c *tortureConn) Close() error {
	c.dead.Close()
	err := c.Conn.Close()
	if c.run.strike("close", c.host, c.name) == fails {
		return errTorn
	}
	return err
}

func (c *tortureConn) SetDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetDeadline)
}

func (c *tortureConn) SetReadDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetReadDeadline)
}

func (c *tortureConn) SetWriteDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetWriteDeadline)
}

func (c *tortureConn) setDeadline(d time.Time, set func(net.Conn, time.Time) error) error {
	if c.run.strike("deadline", c.host, c.name) == fails {
		return errTorn
	}
	set(c.dead, d)
	return set(c.Conn, d)
}
