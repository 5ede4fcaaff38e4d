package sched

import "cmp"

// heap is a min-heap whose entries carry their keys, four to a node: a step down
// touches one or two cache lines, where a binary heap of pointers misses the cache at
// every comparison.
type heap[K cmp.Ordered, V any] struct {
	entries []entry[K, V]
}

type entry[K cmp.Ordered, V any] struct {
	key  K
	item *item[V]
}

// An item is a value's place in one heap. The zero index means that it is in none.
type item[V any] struct {
	index int // in entries, plus one
	value V
}

func (i *item[V]) queued() bool { return i.index > 0 }

const arity = 4

func (h *heap[K, V]) len() int { return len(h.entries) }

// min returns the least entry. The heap must not be empty.
func (h *heap[K, V]) min() (K, V) {
	e := h.entries[0]
	return e.key, e.item.value
}

// pop takes out the least entry. The heap must not be empty.
func (h *heap[K, V]) pop() (K, V) {
	e := h.entries[0]
	h.remove(e.item)
	return e.key, e.item.value
}

// put adds the item with the given key, or moves it if it is there already.
func (h *heap[K, V]) put(key K, it *item[V]) {
	i := it.index - 1
	if i < 0 {
		i = len(h.entries)
		h.entries = append(h.entries, entry[K, V]{key, it})
		it.index = i + 1
		h.up(i)
		return
	}
	old := h.entries[i].key
	h.entries[i].key = key
	if key < old {
		h.up(i)
	} else if key > old {
		h.down(i)
	}
}

// remove takes the item out, if it is in.
func (h *heap[K, V]) remove(it *item[V]) {
	i := it.index - 1
	if i < 0 {
		return
	}
	it.index = 0
	last := len(h.entries) - 1
	moved := h.entries[last]
	h.entries[last] = entry[K, V]{}
	h.entries = h.entries[:last]
	if i == last {
		return
	}
	h.set(i, moved)
	h.up(i)
	h.down(moved.item.index - 1)
}

func (h *heap[K, V]) set(i int, e entry[K, V]) {
	h.entries[i] = e
	e.item.index = i + 1
}

func (h *heap[K, V]) up(i int) {
	e := h.entries[i]
	for i > 0 {
		parent := (i - 1) / arity
		if h.entries[parent].key <= e.key {
			break
		}
		h.set(i, h.entries[parent])
		i = parent
	}
	h.set(i, e)
}

func (h *heap[K, V]) down(i int) {
	e := h.entries[i]
	for {
		first := arity*i + 1
		if first >= len(h.entries) {
			break
		}
		least := first
		for c := first + 1; c < min(first+arity, len(h.entries)); c++ {
			if h.entries[c].key < h.entries[least].key {
				least = c
			}
		}
		if e.key <= h.entries[least].key {
			break
		}
		h.set(i, h.entries[least])
		i = least
	}
	h.set(i, e)
}
