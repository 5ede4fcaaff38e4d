package causes_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// proxied returns clients of all kinds behind the proxy; nil is the own client.
func proxied(t *testing.T) map[string]*http.Client {
	u, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(u)}
	t.Cleanup(transport.CloseIdleConnections)
	return map[string]*http.Client{
		"own":      nil,
		"injected": fetchtest.NewClient(transport),
		"wrapped":  fetchtest.NewClient(fetchtest.RoundTripFunc(transport.RoundTrip)),
	}
}

func TestAProxyThatRefusesIsAFailureToConnect(t *testing.T) {
	for _, test := range []struct {
		host, says string
		retried    bool
	}{
		{"s300", "proxy refused: 300 Multiple Choices", false},
		{"s403", "proxy refused: 403 Forbidden", false},
		{"s407", "proxy refused: 407 Proxy Authentication Required", false},
		{"s429", "proxy refused: 429 Too Many Requests", true},
		{"s500", "proxy refused: 500 Internal Server Error", false},
		{"s502", "proxy refused: 502 Bad Gateway", true},
		{"s503", "proxy refused: 503 Service Unavailable", true},
		{"s504", "proxy refused: 504 Gateway Timeout", true},
	} {
		for name, client := range proxied(t) {
			for _, method := range []string{"GET", "POST"} {
				t.Run(test.host+"/"+name+"/"+method, func(t *testing.T) {
					req := fetchtest.NewRequest(t, method, "https://"+test.host+".example/?"+fetchtest.Canary, strings.NewReader(""))
					r := fetchtest.SendOne(t, req, fetch.WithClient(client), fetch.WithRetries(1), fetchtest.WithoutBackOff)
					checkRefusal(t, r, test.says)
					if r.Attempts != 1 && !test.retried || r.Attempts != 2 && test.retried {
						t.Errorf("%d attempts", r.Attempts)
					}
				})
			}
		}
	}
}

func checkRefusal(t *testing.T, r fetch.Result, says string) {
	t.Helper()
	if r.Err == nil || !strings.Contains(r.Err.Error(), says) {
		t.Errorf("error %v, want %q", r.Err, says)
	}
	if op, ok := errors.AsType[*net.OpError](r.Err); !ok || op.Op != "proxyconnect" {
		t.Errorf("%v is no failure to connect", r.Err)
	}
	for _, sentinel := range fetchtest.Sentinels {
		if errors.Is(r.Err, sentinel) {
			t.Errorf("%v is %v", r.Err, sentinel)
		}
	}
	fetchtest.CheckNoSecret(t, []fetch.Result{r})
}

// A proxy may word its status as it likes. net/http forgets the number, and an injected client
// cannot be asked for it.
func TestTheWordsOfAProxyAreNotShown(t *testing.T) {
	for host, number := range map[string]string{"words": "502", "none": "502", "empty": "502", "number": "599"} {
		for name, client := range proxied(t) {
			t.Run(host+"/"+name, func(t *testing.T) {
				want := "proxy refused the connection"
				if client == nil {
					want = "proxy refused: " + number
				}
				checkRefusal(t, fetchtest.GetOne(t, "https://"+host+".example/", fetch.WithClient(client)), want)
			})
		}
	}
}

// A reason phrase may belong to another status.
func TestARefusalThatSaysOKIsARefusal(t *testing.T) {
	for host, status := range map[string]string{"ok204": "204 No Content", "ok403": "403 Forbidden", "ok503": "503 Service Unavailable"} {
		for name, client := range proxied(t) {
			t.Run(host+"/"+name, func(t *testing.T) {
				r := fetchtest.GetOne(t, "https://"+host+".example/", fetch.WithClient(client))
				want := "proxy refused the connection"
				if client == nil {
					want = "proxy refused: " + status
				}
				checkRefusal(t, r, want)
				if strings.Contains(r.Err.Error(), "OK") {
					t.Errorf("%v", r.Err)
				}
			})
		}
	}
}

// Nothing of the request was sent, so that any may be sent again.
func TestATunnelThatBreaksIsAFailureToConnect(t *testing.T) {
	for host := range failures {
		for name, client := range proxied(t) {
			for _, method := range []string{"GET", "POST"} {
				for _, retries := range []int{0, 2} {
					t.Run(fmt.Sprintf("%s/%s/%s/%d", host, name, method, retries), func(t *testing.T) {
						req := fetchtest.NewRequest(t, method, "https://"+host+".example/?"+fetchtest.Canary, nil)
						if method == "POST" {
							req = fetchtest.NewRequest(t, method, "https://"+host+".example/?"+fetchtest.Canary, strings.NewReader("body"))
						}
						r := fetchtest.SendOne(t, req, fetch.WithClient(client), fetch.WithRetries(retries), fetchtest.WithoutBackOff)
						checkRefusal(t, r, "proxyconnect")
						if r.Attempts != retries+1 {
							t.Errorf("%d attempts: %v", r.Attempts, r.Err)
						}
						if retries == 0 && method == "GET" {
							checkRefusal(t, fetchtest.GetOne(t, "https://"+host+".example/", fetch.WithClient(client)), "proxyconnect")
						}
					})
				}
			}
			urls := fetchtest.Numbered("https://"+host+".example", 4)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithMaxHostFailures(2), fetch.WithConcurrency(1))
			fetchtest.CheckResults(t, urls, results)
			if !errors.Is(results[3].Err, fetch.ErrHostDown) {
				t.Errorf("%s, %s: the last: %v", host, name, results[3].Err)
			}
		}
	}
}

func TestARefusalOfAProxyCountsForNoHost(t *testing.T) {
	for name, client := range proxied(t) {
		t.Run(name, func(t *testing.T) {
			urls := slices.Repeat([]string{"https://s502.example/"}, 6)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(client), fetch.WithMaxHostFailures(2), fetch.WithConcurrency(1))
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				checkRefusal(t, r, "502 Bad Gateway")
			}
		})
	}
}

// The same words are somebody else's where no proxy is.
func TestWordsOfAStatusAreNoProxysWithoutAProxy(t *testing.T) {
	r := fetchtest.GetOne(t, "https://a.example/", fetchtest.Over(fetchtest.Failing(errors.New("Bad Gateway"))), fetch.WithRetries(1), fetchtest.WithoutBackOff)
	if r.Attempts != 1 || strings.Contains(r.Err.Error(), "proxy") {
		t.Errorf("%v", r.Err)
	}
}

// Nor is there a proxy because net/http dials a name in another spelling.
func TestANameBeyondASCIIIsNoProxy(t *testing.T) {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("Bad Gateway") }}
	for _, host := range []string{"a.example", "BÜCHER.example", "[fe80::1%25lo]"} {
		r := fetchtest.GetOne(t, "https://"+host+"/", fetch.WithClient(fetchtest.NewClient(transport)))
		if r.Err == nil || strings.Contains(r.Err.Error(), "proxy") || !strings.Contains(r.Err.Error(), "Bad Gateway") {
			t.Errorf("%s: %v", host, r.Err)
		}
	}
}

// A proxy of SOCKS says that it cannot reach the origin.
func TestARefusalBySOCKSIsAFailedDial(t *testing.T) {
	listener := fetchtest.ListenRaw(t, func(conn net.Conn) {
		buf := make([]byte, 256)
		conn.Read(buf)
		conn.Write([]byte{5, 0})
		conn.Read(buf)
		conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // refused
	})
	u := &url.URL{Scheme: "socks5", Host: listener}
	transport := &http.Transport{Proxy: http.ProxyURL(u)}
	defer transport.CloseIdleConnections()
	client := fetch.WithClient(fetchtest.NewClient(transport))
	for _, scheme := range []string{"http", "https"} {
		req := fetchtest.NewRequest(t, "POST", scheme+"://a.example/", strings.NewReader("body"))
		r := fetchtest.SendOne(t, req, client, fetch.WithRetries(2), fetchtest.WithoutBackOff)
		if op, ok := errors.AsType[*net.OpError](r.Err); !ok || op.Op != "socks connect" || r.Attempts != 3 {
			t.Errorf("%d attempts: %v", r.Attempts, r.Err)
		}
		urls := fetchtest.Numbered(scheme+"://a.example", 5)
		results := fetch.FetchAll(t.Context(), urls, client, fetch.WithMaxHostFailures(2), fetch.WithConcurrency(1))
		fetchtest.CheckResults(t, urls, results)
		if !errors.Is(results[4].Err, fetch.ErrHostDown) {
			t.Errorf("the last: %v", results[4].Err)
		}
	}
}
