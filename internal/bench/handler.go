package main

import (
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
)

// newHandler answers /WORKLOAD/NUMBER.
func newHandler(tally *counter) http.Handler {
	answers := map[string]*answer{}
	for _, w := range workloads() {
		answers[w.name] = newAnswer(w, &tally.gate)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tally.request(r.ProtoMajor)
		name, number, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		index, err := strconv.Atoi(number)
		a := answers[name]
		switch {
		case a == nil || err != nil || index < 0:
			http.NotFound(w, r)
		case a.gzip && !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
			// A contender that forgot to ask would look cheap.
			http.Error(w, "gzip was not asked for", http.StatusNotAcceptable)
		default:
			a.send(w, index)
		}
	})
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// silent drops what the server would log of connections that contenders abandon.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
