package sched

import "time"

// A window limits the requests in flight to a host that has refused some.
type window struct {
	size     int // 0 is no window
	good     int // the size to open to, and to stay at
	step     int // by which it grows next beyond that
	fulls    int // acceptances in a row that found it full
	patience int // see waited

	peak      int       // most in flight since the pause
	peakAt    time.Time // the first start that made as many
	sincePeak int       // acceptances of requests that started then or later
}

// newWindow returns the window of a host that has refused one of so many in flight.
func newWindow(inFlight int) window {
	return window{good: max(1, inFlight/2), patience: leastPatience}
}

func (w *window) room(inFlight int) bool { return w.size == 0 || inFlight < w.size }

func (w *window) full(inFlight int) bool { return w.size > 0 && inFlight >= w.size }

// start takes note of a start that brings the requests in flight to the given number.
func (w *window) start(now time.Time, inFlight int) {
	if inFlight > w.peak {
		w.peak, w.peakAt, w.sincePeak = inFlight, now, 0
	}
}

// accept opens the window by one with each acceptance. It grows beyond its good size
// only after two rounds in which it was full: then nothing else holds the host back.
func (w *window) accept(started time.Time, full, waited bool) {
	if !started.Before(w.peakAt) {
		w.sincePeak++
	}
	if full {
		w.fulls++
	} else {
		w.fulls = 0
	}
	switch {
	case w.size == 0:
	case w.size < w.good:
		w.size++
	case waited && w.fulls >= 2*w.size:
		w.size += w.step
		w.step *= 2
		w.fulls = 0
	}
}

// open opens the window at once, as it may where a pace keeps the crowd apart.
func (w *window) open() {
	if w.size > 0 {
		w.size = max(w.size, w.good)
	}
}

// shrink learns from a refusal, and reports whether the window alone is to blame: where
// the refused request was among the first to make a crowd, and the
// crowd was larger than any before.
func (w *window) shrink(started time.Time, waited bool) (alone bool) {
	if started.Before(w.peakAt) || w.sincePeak >= w.peak {
		// As many have been accepted at a time, and some more may be.
		w.good = max(w.good, w.peak+w.peak/4)
		return false
	}
	alone = w.peak > w.good
	if alone && waited {
		w.patience = min(mostPatience, 2*w.patience)
	}
	w.good = max(1, w.peak-1)
	return alone
}

// reset begins the time after a pause.
func (w *window) reset() {
	w.step, w.fulls, w.peak, w.sincePeak = 1, 0, 0, 0
}
