package main

import (
	"testing"
	"time"
)

const someTraces = `File: bench
Duration: 3s, Total samples = 60ms
-----------+-------------------------------------------------------
      30ms   internal/runtime/syscall/linux.Syscall6
             syscall.RawSyscall6
             syscall.read
             internal/poll.(*FD).Read
             net.(*netFD).Read
             github.com/batchhttp/fetch/internal/h1.(*Conn).Read
             github.com/batchhttp/fetch/internal/body.(*Reader).Read
             github.com/batchhttp/fetch/internal/engine.(*worker).loop
-----------+-------------------------------------------------------
      20ms   runtime.mallocgc
             net/textproto.readMIMEHeader
             net/http.ReadResponse
             github.com/batchhttp/fetch/internal/h1.(*Conn).final
-----------+-------------------------------------------------------
      10ms   runtime.scanObject
             runtime.gcBgMarkWorker.func2
-----------+-------------------------------------------------------
`

func TestSharesAddUpStacksByWhoseTheyAre(t *testing.T) {
	want := map[string]time.Duration{
		"system: read, with the copy":  30 * time.Millisecond,
		"net/http: heads of responses": 20 * time.Millisecond,
		"garbage collector":            10 * time.Millisecond,
	}
	for i, got := range sharesOf(someTraces) {
		if name := shares[i].name; got != want[name] {
			t.Errorf("%s: %v, want %v", name, got, want[name])
		}
	}
}
