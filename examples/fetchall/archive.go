package main

import (
	"net/http"
	"os"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/har"
)

// An archive is the file of -har. It is made at the start, so that nothing is fetched in vain.
type archive struct {
	file     *os.File
	recorder har.Recorder
}

func createArchive(name string) (*archive, error) {
	file, err := os.Create(name)
	return &archive{file: file}, err
}

// option records requests, without the values of headers, cookies and queries.
func (a *archive) option() fetch.Option {
	return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return a.recorder.Wrap(next, false)
	})
}

// write writes the requests so far to the file, and closes it.
func (a *archive) write() error {
	_, err := a.recorder.WriteTo(a.file)
	if closeErr := a.file.Close(); err == nil {
		err = closeErr
	}
	return err
}
