package clients

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/h2non/gock"
	"github.com/jarcoal/httpmock"
	"gopkg.in/dnaeon/go-vcr.v4/pkg/cassette"
	"gopkg.in/dnaeon/go-vcr.v4/pkg/recorder"
)

// httpmock answers in place of servers. What it does not know is an error in its own words, tried once.
func TestHttpmock(t *testing.T) {
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://api.example.com/users", httpmock.NewStringResponder(200, "hello"))
	opts := []fetch.Option{fetch.WithClient(&http.Client{Transport: mock}), fetch.WithRetries(2)}
	mustBeFine(t, []fetch.Result{getOne(t, "https://api.example.com/users", opts...)}, "hello")
	r := getOne(t, "https://api.example.com/unknown?key=secret", opts...)
	if r.Err == nil || r.Attempts != 1 || !strings.Contains(r.Err.Error(), "no responder found") || strings.Contains(r.Err.Error(), "secret") {
		t.Errorf("%v after %d attempts", r.Err, r.Attempts)
	}
}

// gock stands in for http.DefaultTransport, or for that of a client.
func TestGock(t *testing.T) {
	defer gock.Off()
	gock.New("https://api.example.com").Get("/users").Times(3).Reply(200).BodyString("hello")
	client := &http.Client{Transport: &http.Transport{}}
	gock.InterceptClient(client)
	defer gock.RestoreClient(client)
	mustBeFine(t, get(t, []string{"https://api.example.com/users", "https://api.example.com/users", "https://api.example.com/users"}, fetch.WithClient(client)), "hello")
	if !gock.IsDone() {
		t.Error("gock expects more requests")
	}
}

// go-vcr records a batch around the Fetcher's own client, and plays it without a server.
func TestGoVCR(t *testing.T) {
	file := filepath.Join(t.TempDir(), "batch")
	record := func(mode recorder.Mode, urls []string) []fetch.Result {
		var r *recorder.Recorder
		results := get(t, urls, fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			var err error
			if r, err = recorder.New(file, recorder.WithMode(mode), recorder.WithRealTransport(next), recorder.WithMatcher(cassette.NewDefaultMatcher(cassette.WithIgnoreUserAgent()))); err != nil {
				t.Fatal(err)
			}
			return r
		}))
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
		return results
	}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("page " + r.URL.Path)) })
	urls := numbered(s.URL, 20)
	recorded := record(recorder.ModeRecordOnly, urls)
	s.Close()
	for i, r := range record(recorder.ModeReplayOnly, urls) {
		if want := "page " + strings.TrimPrefix(urls[i], s.URL); string(r.Body) != want || string(recorded[i].Body) != want {
			t.Errorf("%s: recorded %q (%v), played %q (%v)", urls[i], recorded[i].Body, recorded[i].Err, r.Body, r.Err)
		}
	}
}
