package main

import (
	"encoding/json"
	"time"

	"github.com/batchhttp/fetch"
)

// A jsonLine is a result as -json prints it. Times are in seconds.
type jsonLine struct {
	Index     int       `json:"index"`
	URL       string    `json:"url"`
	FinalURL  string    `json:"final_url,omitempty"`
	Status    int       `json:"status,omitempty"`
	Bytes     int       `json:"bytes"`
	Attempts  int       `json:"attempts"`
	Redirects int       `json:"redirects"`
	Queued    time.Time `json:"queued"`
	Waited    float64   `json:"waited"`
	Took      float64   `json:"took"`
	Error     string    `json:"error,omitempty"`
	Note      string    `json:"note,omitempty"`
}

// formatJSON returns the line of a result.
func formatJSON(r fetch.Result, note string) string {
	line := jsonLine{
		Index: r.Index, URL: safeURL(r), Status: r.StatusCode, Bytes: len(r.Body),
		Attempts: r.Attempts, Redirects: r.Redirects, Queued: r.Queued,
		Waited: r.Waited.Seconds(), Took: r.Took.Seconds(), Note: note,
	}
	if r.Redirects > 0 {
		line.FinalURL = printable(r.FinalURL)
	}
	if r.Err != nil {
		line.Error = cause(r.Err).Error()
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err) // nothing in a line can fail
	}
	return string(text) + "\n"
}
