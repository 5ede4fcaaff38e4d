package fleet

import (
	"encoding/json"
	"fmt"
	mathbits "math/bits"
	"slices"
	"time"

	"github.com/batchhttp/fetch"
)

// A record is what the fleet knows of a host. Its owner alone calls the host, and writes it.
type record struct {
	Owner string          `json:"owner,omitempty"`
	Since time.Time       `json:"since,omitzero"` // when it became the owner
	State fetch.HostState `json:"state,omitzero"`
	// Rest is when the host is to be tried again that was given up.
	Rest time.Time `json:"rest,omitzero"`
	// Rounds is how often in a row it was given up.
	Rounds int `json:"rounds,omitempty"`
	// Deaths is how many owners have died before they got far, and nobody knows of what.
	Deaths int `json:"deaths,omitempty"`
	// Trial is the request that runs alone. Suspects are those that ran when an owner died.
	Trial    *trial  `json:"trial,omitempty"`
	Suspects []trial `json:"suspects,omitempty"`
	// Progress has what is done of the pages that are not done, by their numbers.
	Progress map[uint64]bits `json:"progress,omitempty"`
	// SeenUntil is when the last note of a URL that was done expires.
	SeenUntil time.Time `json:"seen_until,omitzero"`
}

// A trial is a request that runs alone, since it may be what its owners died of.
type trial struct {
	Page  uint64 `json:"page"`
	Index int    `json:"index"`
	Fatal int    `json:"fatal,omitempty"` // how many owners have died meanwhile
}

// buried takes note of the death of the owner: of the request that ran alone, unless that is among what
// it has done.
func (r *record) buried(left map[uint64]bequest) {
	if t := r.Trial; t == nil || left[t.Page].done.has(t.Index) {
		r.Trial = nil
		r.Deaths++
		return
	}
	r.Trial.Fatal++
	r.Suspects = slices.DeleteFunc(r.Suspects, r.Trial.same)
	r.Suspects = append(r.Suspects, *r.Trial)
	r.Trial = nil
}

func (t *trial) same(other trial) bool { return t.Page == other.Page && t.Index == other.Index }

// trialOf returns the trial of a request.
func (r *record) trialOf(page uint64, index int) *trial {
	t := &trial{Page: page, Index: index}
	if i := slices.IndexFunc(r.Suspects, t.same); i >= 0 {
		t.Fatal = r.Suspects[i].Fatal
	}
	return t
}

// acquit ends all suspicion but of those that were not tried.
func (r *record) acquit(untried []trial) {
	r.Trial, r.Suspects = nil, untried
	if len(untried) == 0 {
		r.Deaths = 0
	}
}

func (r *record) encode() []byte {
	data, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("a record that cannot be encoded: %v", err)) // it has nothing such
	}
	return data
}

func readRecord(data []byte) (r record, err error) {
	if len(data) > 0 {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// life returns how long the record of a host without an owner is kept; 0 is for ever. What is
// learnt of a host is forgotten after a while, as a Fetcher does.
func (r *record) life(now time.Time) time.Duration {
	if r.Owner != "" || len(r.Progress) > 0 {
		return 0
	}
	until := now
	for _, t := range []time.Time{r.State.PausedUntil, r.Rest, r.SeenUntil} {
		until = later(until, t)
	}
	return until.Sub(now) + 10*time.Minute
}

// closedUntil returns the instant before which the host is not to be called; zero if there is none.
func (r *record) closedUntil() time.Time {
	return later(r.State.PausedUntil, r.Rest)
}

// bits is a set of small numbers.
type bits []byte

func newBits(n int) bits { return make(bits, (n+7)/8) }

func (b bits) has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

func (b bits) set(i int) { b[i/8] |= 1 << (i % 8) }

// union returns the numbers that are in either.
func (b bits) union(other bits) bits {
	if len(other) > len(b) {
		b, other = other, b
	}
	all := append(bits(nil), b...)
	for i := range other {
		all[i] |= other[i]
	}
	return all
}

// count returns how many numbers are in the set.
func (b bits) count() (n int) {
	for _, some := range b {
		n += mathbits.OnesCount8(some)
	}
	return n
}
