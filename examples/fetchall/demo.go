package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/batchhttp/fetch"
	"golang.org/x/time/rate"
)

// A demo is a handful of servers inside this process, and URLs of theirs, of
// which some are meant to fail.
type demo struct {
	servers []*demoServer
	urls    []demoURL // by Result.Index
	limited string    // the host that allows only a few requests a second
	wrong   []string  // what was not as expected
}

type demoServer struct {
	name, about string
	base        string // such as "http://127.0.0.1:1234"
	server      *http.Server
	done        int
	after       time.Duration // when the last of its URLs was done
}

type demoURL struct {
	url    string
	server *demoServer
	want   func(fetch.Result) bool
}

// runDemo fetches the demo's URLs, and reports whether all is as expected.
func runDemo(ctx context.Context, stop func(), cfg *config) bool {
	d, err := startDemo()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetchall: demo:", err)
		return false
	}
	defer d.close()
	d.printIntro(cfg.text())
	cfg.options = append(cfg.options, d.options()...)
	fetchInput(ctx, stop, cfg, input{urls: slices.Values(d.list()), total: len(d.urls)}, d.check)
	return d.printVerdict(cfg.text())
}

// demoRate is what the limited server allows in a second.
const demoRate = 4

// startDemo starts the servers. The slow one comes first in the list, where
// in a plain pool of workers it would hold up all others.
func startDemo() (*demo, error) {
	d := &demo{}
	slow := d.start("slow", "takes 0.5 s to 1.3 s to answer, comes first in the list", slowly)
	fast := d.start("fast", "answers at once", page)
	redirecting := d.start("redirecting", "sends everybody to fast, one in circles", redirectTo(fast))
	failing := d.start("failing", "404, 500, 503, a body that breaks off", failure)
	gone := d.start("gone", "nobody listens there", nil)
	large := d.start("large", "bodies of 4 MiB, and one above the limit of 10 MiB", largeBody)
	limited := d.start("limited", fmt.Sprintf("allows %d requests a second, answers 429 to more", demoRate), limit(demoRate))
	for _, s := range d.servers {
		if s.base == "" {
			d.close()
			return nil, errors.New("cannot listen on a port of 127.0.0.1")
		}
	}
	d.limited = strings.TrimPrefix(limited.base, "http://")

	d.add(40, slow, "/slow/%d", succeeds)
	d.add(32, fast, "/fast/%d", succeeds)
	d.add(5, redirecting, "/moved/%d", succeeds)
	d.add(1, redirecting, "/circle", failsWith(fetch.ErrRedirect))
	for _, code := range []int{404, 500, 503} {
		d.add(1, failing, fmt.Sprintf("/failing/%d", code), hasStatus(code))
	}
	d.add(1, failing, "/failing/halfway", failsWith(fetch.ErrTruncated))
	d.add(3, gone, "/gone/%d", cannotConnect)
	d.add(3, large, "/large/4?n=%d", succeeds)
	d.add(1, large, "/large/12", failsWith(fetch.ErrBodyTooLarge))
	d.add(11, limited, "/limited/%d", succeeds)
	return d, nil
}

// start starts a server, or with a nil handler only reserves an address.
func (d *demo) start(name, about string, h http.HandlerFunc) *demoServer {
	s := &demoServer{name: name, about: about}
	d.servers = append(d.servers, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s
	}
	s.base = "http://" + l.Addr().String()
	if h == nil {
		l.Close()
		return s
	}
	s.server = &http.Server{Handler: h}
	go s.server.Serve(l) // until close
	return s
}

func (d *demo) close() {
	for _, s := range d.servers {
		if s.server != nil {
			s.server.Close()
		}
	}
}

// add puts n URLs into the list; a verb in path gets their number.
func (d *demo) add(n int, s *demoServer, path string, want func(fetch.Result) bool) {
	for i := range n {
		p := path
		if strings.Contains(path, "%d") {
			p = fmt.Sprintf(path, i+1)
		}
		d.urls = append(d.urls, demoURL{s.base + p, s, want})
	}
}

func (d *demo) list() []string {
	urls := make([]string, len(d.urls))
	for i, u := range d.urls {
		urls[i] = u.url
	}
	return urls
}

// options keeps the limited server's limit: a rate for this host alone.
func (d *demo) options() []fetch.Option {
	return []fetch.Option{fetch.WithHostLimits(func(host string) fetch.HostLimits {
		if host == d.limited {
			return fetch.HostLimits{Rate: demoRate, Burst: 1}
		}
		return fetch.HostLimits{} // the limits of all hosts
	})}
}

// check compares r with what was to be expected, and returns a note for its row.
func (d *demo) check(r fetch.Result, after time.Duration) string {
	u := d.urls[r.Index]
	u.server.done++
	u.server.after = after
	switch {
	case !u.want(r):
		d.wrong = append(d.wrong, u.url)
		return "NOT expected"
	case !r.OK():
		return "expected"
	}
	return ""
}

func (d *demo) printIntro(w io.Writer) {
	fmt.Fprintf(w, "A demo: %d URLs of these servers, all on this machine.\n\n", len(d.urls))
	for _, s := range d.servers {
		fmt.Fprintf(w, "  %-12s %-23s %s\n", s.name, s.base, s.about)
	}
	fmt.Fprintln(w)
}

// printVerdict says when each server's URLs were done, and reports whether all went as it should.
func (d *demo) printVerdict(w io.Writer) bool {
	fmt.Fprint(w, "\nEach server's last URL was done after:\n")
	done := 0
	for _, s := range d.servers {
		done += s.done
		fmt.Fprintf(w, "  %-12s %8s  %s\n", s.name, formatTime(s.after), count(s.done, "URL"))
	}
	switch {
	case len(d.wrong) > 0:
		fmt.Fprintf(w, "\nNot as it should be, if the flags did not ask for it:\n  %s\n", strings.Join(d.wrong, "\n  "))
	case done < len(d.urls):
		fmt.Fprintf(w, "\n%d of %d URLs were done.\n", done, len(d.urls))
	default:
		fmt.Fprintln(w, "\nAll went as it should: what failed was meant to.")
	}
	return len(d.wrong) == 0 && done == len(d.urls)
}

// What is expected of a URL.

func succeeds(r fetch.Result) bool { return r.OK() }

func hasStatus(code int) func(fetch.Result) bool {
	return func(r fetch.Result) bool { return r.Err == nil && r.StatusCode == code }
}

func failsWith(target error) func(fetch.Result) bool {
	return func(r fetch.Result) bool { return errors.Is(r.Err, target) }
}

func cannotConnect(r fetch.Result) bool {
	e, ok := errors.AsType[*net.OpError](r.Err)
	return ok && e.Op == "dial"
}

// What the servers do.

func page(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "<h1>%s</h1>\n%s", r.URL.Path, strings.Repeat("All is well. ", 100))
}

func slowly(w http.ResponseWriter, r *http.Request) {
	var n int
	fmt.Sscanf(r.URL.Path, "/slow/%d", &n)
	select {
	case <-time.After(500*time.Millisecond + time.Duration(n%5)*200*time.Millisecond):
		page(w, r)
	case <-r.Context().Done():
	}
}

func redirectTo(s *demoServer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/circle" {
			http.Redirect(w, r, "/circle", http.StatusFound)
			return
		}
		http.Redirect(w, r, s.base+r.URL.Path, http.StatusMovedPermanently)
	}
}

func failure(w http.ResponseWriter, r *http.Request) {
	var code int
	if n, _ := fmt.Sscanf(r.URL.Path, "/failing/%d", &code); n == 1 {
		http.Error(w, http.StatusText(code), code)
		return
	}
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, "This is only the beginning of")
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // closes the connection
}

func largeBody(w http.ResponseWriter, r *http.Request) {
	var mib int
	fmt.Sscanf(r.URL.Path, "/large/%d", &mib)
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// limit allows n requests a second, and a few at once. What goes unused is
// saved up, so that requests which a busy machine has delayed are let through.
func limit(n int) http.HandlerFunc {
	const saved, first = 1000, 3
	l := rate.NewLimiter(rate.Limit(n), saved)
	l.AllowN(time.Now(), saved-first)
	return func(w http.ResponseWriter, r *http.Request) {
		if !l.Allow() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		page(w, r)
	}
}
