package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A drawing is an SVG as it grows.
type drawing struct {
	strings.Builder
	perSecond float64 // units on the time axis
}

func (d *drawing) printf(format string, arguments ...any) {
	fmt.Fprintf(d, format, arguments...)
}

func (d *drawing) x(t time.Duration) float64 { return margin + t.Seconds()*d.perSecond }

// panel draws one run: a row for each slot, with one path for all bars of a
// class, which is much smaller than an element for each bar.
func (d *drawing) panel(p panel, top int) {
	d.printf(`<text class="t" x="%d" y="%d">%s</text>`+"\n", margin, top+14, p.title)
	top += panelHead
	paths := map[string]*strings.Builder{}
	for _, b := range p.bars {
		d.bar(paths, waitingClass, b.slot, top, b.taken, b.sent)
		d.bar(paths, hostClass(b.host), b.slot, top, b.sent, b.ended)
	}
	classes := make([]string, 0, len(paths))
	for class := range paths {
		classes = append(classes, class)
	}
	slices.Sort(classes)
	for _, class := range classes {
		d.printf(`<path class="%s" d="%s"/>`+"\n", class, paths[class])
	}
	end, bottom := d.x(p.took()), top+p.slots*rowHeight
	d.printf(`<path class="l" d="M%.1f %dV%d"/>`, end, top-4, bottom)
	d.printf(`<text class="t" x="%.1f" y="%d">%.1f s</text>`+"\n", end+6, top+rowHeight, p.took().Seconds())
}

// waitingClass is for a slot that is held while nothing is sent.
const waitingClass = "w"

// hostClass gives the slow host a colour of its own, and neighbours in the
// list different ones.
func hostClass(host int) string {
	if host == 0 {
		return "h0"
	}
	return string("abc"[host%3])
}

// bar adds a rectangle to the path of the class. Times shorter than a tenth of
// a unit are not seen: nobody waited.
func (d *drawing) bar(paths map[string]*strings.Builder, class string, slot, top int, from, to time.Duration) {
	left, width := d.x(from), (to-from).Seconds()*d.perSecond
	if width < 0.1 {
		return
	}
	path := paths[class]
	if path == nil {
		path = &strings.Builder{}
		paths[class] = path
	}
	const gap = 0.7 // between a bar and the next one
	width = max(width-gap, 0.3)
	fmt.Fprintf(path, "M%.1f %dh%.1fv%dh-%.1fz", left, top+slot*rowHeight, width, barHeight, width)
}

// axis draws a line with a mark for each second, or for each fifth of one.
func (d *drawing) axis(longest time.Duration, top int) {
	step := time.Second
	if longest < 2*time.Second {
		step = 200 * time.Millisecond
	}
	top -= panelGap - 8
	d.printf(`<path class="l" d="M%d %dH%.1f`, margin, top, d.x(longest))
	for t := time.Duration(0); t <= longest; t += step {
		d.printf("M%.1f %dv4", d.x(t), top)
	}
	d.printf(`"/>` + "\n")
	for t := time.Duration(0); t <= longest; t += step {
		d.printf(`<text class="s" x="%.1f" y="%d" text-anchor="middle">%g s</text>`+"\n", d.x(t), top+16, t.Seconds())
	}
}

// legend explains the colours in one line.
func (d *drawing) legend(y int) {
	x := margin
	for _, entry := range []struct {
		text    string
		classes []string
	}{
		{"the slow host", []string{hostClass(0)}},
		{"the other hosts", []string{hostClass(1), hostClass(2), hostClass(3)}},
		{"slot held, nothing sent", []string{waitingClass}},
	} {
		for _, class := range entry.classes {
			d.printf(`<path class="%s" d="M%d %dh12v%dh-12z"/>`, class, x, y-barHeight, barHeight)
			x += 15
		}
		d.printf(`<text class="s" x="%d" y="%d">%s</text>`+"\n", x+3, y, entry.text)
		x += 3 + legendLetter*len(entry.text) + 18
	}
}

// legendLetter is more than a letter of the legend is wide on average.
const legendLetter = 6
