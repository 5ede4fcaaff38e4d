package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/batchhttp/fetch"
)

// A report prints results as they come and adds them up. On a terminal it
// keeps a progress line on standard error.
type report struct {
	start    time.Time
	total    int  // of the URLs; 0: not known
	failures bool // print only these
	note     noteFunc

	mu        sync.Mutex // guards the fields below and the terminal
	out       io.Writer
	progress  io.Writer // nil: no progress line
	shown     int       // length of the progress line on the terminal
	done      int
	failed    int
	cancelled int
	errored   int
	classes   [10]int // statuses without an error, by their first digit
	bytes     int64
	took      time.Duration

	quit    chan struct{}
	stopped sync.WaitGroup
}

// A noteFunc returns what to add to the row of a result that came after some time.
type noteFunc func(r fetch.Result, after time.Duration) string

const row = "%6s  %10s  %8s  %8s  %s\n"

func newReport(out io.Writer, total int, failures bool, note noteFunc) *report {
	p := &report{start: time.Now(), total: total, failures: failures, note: note, out: out, quit: make(chan struct{})}
	fmt.Fprintf(out, row, "STATUS", "SIZE", "WAITED", "TOOK", "URL")
	if isCharDevice(os.Stderr) {
		p.progress = os.Stderr
		p.stopped.Go(p.keepProgress)
	}
	return p
}

// close takes the progress line off the terminal.
func (p *report) close() {
	if p.progress == nil {
		return
	}
	close(p.quit)
	p.stopped.Wait()
	p.hideProgress()
	p.progress = nil
}

// add counts r and prints it. The error is that of writing.
func (p *report) add(ctx context.Context, r fetch.Result) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if interrupted(ctx, r) {
		p.cancelled++ // there may be many, so they are only counted
		return nil
	}
	p.done++
	p.took += r.Took
	p.bytes += int64(len(r.Body))
	if !r.OK() {
		p.failed++
	}
	if r.Err != nil {
		p.errored++
	} else {
		p.classes[r.StatusCode/100%10]++
	}
	note := ""
	if p.note != nil {
		note = p.note(r, time.Since(p.start))
	}
	if p.failures && r.OK() {
		return nil
	}
	p.hideProgress()
	_, err := io.WriteString(p.out, formatRow(r, note))
	p.showProgress()
	return err
}

// interrupted reports whether r has no outcome because of a Ctrl-C.
func interrupted(ctx context.Context, r fetch.Result) bool {
	return ctx.Err() != nil && errors.Is(r.Err, ctx.Err())
}

func formatRow(r fetch.Result, note string) string {
	status, size, text := fmt.Sprint(r.StatusCode), formatSize(int64(len(r.Body))), safeURL(r)
	if r.Redirects > 0 {
		text += " -> " + printable(r.FinalURL)
	}
	if r.Err != nil {
		status, size = "error", "-"
		text += ": " + cause(r.Err).Error()
	}
	if note != "" {
		text += " (" + note + ")"
	}
	return fmt.Sprintf(row, status, size, formatTime(r.Waited), formatTime(r.Took), text)
}

// cause is err without the URL, which has its own place in the row.
func cause(err error) error {
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		return e.Err
	}
	return err
}

// safeURL is the URL as it was given, but for user information and control characters.
func safeURL(r fetch.Result) string {
	u, err := url.Parse(r.URL)
	switch e, failed := errors.AsType[*fetch.Error](r.Err); {
	case err == nil && u.User == nil:
		return printable(r.URL)
	case err == nil:
		u.User = nil
		return u.String()
	case failed:
		return e.URL // the library knows what is safe to show of it
	}
	return printable(r.FinalURL)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// printTotals prints the last lines. Nothing may be added after it.
func (p *report) printTotals() {
	p.close()
	elapsed := time.Since(p.start)
	fmt.Fprintf(p.out, "\n%s in %s: %d ok, %d failed, %s\n", count(p.done, "URL"),
		formatTime(elapsed), p.done-p.failed, p.failed, formatSize(p.bytes))
	var kinds []string
	for class, n := range p.classes {
		if n > 0 {
			kinds = append(kinds, fmt.Sprintf("%dxx: %d", class, n))
		}
	}
	if p.errored > 0 {
		kinds = append(kinds, fmt.Sprintf("errors: %d", p.errored))
	}
	if p.cancelled > 0 {
		kinds = append(kinds, fmt.Sprintf("interrupted: %d", p.cancelled))
	}
	if len(kinds) > 0 {
		fmt.Fprintln(p.out, strings.Join(kinds, ", "))
	}
	if p.done > 1 && p.took > elapsed {
		fmt.Fprintf(p.out, "One after another: %s, %.1f times as long\n", formatTime(p.took), p.took.Seconds()/elapsed.Seconds())
	}
}

// keepProgress draws the progress line ten times a second.
func (p *report) keepProgress() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			p.mu.Lock()
			p.showProgress()
			p.mu.Unlock()
		}
	}
}

func (p *report) showProgress() {
	if p.progress == nil {
		return
	}
	line := fmt.Sprint(p.done)
	if p.total > 0 {
		line += fmt.Sprintf(" of %d", p.total)
	}
	line += fmt.Sprintf(" done, %d failed, %s, %.1fs", p.failed, formatSize(p.bytes), time.Since(p.start).Seconds())
	fmt.Fprintf(p.progress, "\r%-*s", p.shown, line) // spaces over what the last line had more
	p.shown = len(line)
}

func (p *report) hideProgress() {
	if p.shown > 0 {
		fmt.Fprintf(p.progress, "\r%*s\r", p.shown, "")
		p.shown = 0
	}
}

func formatTime(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func formatSize(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1<<10 && unit < 3 {
		value, unit = value/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[unit])
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}
