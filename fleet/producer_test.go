package fleet

import (
	"fmt"
	"testing"
)

// What is added to very many hosts at once has a page open for each of them.
func TestWhatIsAddedTakesBoundedMemory(t *testing.T) {
	f := newFleet(t)
	a := newAdder(t.Context(), f.store)
	const n = 300
	for i := range n {
		if err := a.add(Request{URL: fmt.Sprintf("http://h%d.example/", i), Body: make([]byte, 64<<10<<(i%4))}); err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, p := range a.open {
			held += p.bytes
		}
		for _, p := range a.full {
			held += len(p.Data)
		}
		if held != a.bytes || held > maxBytes {
			t.Fatalf("%d bytes are held, of which %d count, and %d is the limit", held, a.bytes, maxBytes)
		}
	}
	if a.stored == 0 {
		t.Error("nothing is stored yet")
	}
	if err := a.flush(); err != nil || a.stored != n || a.bytes != 0 || a.buffered != 0 {
		t.Errorf("%d of %d stored, %d bytes held, %v", a.stored, n, a.bytes, err)
	}
}
