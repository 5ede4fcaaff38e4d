package options_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestInjectedClientIsNeitherChangedNorClosed(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/3" {
			http.Redirect(w, req, "/landed", http.StatusFound)
		}
		fmt.Fprint(w, "ok")
	})
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 4, ProxyConnectHeader: http.Header{"X-Proxy": {"x"}}}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		Jar:           jar,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return nil },
	}
	// On its first request a Transport settles some fields itself.
	get := func() {
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	get()
	beforeClient, beforeTransport := fetchtest.Exported(client), fetchtest.Exported(transport.Clone())
	header := transport.ProxyConnectHeader.Clone()

	urls := fetchtest.Numbered(server.URL, 50)
	given := slices.Clone(urls)
	opts := []fetch.Option{fetch.WithClient(client), fetch.WithConcurrency(4), fetch.WithTimeout(time.Second),
		fetch.WithMaxRedirects(3), fetch.WithHeader("X-A", "a"), fetch.WithMaxBody(100)}
	fetchtest.CheckResults(t, given, fetch.FetchAll(t.Context(), urls, opts...))
	f := fetchtest.NewFetcher(t, opts...)
	fetchtest.CheckResults(t, given, f.FetchAll(t.Context(), urls))
	f.Close()

	if !slices.Equal(urls, given) {
		t.Error("the slice of URLs was changed")
	}
	if after := fetchtest.Exported(client); !reflect.DeepEqual(after, beforeClient) {
		t.Errorf("the client was changed:\nbefore %v\nafter  %v", beforeClient, after)
	}
	after := fetchtest.Exported(transport.Clone())
	for _, clone := range []map[string]any{beforeTransport, after} {
		for _, name := range []string{"TLSClientConfig", "TLSNextProto"} { // clones differ in their addresses
			if value := reflect.ValueOf(clone[name]); value.IsValid() && value.Kind() == reflect.Map {
				clone[name] = value.Len()
			} else {
				clone[name] = value.IsValid() && !value.IsNil()
			}
		}
	}
	if !reflect.DeepEqual(after, beforeTransport) || !reflect.DeepEqual(header, transport.ProxyConnectHeader) {
		t.Errorf("the transport was changed:\nbefore %v\nafter  %v", beforeTransport, after)
	}
	open, _, total := conns.Counts()
	if open == 0 {
		t.Error("its idle connections were closed")
	}
	get()
	if _, _, now := conns.Counts(); now != total {
		t.Error("its idle connections cannot be used any more")
	}
}

func TestDefaultTransportCanBeUsed(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	before := fetchtest.Exported(http.DefaultTransport)
	urls := fetchtest.Numbered(server.URL, 10)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(http.DefaultClient)))
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(&http.Client{})))
	for name, value := range fetchtest.Exported(http.DefaultTransport) {
		// These two net/http sets itself, on the first request.
		if name != "TLSNextProto" && name != "TLSClientConfig" && !reflect.DeepEqual(value, before[name]) {
			t.Errorf("%s of http.DefaultTransport was %v and is %v", name, before[name], value)
		}
	}
	if !reflect.DeepEqual(*http.DefaultClient, http.Client{}) {
		t.Errorf("http.DefaultClient is %+v", http.DefaultClient)
	}
}

func TestJarOfTheClientIsUsed(t *testing.T) {
	jar, _ := cookiejar.New(nil)
	client := fetchtest.NewClient(fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, 200, req.Header.Get("Cookie"), "Set-Cookie", "seen=yes"), nil
	}))
	client.Jar = jar
	f := fetchtest.NewFetcher(t, fetch.WithClient(client))
	urls := []string{"http://host/"}
	for _, want := range []string{"", "seen=yes"} {
		results := f.FetchAll(t.Context(), urls)
		fetchtest.CheckResults(t, urls, results)
		if got := string(results[0].Body); got != want {
			t.Errorf("the cookies sent were %q, want %q (%v)", got, want, results[0].Err)
		}
	}
}

func TestTimeoutIsTheSmallerOfTheClientsAndTheOptions(t *testing.T) {
	option := func(d time.Duration) []fetch.Option { return []fetch.Option{fetch.WithTimeout(d)} }
	for name, c := range map[string]struct {
		client time.Duration
		opts   []fetch.Option
		want   time.Duration // 0: none
	}{
		"neither":                             {0, nil, 30 * time.Second},
		"the client's instead of the default": {2 * time.Minute, nil, 2 * time.Minute},
		"the client's alone, small":           {2 * time.Second, nil, 2 * time.Second},
		"the option alone":                    {0, option(5 * time.Minute), 5 * time.Minute},
		"the option is smaller":               {5 * time.Second, option(time.Second), time.Second},
		"the client's is smaller":             {time.Second, option(5 * time.Second), time.Second},
		"none":                                {0, option(0), 0},
		"none but the client's":               {time.Second, option(0), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const long = 24 * time.Hour
				client := fetchtest.NewClient(fetchtest.AnswerAfter(long))
				client.Timeout = c.client
				start := time.Now()
				urls := []string{"http://host/"}
				results := fetch.FetchAll(t.Context(), urls, append(c.opts, fetch.WithClient(client))...)
				took := time.Since(start)
				fetchtest.CheckResults(t, urls, results)
				if c.want == 0 {
					fetchtest.CheckTook(t, "without a timeout it", took, long)
					if results[0].Err != nil {
						t.Error(results[0].Err)
					}
					return
				}
				fetchtest.CheckTook(t, "the attempt", took, c.want)
				if !errors.Is(results[0].Err, fetch.ErrTimeout) {
					t.Errorf("error %v, want ErrTimeout", results[0].Err)
				}
			})
		})
	}
}

// A change to a client after New has no effect on the Fetcher.
func TestChangesToTheClientAfterNewAreNotSeen(t *testing.T) {
	client := fetchtest.NewClient(fetchtest.AnswerAfter(0))
	f := fetchtest.NewFetcher(t, fetch.WithClient(client))
	client.Transport = fetchtest.RoundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("another transport") })
	fetchtest.MustFetch(t, f, "http://host/")
}
