package har_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/har"
)

// Record a batch, here one with a redirect, and look at its archive.
func ExampleRecorder() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/old" {
			http.Redirect(w, req, "/new", http.StatusMovedPermanently)
			return
		}
		io.WriteString(w, "hello")
	}))
	defer server.Close()

	var recorder har.Recorder
	fetch.FetchAll(context.Background(), []string{server.URL + "/old"}, fetch.WithTransport(recorder.Wrap))

	var file bytes.Buffer // or one of package os
	if _, err := recorder.WriteTo(&file); err != nil {
		fmt.Println(err)
	}
	var archive struct {
		Log struct {
			Version string
			Entries []struct {
				Response struct{ Status, BodySize int }
			}
		}
	}
	json.Unmarshal(file.Bytes(), &archive)
	fmt.Println("HAR", archive.Log.Version)
	for _, entry := range archive.Log.Entries {
		fmt.Println(entry.Response.Status, entry.Response.BodySize)
	}
	// Output:
	// HAR 1.2
	// 301 39
	// 200 5
}
