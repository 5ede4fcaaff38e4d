package main

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"time"
)

// An answer is the response of one workload. Everything in it is made
// beforehand: the server shares the machine with the contender.
type answer struct {
	header  http.Header
	bodies  [][]byte   // encoded
	lengths [][]string // values of Content-Length; nil to send chunks
	gzip    bool
	latency time.Duration
	gate    *gate // nil: none
}

func newAnswer(w workload, g *gate) *answer {
	a := &answer{
		header:  http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		bodies:  w.bodies(),
		gzip:    w.gzip,
		latency: w.latency,
	}
	if w.together {
		a.gate = g
	}
	if w.gzip {
		a.header.Set("Content-Encoding", "gzip")
		for i, body := range a.bodies {
			a.bodies[i] = compressed(body)
		}
	}
	if !w.chunked {
		for _, body := range a.bodies {
			a.lengths = append(a.lengths, []string{strconv.Itoa(len(body))})
		}
	}
	return a
}

func (a *answer) send(w http.ResponseWriter, index int) {
	if a.gate != nil && !a.gate.pass() {
		http.Error(w, "the other requests have not come", http.StatusServiceUnavailable)
		return
	}
	header := w.Header()
	for key, values := range a.header {
		header[key] = values
	}
	if a.latency > 0 {
		time.Sleep(a.latency)
	}
	variant := index % bodyVariants
	if a.lengths == nil {
		sendChunks(w, a.bodies[variant])
		return
	}
	header["Content-Length"] = a.lengths[variant]
	w.Write(a.bodies[variant])
}

// sendChunks flushes each quarter of the body, so that no length is known.
func sendChunks(w http.ResponseWriter, body []byte) {
	for quarter := range 4 {
		w.Write(body[quarter*len(body)/4 : (quarter+1)*len(body)/4])
		w.(http.Flusher).Flush()
	}
}

func compressed(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(body) // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}
