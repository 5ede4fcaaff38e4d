package main

import "os"

// A job is what a contender's process is asked to do, as JSON on its standard input.
type job struct {
	Contender   string        `json:"contender"`
	Workload    string        `json:"workload"`
	URLs        []string      `json:"urls"`
	Concurrency int           `json:"concurrency"`
	Expect      []fingerprint `json:"expect"` // of the body variants
	Gzip        bool          `json:"gzip"`
	Certificate string        `json:"certificate"` // file with the certificate to trust

	Profile     profileKind `json:"profile"`
	ProfileFile string      `json:"profile_file"`
}

// newJob asks for so many requests; all of them are in flight at once where the
// workload says so.
func newJob(c contender, w workload, reached endpoints, requests, concurrency int) job {
	if w.together {
		concurrency = requests
	}
	return job{
		Contender:   c.name,
		Workload:    w.name,
		URLs:        w.urls(reached, requests),
		Concurrency: concurrency,
		Expect:      w.fingerprints(),
		Gzip:        w.gzip,
	}
}

// environment makes the programs trust the server's certificate that look for
// it as OpenSSL does: those in Go and Python.
func (j job) environment() []string {
	if j.Certificate == "" {
		return os.Environ()
	}
	return append(os.Environ(), "SSL_CERT_FILE="+j.Certificate)
}
