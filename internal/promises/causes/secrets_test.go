package causes_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// secretAnswers have the canary where a server may have put a secret.
func secretAnswers() map[string]string {
	const c = fetchtest.Canary
	ok := fetchtest.StatusOK
	return map[string]string{
		"a cookie with a control character": ok + "Set-Cookie: sid=" + c + "\x01\r\n\r\n",
		"a line without colon":              ok + c + "\r\n\r\n",
		"a name with a control character":   ok + c + "\x01: x\r\n\r\n",
		"a name that is empty":              ok + ": " + c + "\r\n\r\n",
		"a folded line":                     ok + "X: a\r\n " + c + "\x00\r\n\r\n",
		"a folded first line":               ok + " " + c + "\r\n\r\n",
		"a length":                          ok + "Content-Length: " + c + "\r\n\r\n",
		"two lengths":                       ok + "Content-Length: 1\r\nContent-Length: " + c + "\r\n\r\n",
		"a status":                          "HTTP/1.1 " + c + " OK\r\n\r\n",
		"a status of many digits":           "HTTP/1.1 2000 " + c + "\r\n\r\n",
		"a version":                         "HTTP/" + c + " 200 OK\r\n\r\n",
		"a status line":                     c + "\r\n\r\n",
		"a status line, cut":                c,
		"a head, cut":                       ok + "Set-Cookie: " + c,
		"a transfer encoding":               ok + "Transfer-Encoding: " + c + "\r\n\r\n",
		"two transfer encodings":            ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: " + c + "\r\n\r\n",
		"a trailer that is announced":       ok + "Transfer-Encoding: chunked\r\nTrailer: Content-Length, " + c + "\r\n\r\n",
		"an early hint":                     "HTTP/1.1 103 " + c + "\r\n" + c + "\r\n\r\n",
		"a chunk size":                      fetchtest.Chunked + c + "\r\nx\r\n0\r\n\r\n",
		"a chunk extension":                 fetchtest.Chunked + "1;" + c + "\rx\r\nx\r\n0\r\n\r\n",
		"bytes behind a chunk":              fetchtest.Chunked + "1\r\nx" + c + "\r\n0\r\n\r\n",
		"a trailer":                         fetchtest.Chunked + "0\r\n" + c + "\r\n\r\n",
		"a trailer's value":                 fetchtest.Chunked + "0\r\nX: " + c + "\x01\r\n\r\n",
		"a trailer's name":                  fetchtest.Chunked + "0\r\n" + c + "\x01: x\r\n\r\n",
		"a trailer, cut":                    fetchtest.Chunked + "0\r\nX: " + c,
		"a Location":                        "HTTP/1.1 302 Found\r\nLocation: http://a b/" + c + "\r\n\r\n",
		"a Location of another scheme":      "HTTP/1.1 302 Found\r\nLocation: ftp://a/?" + c + "\r\n\r\n",
		"a coding":                          fetchtest.WithLength("hello", "Content-Encoding: gzip, "+c+", gzip\r\n"),
		"a body cut":                        ok + "X: " + c + "\r\nContent-Length: 100\r\n\r\n" + c,
	}
}

// plainAndWrapped are an own client, an injected Transport, and one that a RoundTripper of others wraps.
func plainAndWrapped(t testing.TB) map[string]*http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return map[string]*http.Client{
		"own":      nil,
		"injected": fetchtest.NewClient(transport),
		"wrapped": fetchtest.NewClient(fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := transport.RoundTrip(req)
			if err != nil {
				err = fmt.Errorf("middleware: %w", err)
			}
			return resp, err
		})),
		"wrapped as text": fetchtest.NewClient(fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := transport.RoundTrip(req)
			if err != nil {
				err = fmt.Errorf("middleware: %v", err)
			}
			return resp, err
		})),
	}
}

func TestNoErrorShowsBytesOfAnAnswer(t *testing.T) {
	for name, answer := range secretAnswers() {
		for kind, client := range plainAndWrapped(t) {
			t.Run(name+"/"+kind, func(t *testing.T) { checkAnswer(t, client, answer) })
		}
	}
}

func checkAnswer(t *testing.T, client *http.Client, answer string) {
	t.Helper()
	target := fetchtest.Listen(t, func(conn net.Conn, _ string) { io.WriteString(conn, answer) })
	r := fetchtest.GetOne(t, target, fetch.WithClient(client), fetch.WithRetries(1), fetchtest.WithoutBackOff)
	fetchtest.CheckNoSecret(t, []fetch.Result{r})
}

// FuzzAnswer has a server answer with any bytes around the canary.
func FuzzAnswer(f *testing.F) {
	for _, answer := range secretAnswers() {
		before, after, _ := strings.Cut(answer, fetchtest.Canary)
		f.Add([]byte(before), []byte(after))
	}
	f.Fuzz(func(t *testing.T, before, after []byte) {
		if len(before)+len(after) > 5000 {
			t.Skip("longer ones are no more telling")
		}
		answer := string(slices.Concat(before, []byte(fetchtest.Canary), after))
		synctest.Test(t, func(t *testing.T) {
			dial := func(context.Context, string, string) (net.Conn, error) {
				client, server := fetchtest.NewMemoryConns("a.example:80")
				go func() {
					defer server.Close()
					buf := make([]byte, 4096)
					if _, err := server.Read(buf); err == nil {
						io.WriteString(server, answer)
					}
				}()
				return client, nil
			}
			transport := &http.Transport{DialContext: dial}
			defer transport.CloseIdleConnections()
			for _, rt := range []http.RoundTripper{transport, fetchtest.RoundTripFunc(transport.RoundTrip)} {
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithClient(fetchtest.NewClient(rt)), fetch.WithMaxRedirects(0), fetch.WithTimeout(time.Second))
				if r.StatusCode == http.StatusSwitchingProtocols {
					continue
				}
				fetchtest.CheckNoSecret(t, []fetch.Result{r})
			}
		})
	})
}

func TestWhoeverWritesAnErrorItDoesNotShowTheSecretsOfTheURL(t *testing.T) {
	const token = "s3cret"
	for name, rawURL := range map[string]string{
		"a query":               "http://h.example/p?token=" + token,
		"a query without a key": "http://h.example/p?" + token,
		"two pairs":             "http://h.example/p?z=1&token=" + token,
		"an escaped value":      "http://h.example/p?token=" + token + "%2F%20" + token,
		"a fragment":            "http://h.example/p#" + token,
		"a user and a password": "http://user:" + token + "@h.example/p",
		"a user":                "http://" + token + "@h.example/p",
		"everything":            "http://u" + token + ":p" + token + "@h.example/p?q" + token + "=v" + token + "#f" + token,
	} {
		given, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		for kind, text := range map[string]string{
			"as given":         "GET " + rawURL + " giving up",
			"quoted":           fmt.Sprintf("GET %q giving up", rawURL),
			"escaped":          "GET " + url.QueryEscape(rawURL) + " giving up",
			"its query":        "giving up: " + given.RawQuery + " " + given.Fragment + " " + given.User.String(),
			"its values":       fmt.Sprint("giving up: ", given.Query(), given.Fragment, given.User),
			"decoded":          "giving up: " + unescape(given.RawQuery),
			"in upper case":    "GIVING UP " + strings.ToUpper(rawURL),
			"at the very end":  strings.Repeat("x ", 145) + rawURL, // where a text is cut short
			"as Authorization": "sent " + basicOf(given),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) { checkToken(t, rawURL, token, errors.New(text)) })
		}
	}
}

func unescape(query string) string {
	plain, _ := url.QueryUnescape(query)
	return plain
}

func basicOf(u *url.URL) string {
	password, _ := u.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
}

// checkToken has a RoundTripper, a body, a BodyFunc, a RequestFunc and a context end a URL with the error.
func checkToken(t *testing.T, rawURL, token string, cause error) {
	failing := fetchtest.Over(fetchtest.Failing(cause))
	wrapped := fetchtest.Over(fetchtest.Failing(fmt.Errorf("middleware: %w", cause)))
	cut := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, "")
		resp.Body = io.NopCloser(fetchtest.ReaderFunc(func([]byte) (int, error) { return 0, cause }))
		resp.ContentLength = -1
		return resp, nil
	})
	fine := fetchtest.Over(fetchtest.AtOnce)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for name, r := range map[string]fetch.Result{
		"RoundTripper": fetchtest.GetOne(t, rawURL, failing, fetch.WithRetries(1)),
		"wrapped":      fetchtest.GetOne(t, rawURL, wrapped),
		"body":         fetchtest.GetOne(t, rawURL, cut),
		"RequestFunc":  fetchtest.GetOne(t, rawURL, fine, fetch.WithRequestFunc(func(*http.Request) error { return cause })),
		"BodyFunc":     fetchtest.GetOne(t, rawURL, fine, fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return cause })),
		"context":      fetch.FetchAll(ctx, []string{rawURL}, fine)[0],
	} {
		if r.Err == nil || !errors.Is(r.Err, cause) {
			t.Errorf("%s: the cause is not in %v", name, r.Err)
			continue
		}
		for _, text := range []string{r.Err.Error(), fmt.Sprintf("%+v", r.Err), fetch.JoinErrors([]fetch.Result{r}).Error()} {
			lower := strings.ToLower(text)
			if strings.Contains(lower, token) || strings.Contains(lower, strings.ToLower(base64.StdEncoding.EncodeToString([]byte("user:"+token)))) {
				t.Errorf("%s: it shows the secret: %s", name, text)
			}
		}
	}
}

// The query of a hop is the server's secret, that of a signed request the caller's.
func TestErrorsDoNotShowTheQueryThatWasSent(t *testing.T) {
	giveUp := func(req *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%s %s giving up", req.Method, req.URL)
	}
	redirected := fetchtest.Over(fetchtest.InTurn(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/next" {
			return giveUp(req)
		}
		return fetchtest.Respond(req, 302, "", "Location", "/next?code="+fetchtest.Canary), nil
	}))
	signed := fetch.WithRequestFunc(func(req *http.Request) error {
		req.URL.RawQuery = "signature=" + fetchtest.Canary
		return nil
	})
	for name, r := range map[string]fetch.Result{
		"hop":    fetchtest.GetOne(t, "http://a.example/", redirected),
		"signed": fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(giveUp), signed),
		"CheckRedirect": fetchtest.GetOne(t, "http://a.example/", fetch.WithClient(&http.Client{
			Transport:     fetchtest.Always(302, "Location", "/next?code="+fetchtest.Canary),
			CheckRedirect: func(req *http.Request, _ []*http.Request) error { return fmt.Errorf("not to %s", req.URL) },
		})),
	} {
		if r.Err == nil || !strings.Contains(r.Err.Error(), "/next?...") && name != "signed" {
			t.Errorf("%s: %v", name, r.Err)
		}
		fetchtest.CheckNoSecret(t, []fetch.Result{r})
	}
}

// The error of a URL that made its host count as down is in those of the others.
func TestAHostThatIsDownShowsNoSecretOfAnotherURL(t *testing.T) {
	urls := []string{"http://a.example/?" + fetchtest.Canary, "http://a.example/2", "http://a.example/3"}
	dead := func(req *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("GET %s: %w", req.URL, fetchtest.ErrRefused)
	}
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(dead), fetch.WithMaxHostFailures(1), fetch.WithConcurrency(1))
	fetchtest.CheckResults(t, urls, results)
	if !errors.Is(results[1].Err, fetch.ErrHostDown) {
		t.Errorf("the second: %v", results[1].Err)
	}
	fetchtest.CheckNoSecret(t, results)
}
