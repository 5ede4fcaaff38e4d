package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/batchhttp/fetch"
)

// sampleScene has a host of each kind.
func sampleScene() scene {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	return scene{
		now: now, elapsed: 4200 * time.Millisecond, total: 640,
		stats: fetch.Stats{
			Queued: 180, BackingOff: 3, InFlight: 16, PausedHosts: 1, Done: 441, Failed: 7, Attempts: 470, Bytes: 5 << 20, Left: 12300 * time.Millisecond,
		},
		hosts: []fetch.HostStats{
			{Host: "api.slow.example.com", Queued: 110, InFlight: 1, Pace: 9.6, Took: 52 * time.Millisecond, Left: 12300 * time.Millisecond},
			{Host: "a-very-long-name-for-a-host-in-a-datacenter.region-7.example.org:8443", Queued: 60, BackingOff: 2, PausedUntil: now.Add(1600 * time.Millisecond), Left: 6 * time.Second},
			{Host: "bücher.example", Queued: 10, InFlight: 15, Took: 1300 * time.Millisecond, Left: 1800 * time.Millisecond},
			{Host: "new.example", BackingOff: 1, Left: 90 * time.Millisecond},
		},
	}
}

func TestThePictureFitsTheTerminal(t *testing.T) {
	for _, test := range []struct {
		columns int
		want    string
	}{
		{80, `
441 of 640 done, 12 s left, 7 failed, 16 in flight, 180 queued, 3 backing off
api.slow.example.com             ██████████    110    1  9.6/s             12 s
a-very-long-nam…xample.org:8443  █████·····     62    0  paused 1.6 s     6.0 s
bücher.example                   ██········     10   15  1.3 s each       1.8 s
new.example                      █·········      1    0                   90 ms
`},
		{60, `
441 of 640 done, 12 s left, 7 failed, 16 in flight, 5.0 MiB
api.slow.example.com       110    1  9.6/s             12 s
a-very-long…le.org:8443     62    0  paused 1.6 s     6.0 s
bücher.example              10   15  1.3 s each       1.8 s
new.example                  1    0                   90 ms
`},
		{40, `
441 of 640 done, 12 s left, 7 failed
api.sl…le.com   111 9.6/s          12 s
a-very…g:8443    62 paused 1.6 s  6.0 s
bücher…xample    25 1.3 s         1.8 s
new.example       1               90 ms
`},
	} {
		got := picture{columns: test.columns - 1, lines: 20}.draw(sampleScene())
		for _, line := range got {
			if n := utf8.RuneCountInString(line); n >= test.columns {
				t.Errorf("%d columns: a line of %d: %q", test.columns, n, line)
			}
		}
		if text := "\n" + strings.Join(got, "\n") + "\n"; text != test.want {
			t.Errorf("%d columns:%s", test.columns, text)
		}
	}
}

func TestThePictureFitsEveryTerminal(t *testing.T) {
	for columns := 10; columns < 250; columns++ {
		for lines := 1; lines < 14; lines++ {
			got := picture{columns: columns, lines: lines}.draw(sampleScene())
			if len(got) > lines {
				t.Fatalf("%d lines where there is room for %d", len(got), lines)
			}
			for _, line := range got {
				if n := utf8.RuneCountInString(line); n > columns {
					t.Fatalf("%d columns: a line of %d: %q", columns, n, line)
				}
			}
		}
	}
}

func TestAPictureShowsTenHosts(t *testing.T) {
	s := sampleScene()
	for range 30 {
		s.hosts = append(s.hosts, s.hosts[3])
	}
	if got := (picture{columns: 80, lines: 50}).draw(s); len(got) != 11 {
		t.Errorf("%d lines", len(got))
	}
}

func TestColorsAreOnlyAddedToThePicture(t *testing.T) {
	plainly := picture{columns: 79, lines: 20}.draw(sampleScene())
	for i, line := range (picture{columns: 79, lines: 20, color: true}).draw(sampleScene()) {
		stripped := line
		for _, code := range []string{bold, green, yellow, plain} {
			stripped = strings.ReplaceAll(stripped, code, "")
		}
		if stripped != plainly[i] || stripped == line {
			t.Errorf("%q is not %q in colours", line, plainly[i])
		}
	}
}

func TestWhenNothingIsKnownThereIsOneLine(t *testing.T) {
	if got := (picture{columns: 79, lines: 20}).draw(scene{}); len(got) != 1 || got[0] != "0 done, 0 B, 0 ms" {
		t.Errorf("%q", got)
	}
}

func TestHistogramsHaveLogBuckets(t *testing.T) {
	var h histogram
	if lines := h.lines("Took:", 80); lines != nil {
		t.Errorf("an empty one: %q", lines)
	}
	for _, d := range []time.Duration{0, 50 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 3162 * time.Microsecond, 4 * time.Millisecond, 10 * time.Millisecond, time.Second, time.Hour, 24 * time.Hour} {
		h.add(d)
	}
	for range 97 {
		h.add(time.Second)
	}
	for _, columns := range []int{30, 80} {
		lines := h.lines("Took:", columns)
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > columns {
				t.Errorf("a line of %d characters: %q", n, line)
			}
		}
		if len(lines) != 15 || lines[1] != "  from   0 ms   2 █" || lines[2] != "  from 100 µs   1 █" || lines[3] != "  from 300 µs   0" || lines[10] != "  from    1 s  98 "+strings.Repeat("█", min(40, columns-18)) {
			t.Errorf("%d columns:\n%s", columns, strings.Join(lines, "\n"))
		}
	}
	for bucket := range buckets {
		if from(bucket) > 0 && bucketOf(from(bucket)*11/10) != bucket {
			t.Errorf("%v is not in bucket %d", from(bucket), bucket)
		}
	}
}
