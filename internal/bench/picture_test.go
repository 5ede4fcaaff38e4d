package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPictureIsWellFormedAndShowsBothTotals(t *testing.T) {
	s := newScene()
	picture := draw(s, []panel{
		{title: "one", slots: 2, bars: []bar{{slot: 0, host: 0, sent: time.Second, ended: 2 * time.Second}}},
		{title: "two", slots: 2, bars: []bar{{slot: 1, host: 1, ended: 1500 * time.Millisecond}}},
	})
	wantXML(t, picture)
	for _, want := range []string{"2.0 s", "1.5 s", "prefers-color-scheme:dark", `class="w"`, `class="h0"`} {
		if !strings.Contains(picture, want) {
			t.Errorf("%s is missing in the picture", want)
		}
	}
}

func TestCommittedPictureIsWellFormedAndSmall(t *testing.T) {
	picture, err := os.ReadFile("slots.svg")
	if err != nil {
		t.Fatal(err)
	}
	wantXML(t, string(picture))
	if len(picture) > 32<<10 {
		t.Errorf("%d bytes", len(picture))
	}
}

func wantXML(t *testing.T, text string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSceneIsPlayedWithinItsLimits(t *testing.T) {
	s := newScene()
	for i := range s.requests {
		s.requests[i].took /= 20
	}
	erred, err := playErrgroup(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := playFetch(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []panel{erred, fetched} {
		if len(p.bars) != len(s.requests) {
			t.Errorf("%s: %d bars for %d requests", p.title, len(p.bars), len(s.requests))
		}
		if p.slots > s.slots {
			t.Errorf("%s: %d slots were held at once, more than %d", p.title, p.slots, s.slots)
		}
		for host := range sceneHosts {
			if n := mostAtOnce(p.bars, host); n > s.hostLimit {
				t.Errorf("%s: %d requests to host %d at once", p.title, n, host)
			}
		}
	}
}

// mostAtOnce returns how many requests to the host were in flight at once.
func mostAtOnce(bars []bar, host int) int {
	most := 0
	for _, b := range bars {
		inFlight := 0
		for _, other := range bars {
			if other.host == host && other.sent <= b.sent && b.sent < other.ended {
				inFlight++
			}
		}
		if b.host == host {
			most = max(most, inFlight)
		}
	}
	return most
}

func TestLowestFreeSlotIsTaken(t *testing.T) {
	s := newSlots(2)
	var taken []int
	for range 3 {
		slot, _ := s.take()
		taken = append(taken, slot)
	}
	s.release(bar{slot: 1})
	slot, _ := s.take()
	if taken = append(taken, slot); !slices.Equal(taken, []int{0, 1, 2, 1}) {
		t.Errorf("slots taken are %v", taken)
	}
}
