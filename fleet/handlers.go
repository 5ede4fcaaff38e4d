package fleet

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"
)

// A Record is a [Delivery] as [JSONLines] and [Fleet.Publish] write it. JSON has characters only: bytes that
// are not UTF-8, as in the values of a header, become U+FFFD.
type Record struct {
	Request Request `json:"request"`
	// ExactURL is the URL of Request where that has such bytes, so that two URLs do not become one.
	ExactURL   []byte      `json:"exact_url,omitempty"` // base64
	FinalURL   string      `json:"final_url,omitempty"`
	StatusCode int         `json:"status,omitempty"`
	Header     http.Header `json:"header,omitempty"`
	Body       []byte      `json:"body,omitempty"` // base64
	Error      string      `json:"error,omitempty"`
	Attempts   int         `json:"attempts"`
	Redirects  int         `json:"redirects,omitempty"`
	Time       time.Time   `json:"time"` // when it was done
}

// RecordOf returns a Delivery as a Record.
func RecordOf(d Delivery) Record {
	r := d.Result
	rec := Record{
		Request: d.Request, FinalURL: r.FinalURL, StatusCode: r.StatusCode, Header: r.Header, Body: r.Body,
		Attempts: r.Attempts, Redirects: r.Redirects, Time: time.Now().UTC(),
	}
	if !utf8.ValidString(d.Request.URL) {
		rec.ExactURL = []byte(d.Request.URL)
	}
	if r.Err != nil {
		rec.Error = r.Err.Error()
	}
	return rec
}

// JSONLines returns a Handler that writes each Delivery to w as a line of JSON, a [Record]. A
// write has one or more whole lines, and an error of it is one of the Handler.
func JSONLines(w io.Writer) Handler {
	var mu sync.Mutex
	return func(_ context.Context, d Delivery) error {
		line, err := json.Marshal(RecordOf(d))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		_, err = w.Write(append(line, '\n'))
		return err
	}
}

// Publish is a Handler that publishes each Delivery, as a [Record], to the stream NAME-results, under
// the subject NAME.results.HOST, in which HOST has slashes for dots and %XX for what a subject cannot have, and
// is % where there is none or one of more than 512 bytes. What is larger than a message may be is an error.
func (f *Fleet) Publish(ctx context.Context, d Delivery) error {
	data, err := json.Marshal(RecordOf(d))
	if err != nil {
		return err
	}
	return f.store.AddResult(ctx, queueOf(d.Host), data)
}
