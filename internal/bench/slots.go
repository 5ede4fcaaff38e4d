package main

import (
	"slices"
	"sync"
	"time"
)

// A bar is a slot held for one request, from the beginning of a run. The
// request was sent at sent; before that the slot was held for nothing.
type bar struct {
	slot, host         int
	taken, sent, ended time.Duration
}

// slots logs which slot was held when and for what. The lowest free slot is
// taken first, so that a picture of them is dense.
type slots struct {
	lock  sync.Mutex
	start time.Time
	held  []bool
	bars  []bar
}

func newSlots(count int) *slots {
	return &slots{start: time.Now(), held: make([]bool, count)}
}

// take returns a free slot, and the time. More slots than there should be
// are shown, not hidden.
func (s *slots) take() (slot int, taken time.Duration) {
	s.lock.Lock()
	defer s.lock.Unlock()
	slot = slices.Index(s.held, false)
	if slot < 0 {
		slot = len(s.held)
		s.held = append(s.held, false)
	}
	s.held[slot] = true
	return slot, s.now()
}

func (s *slots) now() time.Duration { return time.Since(s.start) }

// release ends the bar and frees its slot.
func (s *slots) release(b bar) {
	s.lock.Lock()
	defer s.lock.Unlock()
	b.ended = s.now()
	s.held[b.slot] = false
	s.bars = append(s.bars, b)
}

// A panel is one run of a scene.
type panel struct {
	title string
	slots int
	bars  []bar
}

// took is when the last request ended.
func (p panel) took() time.Duration {
	last := time.Duration(0)
	for _, b := range p.bars {
		last = max(last, b.ended)
	}
	return last
}
