package order_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestResponsesWithoutBodyAreComplete(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodHead || req.URL.Path == "/304" {
			// More than WithMaxBody allows, but it is only announced.
			w.Header().Set("Content-Length", "100000")
		}
		switch req.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		}
	})
	var reqs []*http.Request
	var urls []string
	for _, r := range []string{"HEAD /", "GET /204", "HEAD /204", "GET /304", "GET /empty"} {
		method, path, _ := strings.Cut(r, " ")
		req, _ := http.NewRequest(method, server.URL+path, nil)
		reqs, urls = append(reqs, req), append(urls, req.URL.String())
	}
	for name, opts := range map[string][]fetch.Option{
		"own client":      {fetch.WithMaxBody(1000)},
		"injected client": {fetch.WithMaxBody(1000), fetch.WithClient(server.Client())},
	} {
		t.Run(name, func(t *testing.T) {
			results := fetchtest.NewFetcher(t, opts...).DoAll(t.Context(), reqs)
			fetchtest.CheckResults(t, urls, results)
			for i, want := range []int{200, 204, 204, 304, 200} {
				if r := results[i]; r.Err != nil || r.StatusCode != want || len(r.Body) != 0 {
					t.Errorf("%s %s: status %d, %d bytes, error %v", reqs[i].Method, r.URL, r.StatusCode, len(r.Body), r.Err)
				}
			}
			if got := results[0].Header.Get("Content-Length"); got != "100000" {
				t.Errorf("Content-Length of HEAD is %q", got)
			}
		})
	}
}

func TestJSONDecodesTheBodyOrSaysWhyNot(t *testing.T) {
	urls := []string{"http://host/good", "http://host/bad?token=canary99", "http://host/missing?token=canary99", "http://host/refused"}
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		switch req.URL.Path {
		case "/good":
			return fetchtest.Respond(req, 200, `{"name":"Ann"}`), nil
		case "/bad":
			return fetchtest.Respond(req, 200, `{"name":`), nil
		case "/missing":
			return fetchtest.Respond(req, 404, `{"name":"none"}`), nil
		}
		return nil, syscall.ECONNREFUSED
	}))
	fetchtest.CheckResults(t, urls, results)
	var user struct{ Name string }

	if err := results[0].JSON(&user); err != nil || user.Name != "Ann" {
		t.Errorf("good: %q, %v", user.Name, err)
	}
	err := results[1].JSON(&user)
	if _, ok := errors.AsType[*json.SyntaxError](err); !ok || !strings.Contains(err.Error(), "http://host/bad") {
		t.Errorf("bad: %v", err)
	}
	fetchtest.CheckError(t, urls[1], err)
	err = results[2].JSON(&user)
	if status, ok := errors.AsType[*fetch.StatusError](err); !ok || status.StatusCode != 404 || user.Name != "Ann" {
		t.Errorf("missing: %v, name %q", err, user.Name)
	}
	fetchtest.CheckError(t, urls[2], err)
	if err := results[3].JSON(&user); err != results[3].Err || err == nil {
		t.Errorf("refused: %v", err)
	}
}

func TestJoinErrorsWrapsAllErrors(t *testing.T) {
	urls := append(fetchtest.Numbered("http://fine", 3), "http://refused/", "ftp://host/")
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "refused" {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return fetchtest.Respond(req, 404, ""), nil
	}))
	fetchtest.CheckResults(t, urls, results)
	err := fetch.JoinErrors(results)
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, fetch.ErrInvalidURL) || errors.Is(err, fetch.ErrTimeout) {
		t.Errorf("joined: %v", err)
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok || !strings.Contains(err.Error(), "2 of 5") {
		t.Errorf("joined: %v", err)
	}
	for _, none := range [][]fetch.Result{nil, {}, results[:3]} {
		if err := fetch.JoinErrors(none); err != nil {
			t.Errorf("of %d without error: %v", len(none), err)
		}
	}
	many := slices.Repeat(results[3:4], 100_000)
	if text := fetch.JoinErrors(many).Error(); len(text) > 10_000 {
		t.Errorf("the text of %d errors has %d bytes", len(many), len(text))
	}
}
