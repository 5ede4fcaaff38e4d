package main

import (
	"testing"
	"time"
)

const someTraces = `File: bench
Duration: 3s, Total samples = 60ms
-----------+-------------------------------------------------------
      30ms   internal/runtime/syscall/linux.Syscall6
             net/http.(*persistConn).Read
             github.com/batchhttp/fetch.(*bodyReader).read
             github.com/batchhttp/fetch.(*worker).loop
-----------+-------------------------------------------------------
      20ms   runtime.mallocgc
             net/http.(*persistConn).readLoop
-----------+-------------------------------------------------------
      10ms   runtime.scanObject
             runtime.gcBgMarkWorker.func2
-----------+-------------------------------------------------------
`

func TestSharesAddUpStacksByWhoseTheyAre(t *testing.T) {
	want := map[string]time.Duration{
		"fetch: reading bodies, through net/http": 30 * time.Millisecond,
		"net/http: read loop":                     20 * time.Millisecond,
		"garbage collector":                       10 * time.Millisecond,
	}
	for i, got := range sharesOf(someTraces) {
		if name := shares[i].name; got != want[name] {
			t.Errorf("%s: %v, want %v", name, got, want[name])
		}
	}
}
