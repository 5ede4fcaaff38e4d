package har

import "time"

// A moment is a step of a request, in the order in which they come.
type moment int

const (
	queued moment = iota
	begun         // by the RoundTripper
	lookup
	found // the addresses
	dial
	dialled
	handshake
	secured
	connected
	sent
	answered // the first byte
	ended
	moments
)

// times are the instants of the moments; zero: it did not come to that.
type times [moments]time.Time

// forget takes back all from one moment to another.
func (t *times) forget(from, to moment) { clear(t[from : to+1]) }

// ordered returns the times with none before an earlier moment's. A moment that was passed over
// took no time; those that the request did not come to are at its end, so that the step in which it
// ended has the time until then.
func (t *times) ordered() times {
	o, last := *t, t[queued]
	reached := queued
	for m := range ended {
		if !o[m].IsZero() {
			reached = m
		}
	}
	for m := range o {
		switch m := moment(m); {
		case m > reached:
			o[m] = later(last, t[ended])
		default:
			o[m] = later(last, o[m])
			last = o[m]
		}
	}
	return o
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// timings are the times that HAR knows, in milliseconds; -1 is that there was none. All but SSL,
// which is within Connect, add up to that of the entry.
type timings struct {
	Blocked float64 `json:"blocked"`
	DNS     float64 `json:"dns"`
	Connect float64 `json:"connect"`
	SSL     float64 `json:"ssl"`
	Send    float64 `json:"send"`
	Wait    float64 `json:"wait"`
	Receive float64 `json:"receive"`
}

// timings returns those of a request, and the sum.
func (t *times) timings() (timings, float64) {
	o := t.ordered()
	between := func(from, to moment) float64 { return milliseconds(o[to].Sub(o[from])) }
	// The connection took the time until it was there, handshake included.
	all := timings{
		Blocked: between(queued, lookup) + between(found, dial) + between(secured, connected),
		DNS:     between(lookup, found),
		Connect: between(dial, secured),
		SSL:     between(handshake, secured),
		Send:    between(connected, sent),
		Wait:    between(sent, answered),
		Receive: between(answered, ended),
	}
	sum := all.Blocked + all.DNS + all.Connect + all.Send + all.Wait + all.Receive
	all.leaveOut(t)
	return all, sum
}

// leaveOut tells the times that there were not from those that were short.
func (a *timings) leaveOut(t *times) {
	if t[lookup].IsZero() {
		a.DNS = -1
	}
	if t[dial].IsZero() && t[handshake].IsZero() {
		a.Connect = -1
	}
	if t[handshake].IsZero() {
		a.SSL = -1
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
