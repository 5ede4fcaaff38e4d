package connections_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestOwnConnectionsAreClosedWhenFetchAllReturns(t *testing.T) {
	release := make(chan struct{})
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/1":
			http.Error(w, "broken", http.StatusInternalServerError)
		case "/2":
			select {
			case <-release:
			case <-req.Context().Done():
			}
		case "/3":
			w.Header().Set("Content-Length", "1000000")
			fmt.Fprint(w, "begin")
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-req.Context().Done():
			}
		default:
			fmt.Fprint(w, "ok")
		}
	})
	defer close(release)
	urls := fetchtest.Numbered(server.URL, 20)

	results := fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(200*time.Millisecond))
	fetchtest.CheckResults(t, urls, results)
	if !conns.WaitForNone() {
		open, _, total := conns.Counts()
		t.Errorf("%d of %d connections are open", open, total)
	}
	if !errors.Is(results[2].Err, fetch.ErrTimeout) || !errors.Is(results[3].Err, fetch.ErrTimeout) {
		t.Errorf("slow: %v, %v", results[2].Err, results[3].Err)
	}
	fetchtest.CheckNoLeaks(t)
}

func TestFetcherKeepsItsConnectionsUntilClose(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	urls := fetchtest.Numbered(server.URL, 20)
	f := fetchtest.NewFetcher(t, fetch.WithConcurrency(1))
	for range 3 {
		fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
	}
	if open, _, total := conns.Counts(); open != 1 || total != 1 {
		t.Errorf("%d of %d connections are open, want 1 of 1", open, total)
	}
	f.Close()
	if !conns.WaitForNone() {
		t.Error("Close left connections open")
	}
	f.Close()
	results := f.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	if err := fetch.JoinErrors(results); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseLeavesRunningCallsAlone(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(time.Millisecond)
		fmt.Fprint(w, "ok")
	})
	f := fetchtest.NewFetcher(t, fetch.WithConcurrency(4))
	urls := fetchtest.Numbered(server.URL, 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	}()
	for {
		select {
		case <-done:
			return
		default:
			f.Close()
			time.Sleep(500 * time.Microsecond)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	errorPage := bytes.Repeat([]byte("x"), 64<<10)
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "7") {
			w.WriteHeader(http.StatusInternalServerError)
			w.Write(errorPage)
			return
		}
		fmt.Fprint(w, "ok")
	})
	urls := fetchtest.Numbered(server.URL, 2000)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20))
	fetchtest.MustAllBeFine(t, urls, results)
	pages := 0
	for _, r := range results {
		if r.StatusCode == 500 && len(r.Body) == len(errorPage) {
			pages++
		}
	}
	if _, _, total := conns.Counts(); pages != 200 || total > 25 {
		t.Errorf("%d connections were opened, want at most 25; %d error pages, want 200", total, pages)
	}
}

// The pool of the own client must not be smaller than the limits: what
// waits for a connection is charged to the timeout.
func TestOwnClientHasAConnectionForEachRequestInFlight(t *testing.T) {
	const together = 8
	for name, opts := range map[string][]fetch.Option{
		"concurrency":      {fetch.WithConcurrency(together)},
		"host concurrency": {fetch.WithHostConcurrency(together)},
		"host limits": {
			fetch.WithHostConcurrency(1),
			fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Concurrency: together} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, _ := fetchtest.NewServer(t, answerWhenTogether(together))
			urls := fetchtest.Numbered(server.URL, 2*together)
			fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithTimeout(5*time.Second))...))
		})
	}
}

// answerWhenTogether answers n requests when all n have come, then the next n.
func answerWhenTogether(n int) http.HandlerFunc {
	var mu sync.Mutex
	var here int
	all := make(chan struct{})
	return func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		wait := all
		if here++; here == n {
			close(all)
			here, all = 0, make(chan struct{})
		}
		mu.Unlock()
		select {
		case <-wait:
			fmt.Fprint(w, "ok")
		case <-req.Context().Done():
		}
	}
}

// To net/http all plain HTTP behind a proxy is one host. The environment is read once,
// so that this needs a process of its own.
func TestHostsBehindAProxyDoNotWaitForEachOther(t *testing.T) {
	const hosts, behind = 5, "FETCH_TEST_BEHIND_PROXY"
	if os.Getenv(behind) != "" {
		urls := fetchtest.HostURLs(1, "a.example", "b.example", "c.example", "d.example", "e.example")
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), fetch.WithTimeout(2*time.Second)))
		return
	}
	proxy, _ := fetchtest.NewServer(t, answerWhenTogether(hosts))
	program, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), behind+"=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=", "REQUEST_METHOD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("behind the proxy: %v\n%s", err, out)
	}
}

// net/http lets a dial go on after its request has timed out.
func TestDialThatTimedOutDoesNotHoldUpTheNext(t *testing.T) {
	for name, limit := range map[string]fetch.Option{
		"host concurrency": fetch.WithHostConcurrency(1),
		"concurrency":      fetch.WithConcurrency(1),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Listener = &silentFirst{Listener: server.Listener}
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the client gives up
			server.StartTLS()
			t.Cleanup(server.Close)

			urls := fetchtest.Numbered(server.URL, 2)
			results := fetch.FetchAll(t.Context(), urls, limit, fetch.WithTimeout(700*time.Millisecond))
			fetchtest.CheckResults(t, urls, results)
			if !errors.Is(results[0].Err, fetch.ErrTimeout) {
				t.Errorf("the handshake that never ends: %v", results[0].Err)
			}
			// The certificate is unknown here, but that can only be found out on a connection.
			if _, ok := errors.AsType[*tls.CertificateVerificationError](results[1].Err); !ok {
				t.Errorf("the one after it: %v", results[1].Err)
			}
		})
	}
}

// silentFirst hands on no connection but those after the first.
type silentFirst struct {
	net.Listener
	first net.Conn
}

func (l *silentFirst) Accept() (net.Conn, error) {
	if l.first == nil {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.first = conn
	}
	return l.Listener.Accept()
}
