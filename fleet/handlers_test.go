package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// lines is a writer that can fail.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	fail bool
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail {
		l.fail = false
		return 0, errors.New("no room")
	}
	return l.text.Write(p)
}

func checkRecords(t *testing.T, texts []string, urls []string) {
	t.Helper()
	got := map[string]bool{}
	for _, text := range texts {
		var rec fleet.Record
		if err := json.Unmarshal([]byte(text), &rec); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if rec.StatusCode != 200 || string(rec.Body) != "ok" || rec.FinalURL != rec.Request.URL || rec.Attempts != 1 || rec.Error != "" {
			t.Errorf("%+v", rec)
		}
		got[rec.Request.URL] = true
	}
	for _, u := range urls {
		if !got[u] {
			t.Errorf("%s is missing", u)
		}
	}
}

func TestResultsAreWrittenAsLinesOfJSON(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 3, nil)
	urls := h.urls(30)
	add(t, f, urls)
	w := &lines{fail: true} // once, and that one is written later
	start(t, f, fleet.JSONLines(w))
	waitUntilDone(t, f, 20*time.Second)
	checkRecords(t, strings.Split(strings.TrimSpace(w.text.String()), "\n"), urls)
}

func TestResultsArePublishedToAStream(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 3, nil)
	urls := h.urls(30)
	add(t, f, urls)
	start(t, f, f.Publish)
	waitUntilDone(t, f, 20*time.Second)
	var texts []string
	for _, data := range messages(t, f, "fetch-results") {
		texts = append(texts, string(data))
	}
	checkRecords(t, texts, urls)
}

func TestABadConfigIsAnErrorThatNamesTheField(t *testing.T) {
	for name, c := range map[string]fleet.Config{
		"URL":           {},
		"Listen":        {URL: "nats://127.0.0.1:1", Dir: "x"},
		"Name":          {Dir: "x", Name: "two words"},
		"Replicas":      {Dir: "x", Replicas: -1},
		"MaxBytes":      {Dir: "x", MaxBytes: -1},
		"Lease":         {Dir: "x", Lease: time.Millisecond},
		"MaxDeliveries": {Dir: "x", MaxDeliveries: -1},
		"Hosts":         {Dir: "x", Hosts: -1},
		"Turn":          {Dir: "x", Turn: -1},
	} {
		if _, err := fleet.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := fleet.Open(t.Context(), fleet.Config{URL: "nats://127.0.0.1:1"}); err == nil {
		t.Error("a broker that is not there: no error")
	}
	if _, err := fleet.Open(t.Context(), fleet.Config{Dir: t.TempDir(), Listen: "nonsense"}); err == nil {
		t.Error("a bad address: no error")
	}
}

func TestWhatCannotBeStoredIsAnError(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 1, nil)
	long := "http://" + h.names[0] + "/" + strings.Repeat("x", 600<<10) + "?secret"
	n, err := f.Add(t.Context(), slices.Values([]string{h.urls(1)[0], long, "http://never.example/"}))
	if n != 1 || err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%d stored, %.200v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := f.Add(ctx, slices.Values(h.urls(1))); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d stored, %v", n, err)
	}
	if err := f.Run(t.Context(), nil); err == nil {
		t.Error("no handler: no error")
	}
}

// A producer whose URLs come slowly has them done all the same.
func TestURLsThatComeSlowlyAreDoneMeanwhile(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 1, nil)
	l := newLedger()
	start(t, f, note(l))
	n, err := f.Add(t.Context(), func(yield func(string) bool) {
		if !yield(h.urls(1)[0]) {
			return
		}
		waitFor(t, 5*time.Second, "the first is done", func() bool { return l.distinct() == 1 })
	})
	if n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestTheStatusTellsWhatGoesOn(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	h := newHosts(t, 3, slowly(50*time.Millisecond))
	add(t, f, h.urls(150))
	s, err := f.Status(t.Context())
	if err != nil || s.Requests != 450 || len(s.Hosts) != 3 || len(s.Workers) != 0 || s.Hosts[0].Requests != 150 || s.Left != 0 {
		t.Errorf("before: %+v, %v", s, err)
	}
	l := newLedger()
	start(t, f, note(l), fetch.WithHostConcurrency(1))
	waitFor(t, 10*time.Second, "it tells of owner and rate", func() bool {
		s, err = f.Status(t.Context())
		return err == nil && len(s.Workers) == 1 && s.Workers[0].Done > 100 && s.Rate > 10 && s.Left > 0 &&
			s.Hosts[0].Owner == s.Workers[0].Name && !s.Hosts[0].Since.IsZero()
	})
	if left := 450 - l.distinct(); s.Requests < left-60 || s.Requests > left+60 {
		t.Errorf("%d are left, and the status says %d", left, s.Requests)
	}
}
