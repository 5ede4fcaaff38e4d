package har_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/har"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestMain(m *testing.M) { fetchtest.Main(m) }

// An archive is what a viewer reads of one.
type archive struct {
	Log struct {
		Version string
		Entries []entry
	}
}

type entry struct {
	StartedDateTime time.Time
	Time            float64
	Request         struct {
		Method, URL, HTTPVersion string
		Headers, QueryString     []struct{ Name, Value string }
		Cookies                  []struct{ Name, Value string }
		BodySize                 int64
	}
	Response struct {
		Status      int
		RedirectURL string
		Headers     []struct{ Name, Value string }
		Cookies     []struct{ Name, Value string }
		Content     struct {
			Size     int64
			MimeType string
		}
		BodySize int64
		Error    string `json:"_error"`
	}
	Timings         map[string]float64
	ServerIPAddress string
	Fetch           *struct{ Index, Attempt, Redirect int } `json:"_fetch"`
}

// recording is the option to record with r.
func recording(r *har.Recorder, values bool) fetch.Option {
	return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper { return r.Wrap(next, values) })
}

// read returns the archive of a Recorder, and its text.
func read(t *testing.T, r *har.Recorder) (archive, string) {
	t.Helper()
	var out bytes.Buffer
	n, err := r.WriteTo(&out)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("%d of %d bytes, %v", n, out.Len(), err)
	}
	var a archive
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	for i, e := range a.Log.Entries {
		sum := 0.0
		for name, ms := range e.Timings {
			if ms < 0 && ms != -1 {
				t.Errorf("entry %d: %s is %v", i, name, ms)
			}
			if name != "ssl" && ms > 0 {
				sum += ms
			}
		}
		if math.Abs(sum-e.Time) > 0.001 || e.Timings["ssl"] > e.Timings["connect"] || len(e.Timings) != 7 {
			t.Errorf("entry %d: %v do not add up to %v", i, e.Timings, e.Time)
		}
	}
	return a, out.String()
}

// In virtual time each wait is known.
func TestEachWaitIsInItsTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		start := time.Now()
		r := &har.Recorder{}
		steps := fetchtest.InTurn(
			fetchtest.Taking(10*ms, fetchtest.Failing(fetchtest.ErrReset)),
			fetchtest.Taking(20*ms, fetchtest.Always(302, "Location", "/2")),
		)
		urls := []string{"http://a.example/1", "http://a.example/other"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetch.WithHostRate(10, 1), recording(r, false),
			fetchtest.WithoutBackOff, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/1" {
					return steps(req)
				}
				return fetchtest.AnswerAfter(30 * ms)(req)
			}))
		fetchtest.MustAllBeFine(t, urls, results)
		a, _ := read(t, r)
		for i, want := range []struct {
			started, blocked, wait float64
			index, attempt, hop    int
			status                 int
		}{
			{0, 10, 0, 0, 1, 0, 0}, // without a trace the time of a failure is not known to be any other's
			{0, 300, 30, 1, 1, 0, 200},
			{10, 90, 20, 0, 2, 0, 302},
			{120, 80, 30, 0, 2, 1, 200},
		} {
			e := a.Log.Entries[i]
			if got := float64(e.StartedDateTime.Sub(start)) / float64(ms); got != want.started || e.Timings["blocked"] != want.blocked ||
				e.Timings["wait"] != want.wait || *e.Fetch != (struct{ Index, Attempt, Redirect int }{want.index, want.attempt, want.hop}) || e.Response.Status != want.status {
				t.Errorf("entry %d: after %v, %v, %+v, status %d; want %+v", i, got, e.Timings, *e.Fetch, e.Response.Status, want)
			}
		}
	})
}

func answer(w http.ResponseWriter, req *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: fetchtest.Canary})
	w.Header().Set("Content-Type", "text/plain")
	switch req.URL.Path {
	case "/moved":
		http.Redirect(w, req, "/landed?"+fetchtest.Canary, http.StatusFound)
		return
	case "/cut":
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	time.Sleep(20 * time.Millisecond)
	io.WriteString(w, strings.Repeat("x", 1000))
	w.(http.Flusher).Flush()
	time.Sleep(20 * time.Millisecond)
	io.WriteString(w, strings.Repeat("y", 234))
}

// record fetches over sockets: of HTTP/1.1 and HTTP/2, with redirects and failures.
func record(t *testing.T, values bool) archiveOf {
	t.Helper()
	r := &har.Recorder{}
	plain, _ := fetchtest.NewServer(t, answer)
	secure, trust := fetchtest.NewSecureServer(t, answer)
	gone := httptest.NewServer(nil)
	gone.Close()
	f := fetchtest.NewFetcher(t, recording(r, values), fetch.WithTLSConfig(trust), fetch.WithConcurrency(1),
		fetch.WithHeader("Authorization", fetchtest.Canary), fetch.WithHeader("Cookie", "c="+fetchtest.Canary))
	urls := []string{
		plain.URL + "/a?" + fetchtest.Canary, plain.URL + "/b", plain.URL + "/moved", plain.URL + "/cut",
		secure.URL + "/a", secure.URL + "/b", gone.URL + "/?" + fetchtest.Canary, "http://user:" + fetchtest.Canary + "@" + plain.Listener.Addr().String() + "/c#" + fetchtest.Canary,
	}
	results := f.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	a, text := read(t, r)
	if len(a.Log.Entries) != len(urls)+1 {
		t.Fatalf("%d entries", len(a.Log.Entries))
	}
	byURL := map[string]entry{}
	for _, e := range a.Log.Entries {
		byURL[e.Request.URL] = e
	}
	return archiveOf{byURL, text, plain.URL, secure.URL, gone.URL}
}

type archiveOf struct {
	entries             map[string]entry
	text                string
	plain, secure, gone string
}

func TestRequestsOverSocketsAreRecorded(t *testing.T) {
	a := record(t, false)
	if strings.Contains(a.text, fetchtest.Canary) {
		t.Error("a secret is in the archive")
	}
	for url, test := range map[string]struct {
		status           int
		size             int64
		timings, without []string // that there are, and that there are not
	}{
		a.plain + "/a":      {200, 1234, []string{"connect", "wait", "receive"}, []string{"dns", "ssl"}},
		a.plain + "/b":      {200, 1234, []string{"wait", "receive"}, []string{"dns", "connect", "ssl"}},
		a.plain + "/moved":  {302, -1, nil, nil},
		a.plain + "/landed": {200, 1234, nil, nil},
		a.plain + "/cut":    {200, 5, nil, nil},
		a.secure + "/a":     {200, 1234, []string{"connect", "ssl", "wait", "receive"}, []string{"dns"}},
		a.secure + "/b":     {200, 1234, []string{"wait", "receive"}, []string{"dns", "connect", "ssl"}},
		a.gone + "/":        {0, 0, []string{"connect"}, []string{"dns", "ssl"}},
		a.plain + "/c":      {200, 1234, nil, nil},
	} {
		e, ok := a.entries[url]
		if !ok {
			t.Errorf("%s is not there", url)
			continue
		}
		if e.Response.Status != test.status || test.size >= 0 && e.Response.Content.Size != test.size {
			t.Errorf("%s: status %d, %d bytes", url, e.Response.Status, e.Response.Content.Size)
		}
		for _, name := range test.timings {
			if e.Timings[name] <= 0 {
				t.Errorf("%s: no %s in %v", url, name, e.Timings)
			}
		}
		for _, name := range test.without {
			if e.Timings[name] != -1 {
				t.Errorf("%s: %s in %v", url, name, e.Timings)
			}
		}
		if test.status == 200 && test.timings != nil && (e.Timings["wait"] < 15 || e.Timings["receive"] < 15) {
			t.Errorf("%s: %v, where each should be 20 ms", url, e.Timings)
		}
		if test.status == 0 != (e.Response.Error != "") || test.status != 0 && e.ServerIPAddress != "127.0.0.1" {
			t.Errorf("%s: error %q, server %q", url, e.Response.Error, e.ServerIPAddress)
		}
	}
	if got := a.entries[a.plain+"/moved"].Response.RedirectURL; got != a.plain+"/landed" {
		t.Errorf("redirected to %q", got)
	}
	if got := a.entries[a.secure+"/a"].Request.HTTPVersion; got != "HTTP/2.0" {
		t.Errorf("spoke %q", got)
	}
}

func TestAnArchiveWithValuesHasThem(t *testing.T) {
	a := record(t, true)
	e, ok := a.entries[a.plain+"/a?"+fetchtest.Canary]
	if !ok || len(e.Request.QueryString) != 1 || len(e.Request.Cookies) != 1 || len(e.Response.Cookies) != 1 || e.Response.Cookies[0].Value != fetchtest.Canary {
		t.Errorf("%+v", e)
	}
	if strings.Contains(a.text, "user:") {
		t.Error("user information is in the archive")
	}
}

// It works around any client, then without a wait of its own.
func TestARecorderNeedsNoFetcher(t *testing.T) {
	server, _ := fetchtest.NewServer(t, answer)
	r := &har.Recorder{}
	client := &http.Client{Transport: r.Wrap(&http.Transport{DisableKeepAlives: true}, false)}
	resp, err := client.Post(server.URL, "text/plain", strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := read(t, r); len(a.Log.Entries) != 0 {
		t.Error("an entry before its body was read")
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	a, _ := read(t, r)
	if len(a.Log.Entries) != 1 || a.Log.Entries[0].Fetch != nil || a.Log.Entries[0].Request.BodySize != 5 {
		t.Errorf("%+v", a.Log.Entries)
	}
}

func TestTheErrorOfAWriterIsReturned(t *testing.T) {
	failed := errors.New("failed")
	reader, writer := io.Pipe()
	reader.CloseWithError(failed)
	if _, err := (&har.Recorder{}).WriteTo(writer); err != failed {
		t.Errorf("%v", err)
	}
}

// har-validator is that of npm (github.com/ahmadnassri/node-har-validator). Where it is not
// installed, HAR_VALIDATOR tells the folder that has its node_modules; without both the test is skipped.
func TestArchivesAreValid(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	dir := t.TempDir()
	if given := os.Getenv("HAR_VALIDATOR"); given != "" {
		dir = given
	}
	script := `const v = require("har-validator"), fs = require("fs");
v.har(JSON.parse(fs.readFileSync(process.argv[1]))).then(() => console.log("valid"), e => { console.log(JSON.stringify(e.errors)); process.exit(1) });`
	check := func(file string) ([]byte, error) {
		cmd := exec.Command(node, "-e", script, file)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	_, empty := read(t, &har.Recorder{})
	for name, text := range map[string]string{"with values": record(t, true).text, "without": record(t, false).text, "empty": empty} {
		file := filepath.Join(t.TempDir(), "archive.har")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := check(file)
		if strings.Contains(string(out), "Cannot find module") {
			t.Skip("har-validator is not installed")
		}
		if err != nil || strings.TrimSpace(string(out)) != "valid" {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
}
