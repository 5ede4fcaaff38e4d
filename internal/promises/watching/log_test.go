package watching_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAResultCanBeLogged(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Set-Cookie", "sid="+fetchtest.Canary)
		if req.URL.Path == "/moved" {
			http.Redirect(w, req, "/landed?"+fetchtest.Canary+"#top", http.StatusFound)
			return
		}
		io.WriteString(w, fetchtest.Canary)
	})
	withSecrets := strings.Replace(server.URL, "http://", "http://user:"+fetchtest.Canary+"@", 1)
	for name, test := range map[string]struct {
		url  string
		keys []string
		want map[string]any
	}{
		"an answer": {withSecrets + "/?" + fetchtest.Canary,
			[]string{"method", "url", "status", "bytes", "attempts", "waited", "took", "queued"},
			map[string]any{"method": "GET", "url": server.URL + "/", "status": 200.0, "bytes": float64(len(fetchtest.Canary)), "attempts": 1.0}},
		"a redirect": {withSecrets + "/moved",
			[]string{"method", "url", "final_url", "redirects", "status", "bytes", "attempts", "waited", "took", "queued"},
			map[string]any{"final_url": server.URL + "/landed", "redirects": 1.0}},
		"an error": {"ftp://" + fetchtest.Canary + "@a.example/?" + fetchtest.Canary,
			[]string{"method", "url", "bytes", "attempts", "waited", "took", "queued", "error"},
			map[string]any{"url": "ftp://a.example/", "error": "fetch: GET ftp://a.example/: invalid URL: scheme is not http or https"}},
	} {
		var out strings.Builder
		r := fetchtest.GetOne(t, test.url)
		slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(context.Background(), slog.LevelInfo, "", slog.Any("result", r))
		if strings.Contains(out.String(), fetchtest.Canary) {
			t.Errorf("%s: a secret is in %s", name, out.String())
		}
		var log struct{ Result map[string]any }
		if err := json.Unmarshal([]byte(out.String()), &log); err != nil {
			t.Fatal(err)
		}
		for key, value := range test.want {
			if log.Result[key] != value {
				t.Errorf("%s: %s is %v, want %v", name, key, log.Result[key], value)
			}
		}
		var keys []string
		for _, a := range r.LogValue().Group() {
			keys = append(keys, a.Key)
		}
		if !slices.Equal(keys, test.keys) {
			t.Errorf("%s: %q", name, keys)
		}
	}
	if value := (fetch.Result{}).LogValue(); value.Kind() != slog.KindGroup {
		t.Error("the zero Result cannot be logged")
	}
}
