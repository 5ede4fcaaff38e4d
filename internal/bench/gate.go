package main

import (
	"sync"
	"time"
)

// gateTimeout ends the wait for requests that never come together.
const gateTimeout = 30 * time.Second

// A gate holds requests until all that are expected are there. The zero gate is open.
type gate struct {
	mu     sync.Mutex
	absent int
	opened chan struct{} // nil: open
}

// expect closes the gate until so many requests have come.
func (g *gate) expect(requests int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.absent, g.opened = requests, nil
	if requests > 0 {
		g.opened = make(chan struct{})
	}
}

// pass waits until the gate is open, and reports whether it ever was.
func (g *gate) pass() bool {
	opened := g.come()
	if opened == nil {
		return true
	}
	timeout := time.NewTimer(gateTimeout)
	defer timeout.Stop()
	select {
	case <-opened:
		return true
	case <-timeout.C:
		return false
	}
}

// come counts a request in, and opens the gate for the last.
func (g *gate) come() (opened chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	opened = g.opened
	g.absent--
	if g.absent == 0 {
		close(opened)
		g.opened = nil
	}
	return opened
}
