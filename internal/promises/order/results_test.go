package order_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A URL gives the same result alone and among hostile ones.
func TestFailureOfOneURLChangesNoOtherResult(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/good":
			fmt.Fprintf(w, "good %s", req.URL.RawQuery)
		case "/moved":
			http.Redirect(w, req, "/good?moved", http.StatusFound)
		case "/error":
			http.Error(w, "broken", http.StatusInternalServerError)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			raw := map[string]string{
				"/silent":    "",
				"/garbage":   "\x00\xff garbage\r\n\r\n",
				"/truncated": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
				"/switch":    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
				"/loop":      "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
				"/chunks":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
			}
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			io.WriteString(conn, raw[req.URL.Path])
			conn.Close()
		}
	})
	var good, hostile []string
	for i := range 20 {
		good = append(good, fmt.Sprintf("%s/good?%d", server.URL, i))
	}
	for _, path := range []string{"/moved", "/error", "/empty"} {
		good = append(good, server.URL+path)
	}
	for _, path := range []string{"/silent", "/garbage", "/truncated", "/switch", "/loop", "/chunks"} {
		hostile = append(hostile, server.URL+path, server.URL+path)
	}
	hostile = append(hostile, "http://127.0.0.1:1/", "://", "ftp://host/")

	type outcome struct {
		status, redirects int
		body, final       string
		err               string
	}
	summary := func(urls []string, results []fetch.Result) map[string]outcome {
		fetchtest.CheckResults(t, urls, results)
		all := map[string]outcome{}
		for _, r := range results {
			all[r.URL] = outcome{r.StatusCode, r.Redirects, string(r.Body), r.FinalURL, fmt.Sprint(r.Err)}
		}
		return all
	}
	alone := summary(good, fetch.FetchAll(t.Context(), good))

	mixed := slices.Concat(good, hostile)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	among := summary(mixed, fetch.FetchAll(t.Context(), mixed, fetch.WithConcurrency(8)))
	for _, u := range good {
		if alone[u].err != "<nil>" || alone[u] != among[u] {
			t.Errorf("%s:\nalone %+v\namong %+v", u, alone[u], among[u])
		}
	}
	for _, u := range hostile {
		if among[u].err == "<nil>" {
			t.Errorf("%s: no error: %+v", u, among[u])
		}
	}
}
