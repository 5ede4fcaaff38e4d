package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// writePicture plays the scene both ways and draws the two panels.
func writePicture(ctx context.Context, file string) error {
	s := newScene()
	var panels []panel
	for _, play := range []func(context.Context, scene) (panel, error){playErrgroup, playFetch} {
		p, err := play(ctx, s)
		if err != nil {
			return err
		}
		fmt.Printf("%-32s %.2f s\n", p.title, p.took().Seconds())
		panels = append(panels, p)
	}
	return os.WriteFile(file, []byte(draw(s, panels)), 0o644)
}

// Measures of the picture, in its own units.
const (
	pictureWidth  = 760
	margin        = 12
	rowHeight     = 12
	barHeight     = 9
	captionHeight = 20
	panelHead     = 26 // title
	panelGap      = 22
	axisHeight    = 40
	endLabel      = 64 // room to the right of the longest panel
)

// draw returns the panels below each other, over one time axis.
func draw(s scene, panels []panel) string {
	longest := time.Duration(0)
	rows := 0
	for _, p := range panels {
		longest = max(longest, p.took())
		rows += p.slots
	}
	d := &drawing{perSecond: (pictureWidth - 2*margin - endLabel) / max(longest, time.Millisecond).Seconds()}
	height := margin + captionHeight + rows*rowHeight + len(panels)*(panelHead+panelGap) + axisHeight
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`,
		pictureWidth, height, describe(s, panels))
	d.printf("<style>%s</style>\n", pictureStyle)
	d.printf(`<text class="s" x="%d" y="%d">%s</text>`+"\n", margin, margin+10, caption(s))
	top := margin + captionHeight
	for _, p := range panels {
		d.panel(p, top)
		top += panelHead + p.slots*rowHeight + panelGap
	}
	d.axis(longest, top)
	d.legend(top + axisHeight - margin)
	d.printf("</svg>\n")
	return d.String()
}

func caption(s scene) string {
	return fmt.Sprintf("%d URLs, grouped by their %d hosts; %d slots, at most %d requests to a host at once",
		len(s.requests), sceneHosts, s.slots, s.hostLimit)
}

// describe is what those hear who do not see the picture.
func describe(s scene, panels []panel) string {
	var totals []string
	for _, p := range panels {
		totals = append(totals, fmt.Sprintf("%s: %.1f s", p.title, p.took().Seconds()))
	}
	return fmt.Sprintf("Slots over time: %s. Total time with %s", caption(s), strings.Join(totals, ", with "))
}

// pictureStyle keeps to colours of middling lightness for the bars, which do
// on white and on black, and changes only the text and the lines.
const pictureStyle = `
text{font:12px system-ui,sans-serif;fill:#1f2328}
.s{font-size:11px;fill:#59636e}.t{font-weight:600}
.l{stroke:#8b949e;stroke-width:1;fill:none}
.w{fill:#8b949e;fill-opacity:.3}
.h0{fill:#e5732a}.a{fill:#3f8fd2}.b{fill:#3aa57b}.c{fill:#8a7fd6}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}}
`
