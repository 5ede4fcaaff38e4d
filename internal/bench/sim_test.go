package main

import "testing"

func TestNoPolicyBeatsTheLowerBound(t *testing.T) {
	const slots, limit = 10, 2
	for seed := range uint64(5) {
		l := newLoad(seed, 2000, 100, 0.5)
		bound := l.lowerBound(slots, limit)
		for _, p := range policies {
			if took := p.run(l, slots, limit); took < bound {
				t.Errorf("%s took %v, the lower bound is %v", p.name, took, bound)
			}
		}
	}
}

func TestRefusedURLsAreAllAccountedFor(t *testing.T) {
	if r := hostObeyed(50, nothing); r.lost > 0 || r.answers429 == 0 || r.took < 48e9 {
		t.Errorf("fetch: %+v", r)
	}
	if r := hostObeyed(50, quotaLeft); r.lost > 0 || r.answers429 > 0 || r.took < 48e9 {
		t.Errorf("fetch, told the quota: %+v", r)
	}
	if r := backOffAlone(50); r.lost == 0 || r.answers429 < refusalAttempts*r.lost {
		t.Errorf("back-off alone: %+v", r)
	}
}

func TestDeadHostsLeaveHalfTheSlots(t *testing.T) {
	l := newCemetery(200, 25, 8)
	alone, inOrder, fetch := l.alone(), l.inOrder(), l.scheduled()
	if fetch < alone || fetch > inOrder || fetch > alone*22/10 {
		t.Errorf("alone %v, in order %v, fetch %v", alone, inOrder, fetch)
	}
}

func TestScaleServesAll(t *testing.T) {
	if s := scale(1000, 100); s.push <= 0 || s.serve <= 0 {
		t.Errorf("%+v", s)
	}
}
