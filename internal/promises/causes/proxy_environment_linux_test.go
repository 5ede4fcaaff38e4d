package causes_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A program of CGI takes no proxy from HTTP_PROXY, which a client of the server can set. The server
// that is asked has no part in that.
func TestAProxyThatMayNotBeUsedIsNoProtocolError(t *testing.T) {
	if !fetchtest.InChild(t, nil, "REQUEST_METHOD=GET", "HTTP_PROXY=http://user:"+fetchtest.Canary+"@proxy.example") {
		return
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	for name, client := range map[string]*http.Client{
		"own":      nil,
		"injected": fetchtest.NewClient(transport),
		"wrapped":  fetchtest.NewClient(fetchtest.RoundTripFunc(transport.RoundTrip)),
	} {
		for _, method := range []string{"GET", "POST"} {
			req := fetchtest.NewRequest(t, method, "http://a.example/", strings.NewReader("body"))
			r := fetchtest.SendOne(t, req, fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff)
			if r.Err == nil || r.Attempts != 1 || !strings.Contains(r.Err.Error(), "HTTP_PROXY") {
				t.Errorf("%s, %s: %d attempts, %v", name, method, r.Attempts, r.Err)
			}
			for _, sentinel := range fetchtest.Sentinels {
				if errors.Is(r.Err, sentinel) {
					t.Errorf("%s: %v is %v", name, r.Err, sentinel)
				}
			}
			fetchtest.CheckNoSecret(t, []fetch.Result{r})
		}
	}
}
