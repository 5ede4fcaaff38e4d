package transport

import "time"

// An idleList has the places of connections, the one used last at the end.
type idleList struct {
	first, last *place
	count       int
}

// A place is that of a connection in an idleList.
type place struct {
	holder     holder // nil: the place is in no list
	since      time.Time
	prev, next *place
}

// A holder is a connection with a place.
type holder interface {
	isIdleLocked() bool
	removeLocked() // from the pool
	Close() error
}

func (l *idleList) append(p *place, now time.Time) {
	p.since = now
	p.prev, p.next = l.last, nil
	if l.last != nil {
		l.last.next = p
	} else {
		l.first = p
	}
	l.last = p
	l.count++
}

func (l *idleList) remove(p *place) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		l.last = p.prev
	}
	p.prev, p.next = nil, nil
	l.count--
}
