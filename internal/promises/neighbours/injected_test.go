package neighbours_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A clean, then an answer that no HTTP client can read, on one connection. The next
// connection is clean.
func garbledOnReuse(t *testing.T, garbled string) (target string, conns *atomic.Int32) {
	conns = new(atomic.Int32)
	address := fetchtest.ListenRaw(t, func(conn net.Conn) {
		first := conns.Add(1) == 1
		for reader, n := bufio.NewReader(conn), 0; ; n++ {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if first && n > 0 {
				io.WriteString(conn, garbled)
				return
			}
			io.WriteString(conn, fetchtest.WithLength("good"))
		}
	})
	return "http://" + address, conns
}

var garbledAnswers = map[string]string{
	"no HTTP":         "late",
	"bytes before":    "late" + fetchtest.WithLength("good"),
	"a line":          "late\r\n" + fetchtest.WithLength("good"),
	"a bad status":    "HTTP/1.1 late OK\r\n\r\n",
	"a bad header":    fetchtest.StatusOK + "late\r\n\r\n",
	"a bad length":    fetchtest.StatusOK + "Content-Length: late\r\n\r\n",
	"a bad chunk":     fetchtest.Chunked + "late\r\n",
	"a bad trailer":   fetchtest.Chunked + "0\r\nlate\r\n\r\n",
	"bytes in chunks": fetchtest.Chunked + "1\r\nxlate\r\n0\r\n\r\n",
}

// clients are those of which net/http tells whether a connection has served before.
func clients(t *testing.T) map[string]*http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return map[string]*http.Client{
		"own":      nil,
		"injected": fetchtest.NewClient(transport),
		"wrapped":  fetchtest.NewClient(fetchtest.RoundTripFunc(transport.RoundTrip)),
	}
}

func TestAGarbledAnswerOnAReusedConnectionIsTriedAgain(t *testing.T) {
	for name, garbled := range garbledAnswers {
		for kind, client := range clients(t) {
			for method, attempts := range map[string]int{"GET": 2, "PUT": 2, "POST": 1} {
				t.Run(name+"/"+kind+"/"+method, func(t *testing.T) {
					target, conns := garbledOnReuse(t, garbled)
					f := fetchtest.NewFetcher(t, fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff)
					send := func() []fetch.Result {
						req := fetchtest.NewRequest(t, method, target, strings.NewReader("body"))
						return f.DoAll(t.Context(), []*http.Request{req})
					}
					fetchtest.MustAllBeFine(t, []string{target}, send())
					results := send()
					fetchtest.CheckResults(t, []string{target}, results)
					r := results[0]
					if r.Attempts != attempts {
						t.Errorf("%d attempts, want %d: %v", r.Attempts, attempts, r.Err)
					}
					if attempts == 2 && (string(r.Body) != "good" || conns.Load() != 2) || attempts == 1 && !errors.Is(r.Err, fetch.ErrProtocol) {
						t.Errorf("got %q over %d connections: %v", r.Body, conns.Load(), r.Err)
					}
				})
			}
		}
	}
}

// garbledStarts are answers that do not begin as one: bytes that came late.
var garbledStarts = []string{"no HTTP", "bytes before", "a line"}

// A request without a body goes another way with the own client. It needs no other attempt where
// the bytes cannot be those of an answer.
func TestAGarbledAnswerToARequestWithoutABodyIsTriedAgain(t *testing.T) {
	for name, garbled := range garbledAnswers {
		for kind, client := range clients(t) {
			for method, attempts := range map[string]int{"GET": 2, "DELETE": 2, "POST": 1} {
				isGood := attempts == 2
				if kind == "own" && slices.Contains(garbledStarts, name) {
					attempts = 1
				}
				t.Run(name+"/"+kind+"/"+method, func(t *testing.T) {
					target, conns := garbledOnReuse(t, garbled)
					f := fetchtest.NewFetcher(t, fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff)
					fetchtest.MustFetch(t, f, target)
					results := f.DoAll(t.Context(), []*http.Request{fetchtest.NewRequest(t, method, target, nil)})
					fetchtest.CheckResults(t, []string{target}, results)
					r := results[0]
					if r.Attempts != attempts {
						t.Errorf("%d attempts, want %d: %v", r.Attempts, attempts, r.Err)
					}
					if isGood && (string(r.Body) != "good" || conns.Load() != 2) || !isGood && !errors.Is(r.Err, fetch.ErrProtocol) {
						t.Errorf("got %q over %d connections: %v", r.Body, conns.Load(), r.Err)
					}
				})
			}
		}
	}
}

func TestAGarbledAnswerOnANewConnectionIsFinal(t *testing.T) {
	for name, garbled := range garbledAnswers {
		for kind, client := range clients(t) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				target := fetchtest.Listen(t, func(conn net.Conn, _ string) { io.WriteString(conn, garbled) })
				r := fetchtest.GetOne(t, target, fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff)
				if r.Attempts != 1 || !errors.Is(r.Err, fetch.ErrProtocol) {
					t.Errorf("%d attempts: %v", r.Attempts, r.Err)
				}
			})
		}
	}
}

// Reuse changes nothing for answers that can be read and are wrong in another way.
func TestOtherErrorsOnAReusedConnectionAreFinal(t *testing.T) {
	for name, answer := range map[string]string{
		"a header too large": fetchtest.StatusOK + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 20_000),
		"no gzip":            fetchtest.WithLength("hello, this is plain", "Content-Encoding: gzip\r\n"),
		"status 101":         "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		for kind, client := range clients(t) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				target, _ := garbledOnReuse(t, answer)
				f := fetchtest.NewFetcher(t, fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff)
				fetchtest.MustFetch(t, f, target)
				results := f.FetchAll(t.Context(), []string{target})
				fetchtest.CheckResults(t, []string{target}, results)
				if r := results[0]; r.Attempts != 1 || !errors.Is(r.Err, fetch.ErrProtocol) {
					t.Errorf("%d attempts: %v", r.Attempts, r.Err)
				}
			})
		}
	}
}

// Bytes that come a moment after an answer hit the next URL, which is fetched over another
// connection.
func TestBytesThatComeLateHurtNoNeighbourWithRetries(t *testing.T) {
	quiet(t)
	var late *unclean
	for i := range uncleans {
		if uncleans[i].name == "204, and bytes later" {
			late = &uncleans[i]
		}
	}
	for kind, client := range clients(t) {
		t.Run(kind, func(t *testing.T) {
			target := late.serve(t)
			var urls []string
			for i := range 100 {
				urls = append(urls, fmt.Sprintf("%s/unclean/%d", target, i), fmt.Sprintf("%s/clean/%d", target, i))
			}
			start := time.Now()
			results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithConcurrency(1), fetch.WithRetries(5), fetch.WithBackoff(0, 0))
			fetchtest.MustAllBeFine(t, urls, results)
			for i, r := range results {
				if i%2 == 1 && string(r.Body) != strings.TrimPrefix(r.URL, target) {
					t.Errorf("%s got %q", r.URL, r.Body)
				}
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
