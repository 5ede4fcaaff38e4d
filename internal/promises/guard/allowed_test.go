package guard_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestGuardAllowsWhatItIsTold(t *testing.T) {
	answerNames(t, map[string][]string{"name.test": {"127.0.0.1"}})
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Host) })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, row := range []struct {
		host  string
		allow []string
		want  bool
	}{
		{"127.0.0.1", []string{"127.0.0.1/32"}, true},
		{"127.0.0.1", []string{"10.0.0.0/8", "127.0.0.0/8"}, true},
		{"[::ffff:127.0.0.1]", []string{"127.0.0.0/8"}, true},
		{"name.test", []string{"127.0.0.0/8"}, true},
		{"127.0.0.1", []string{"127.0.0.2/32"}, false},
		{"127.0.0.1", []string{"::/0"}, false},
		{"127.0.0.1", []string{"::1/128"}, false},
		{"name.test", []string{"127.0.0.2/32"}, false},
		{"127.0.0.1", nil, false},
	} {
		t.Run(fmt.Sprint(row.host, row.allow), func(t *testing.T) {
			var allow []netip.Prefix
			for _, prefix := range row.allow {
				allow = append(allow, netip.MustParsePrefix(prefix))
			}
			urls := []string{"http://" + row.host + ":" + port + "/"}
			results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(allow...))
			fetchtest.CheckResults(t, urls, results)
			if row.want && !results[0].OK() {
				t.Error(results[0].Err)
			}
			if !row.want {
				checkIsBlocked(t, results[0])
			}
		})
	}
}

// The allow list of the last one holds, not both.
func TestTheLastGuardWins(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	urls := []string{"http://127.0.0.1:" + wire.port() + "/"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback), fetch.WithPublicOnly())
	fetchtest.CheckResults(t, urls, results)
	checkIsBlocked(t, results[0])
	wire.check(t)
}

func TestGuardKeepsNoReferenceToTheAllowList(t *testing.T) {
	wire := newTripwire(t, "127.0.0.1:0")
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f := fetchtest.NewFetcher(t, fetch.WithPublicOnly(allow...))
	allow[0] = loopback
	urls := []string{"http://127.0.0.1:" + wire.port() + "/"}
	checkIsBlocked(t, f.FetchAll(t.Context(), urls)[0])
	wire.check(t)
}

// The address decides, whatever name the request asks for.
func TestAHostHeaderChangesNoAddress(t *testing.T) {
	wire := newTripwire(t, "127.0.0.2:0")
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Host) })
	inside := "http://127.0.0.2:" + wire.port() + "/"
	for name, opt := range map[string]fetch.Option{
		"WithHeader":      fetch.WithHeader("Host", "8.8.8.8"),
		"WithRequestFunc": fetch.WithRequestFunc(func(req *http.Request) error { req.Host = "8.8.8.8"; return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			urls := []string{inside, server.URL}
			results := fetch.FetchAll(t.Context(), urls, opt, fetch.WithPublicOnly(loopback))
			fetchtest.CheckResults(t, urls, results)
			checkIsBlocked(t, results[0])
			if got := string(results[1].Body); got != "8.8.8.8" {
				t.Errorf("Host %q, %v", got, results[1].Err)
			}
		})
	}
	t.Run("DoAll", func(t *testing.T) {
		req, opaque := fetchtest.NewRequest(t, "GET", inside, nil), fetchtest.NewRequest(t, "GET", inside, nil)
		req.Host = "127.0.0.1"
		opaque.URL.Opaque = "//127.0.0.1/"
		for _, r := range fetchtest.NewFetcher(t, fetch.WithPublicOnly(loopback)).DoAll(t.Context(), []*http.Request{req, opaque}) {
			checkIsBlocked(t, r)
		}
	})
	wire.check(t)
}
