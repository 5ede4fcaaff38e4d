package main

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/batchhttp/fetch"
)

// A picture shows how a batch gets on: a line of totals, and one for each of the hosts that end last.
type picture struct {
	columns int // of the terminal
	lines   int // at the most
	color   bool
}

// mostHosts is how many hosts a picture shows.
const mostHosts = 10

// A scene is what there is to show at one instant.
type scene struct {
	now     time.Time
	elapsed time.Duration
	total   int // of the URLs; 0: not known
	stats   fetch.Stats
	hosts   []fetch.HostStats // the one that ends last first
}

// draw returns the lines, none longer than the terminal is wide.
func (p picture) draw(s scene) []string {
	lines := []string{p.bold(p.totals(s))}
	longest := time.Duration(0)
	if len(s.hosts) > 0 {
		longest = s.hosts[0].Left
	}
	for _, h := range s.hosts[:min(len(s.hosts), mostHosts, max(0, p.lines-1))] {
		lines = append(lines, p.host(s, h, longest))
	}
	return lines
}

// totals returns as much of the sums as there is room for, the most important first.
func (p picture) totals(s scene) string {
	st := s.stats
	done := fmt.Sprint(st.Done)
	if s.total > 0 {
		done += fmt.Sprintf(" of %d", s.total)
	}
	parts := []string{done + " done"}
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", what))
		}
	}
	if st.Left > 0 {
		parts = append(parts, short(st.Left)+" left")
	}
	add(int(st.Failed), "failed")
	add(st.InFlight, "in flight")
	add(st.Queued, "queued")
	add(st.BackingOff, "backing off")
	add(st.PausedHosts, "paused")
	parts = append(parts, formatSize(st.Bytes), short(s.elapsed))
	line := parts[0]
	for _, part := range parts[1:] {
		if longer := line + ", " + part; len(longer) <= p.columns {
			line = longer
		}
	}
	return cut(line, p.columns)
}

// host returns the line of a host: its name, a bar for the time that it needs, the URLs that
// wait and are in flight, what holds it back, and the time.
func (p picture) host(s scene, h fetch.HostStats, longest time.Duration) string {
	tail := fmt.Sprintf("  %5d  %3d  %-13s %8s", h.Queued+h.BackingOff, h.InFlight, pace(s.now, h), short(h.Left))
	bar := 10
	switch {
	case p.columns < 48: // no room for all
		held := cut(strings.TrimSuffix(pace(s.now, h), each), 12)
		tail, bar = fmt.Sprintf(" %5d %-12s %6s", h.Queued+h.BackingOff+h.InFlight, held, short(h.Left)), 0
	case p.columns < 66:
		bar = 0
	}
	name := max(4, p.columns-utf8.RuneCountInString(tail)-bar-min(bar, 2))
	line := fmt.Sprintf("%-*s", name, cutWithin(printable(h.Host), name))
	if bar == 0 {
		return cut(line+tail, p.columns)
	}
	n := min(bar, int(math.Ceil(float64(bar)*h.Left.Seconds()/max(longest.Seconds(), 1e-9))))
	return line + "  " + p.paint(h, strings.Repeat("█", n)) + strings.Repeat("·", bar-n) + tail
}

const each = " each"

// pace says what holds a host back.
func pace(now time.Time, h fetch.HostStats) string {
	switch paused := h.PausedUntil.Sub(now); {
	case paused > 0:
		return "paused " + short(paused)
	case h.Pace > 0:
		return fmt.Sprintf("%.3g/s", float64(h.Pace))
	case h.Took > 0:
		return short(h.Took) + each
	}
	return ""
}

// short returns a time in few characters.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

// cut returns s in at most n characters, and shows where some are left out.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:max(0, n-1)]) + "…"
}

// cutWithin is cut for a host, of which both ends tell most.
func cutWithin(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n || n < 3 {
		return cut(s, n)
	}
	begin := (n - 1) / 2
	return string(runes[:begin]) + "…" + string(runes[len(runes)-(n-1-begin):])
}

const (
	bold   = "\x1b[1m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	plain  = "\x1b[0m"
)

func (p picture) bold(s string) string {
	if !p.color {
		return s
	}
	return bold + s + plain
}

// paint colours a bar: a host that is paused or refuses is yellow.
func (p picture) paint(h fetch.HostStats, bar string) string {
	if !p.color || bar == "" {
		return bar
	}
	color := green
	if !h.PausedUntil.IsZero() || h.Pace > 0 {
		color = yellow
	}
	return color + bar + plain
}
