package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// slowWeb answers after some seconds.
type slowWeb time.Duration

func (w slowWeb) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(w))
	recorder := httptest.NewRecorder()
	recorder.WriteString("hello")
	return recorder.Result(), nil
}

// fetchSlowly fetches three URLs one after the other, 12 s each, and returns what is printed.
func fetchSlowly(t *testing.T, cfg *config) (out, log string) {
	synctest.Test(t, func(t *testing.T) {
		var outBuffer, logBuffer bytes.Buffer
		cfg.out, cfg.log = &outBuffer, &logBuffer
		cfg.options = []fetch.Option{fetch.WithClient(&http.Client{Transport: slowWeb(12 * time.Second)}), fetch.WithConcurrency(1)}
		urls := func(yield func(string) bool) {
			for _, u := range []string{"http://user:secret@a.example/1?q=2", "not a URL", "http://a.example/2", "http://a.example/3"} {
				if !yield(u) {
					return
				}
			}
		}
		if ok := fetchInput(t.Context(), func() {}, cfg, input{urls: urls, total: 4}, nil); ok {
			t.Error("all are well, where one is no URL")
		}
		out, log = outBuffer.String(), logBuffer.String()
	})
	return out, log
}

func TestOffATerminalThereIsALineEveryTenSeconds(t *testing.T) {
	out, log := fetchSlowly(t, &config{})
	want := []string{
		"fetchall: 1 of 4 done, 1 failed, 1 in flight, 2 queued, 0 B, 10 s",
		"fetchall: 2 of 4 done, 18 s left, 1 failed, 1 in flight, 1 queued, 5 B, 20 s",
		"fetchall: 3 of 4 done, 6.0 s left, 1 failed, 1 in flight, 10 B, 30 s",
		"",
	}
	if log != strings.Join(want, "\n") {
		t.Errorf("standard error has\n%s", log)
	}
	if strings.Count(out, "\n   200 ") != 3 || !strings.Contains(out, "4 URLs in 36.000s: 3 ok, 1 failed, 15 B") || !strings.Contains(out, "Waited:\n") || !strings.Contains(out, "Took:\n") {
		t.Errorf("standard output has\n%s", out)
	}
}

func TestJSONLines(t *testing.T) {
	out, log := fetchSlowly(t, &config{json: true})
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 || strings.Contains(out, "secret") || !strings.Contains(log, "4 URLs in 36.000s") {
		t.Fatalf("standard output has\n%s\nand standard error\n%s", out, log)
	}
	byIndex := map[int]jsonLine{}
	for _, text := range lines {
		var line jsonLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		byIndex[line.Index] = line
	}
	first, bad := byIndex[0], byIndex[1]
	if first.URL != "http://a.example/1?q=2" || first.Status != 200 || first.Bytes != 5 || first.Attempts != 1 || first.Took != 12 || first.Queued.IsZero() {
		t.Errorf("%+v", first)
	}
	if bad.Error == "" || bad.Status != 0 || bad.Attempts != 0 {
		t.Errorf("%+v", bad)
	}
}
