package sched

import (
	"math/rand/v2"
	"testing"
)

func TestHeapGivesTheLeastEntryAfterAnyChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var h heap[int, int]
	items := make([]item[int], 200)
	keys := map[int]int{} // of the items that are in
	for i := range items {
		items[i].value = i
	}
	for step := range 20_000 {
		// Few keys, so that many are equal, and phases in which it grows and shrinks.
		i, key := random.IntN(len(items)), random.IntN(50)
		if grow := step/1000%2 == 0; random.IntN(10) < 7 == grow {
			h.put(key, &items[i])
			keys[i] = key
		} else {
			h.remove(&items[i])
			delete(keys, i)
		}
		if _, in := keys[i]; items[i].queued() != in {
			t.Fatalf("step %d: item %d does not know whether it is in", step, i)
		}
		if h.len() != len(keys) {
			t.Fatalf("step %d: %d entries, want %d", step, h.len(), len(keys))
		}
		if h.len() == 0 {
			continue
		}
		least, value := h.min()
		if keys[value] != least {
			t.Fatalf("step %d: the least entry has key %d, but was put with %d", step, least, keys[value])
		}
		for i, key := range keys {
			if key < least {
				t.Fatalf("step %d: least is %d, but item %d has %d", step, least, i, key)
			}
		}
		heapOK(&h, func(ok bool, what ...any) {
			if !ok {
				t.Fatal(step, what)
			}
		})
	}
}

func TestHeapKeepsNoPointerToWhatWasRemoved(t *testing.T) {
	var h heap[int, *int]
	items := make([]item[*int], 10)
	for i := range items {
		h.put(i, &items[i])
	}
	for i := range items {
		h.remove(&items[i])
		h.remove(&items[i]) // which is not in any more
	}
	for i, e := range h.entries[:cap(h.entries)] {
		if e.item != nil {
			t.Errorf("entry %d is kept", i)
		}
	}
}
