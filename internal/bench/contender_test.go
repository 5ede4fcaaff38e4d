package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestEveryContenderInGoGetsAllBodies(t *testing.T) {
	const requests, concurrency = 50, 8
	for _, c := range contenders() {
		g, ok := c.runner.(inGo)
		if !ok {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			for _, w := range workloads() {
				if c.noHTTP2 && w.served == tlsHTTP2 {
					continue
				}
				t.Run(w.name, func(t *testing.T) {
					v := g.do(newJob(c, w, reached, requests, concurrency))
					if v.Fault != "" || v.Whole != requests {
						t.Errorf("%d of %d bodies are whole: %s", v.Whole, requests, v.Fault)
					}
				})
			}
		})
	}
}

func TestContenderReportsAFailedRequest(t *testing.T) {
	j := newJob(contender{name: "worker-loop"}, workloads()[0], reached, 5, 2)
	j.URLs[3] += "/nothing/here"
	input, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	if err := contend(bytes.NewReader(input), &output); err != nil {
		t.Fatal(err)
	}
	v, err := inGo{}.verdict(j, output.Bytes(), "")
	if err != nil || !strings.Contains(v.Fault, "404") {
		t.Errorf("verdict is %+v, %v; want a fault that names the status", v, err)
	}
}

func TestCheckNoticesWhatIsNotWhole(t *testing.T) {
	w := workloads()[0]
	tests := map[string]func(bodies [][]byte){
		"cut":     func(b [][]byte) { b[3] = b[3][:len(b[3])-1] },
		"empty":   func(b [][]byte) { b[3] = nil },
		"mixed":   func(b [][]byte) { b[3], b[4] = b[4], b[3] },
		"shifted": func(b [][]byte) { b[3] = append(slices.Clone(b[3][1:]), 'x') },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			bodies := w.bodies()
			spoil(bodies)
			whole, fault := check(w.fingerprints(), len(bodies), func(i int) []byte { return bodies[i] })
			if whole == len(bodies) || !strings.HasPrefix(fault, "body 3: ") {
				t.Errorf("%d whole, %q; want body 3 to be at fault", whole, fault)
			}
		})
	}
}

func TestServerCountsConnectionsAndProtocols(t *testing.T) {
	var c counter
	c.connection(nil, 0)
	c.request(1)
	c.request(2)
	c.request(2)
	if got, want := c.take(), (tally{Connections: 1, HTTP1: 1, HTTP2: 2}); got != want {
		t.Errorf("tally is %+v, want %+v", got, want)
	}
	if got := c.take(); got != (tally{}) {
		t.Errorf("tally is %+v after it was taken", got)
	}
}
