package main

import (
	"bytes"
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

// A report prints results as they come, shows meanwhile how the batch gets on, and adds up. On a
// terminal that is a picture below the results, drawn four times a second; elsewhere it is a line
// every ten seconds. Both are on standard error.
type report struct {
	fetcher  *fetch.Fetcher
	start    time.Time
	total    int  // of the URLs; 0: not known
	failures bool // print only these
	format   func(r fetch.Result, note string) string
	note     noteFunc
	log      io.Writer // for lines where there is no screen
	hosts    hostList  // of the goroutine that draws

	mu        sync.Mutex    // guards the fields below and the terminal
	out       io.Writer     // of results
	text      io.Writer     // of all else
	screen    *screen       // nil: there is none
	rows      *bytes.Buffer // that wait for the next picture; nil: results are printed at once
	failure   error         // of printing
	done      int
	failed    int
	cancelled int
	errored   int
	classes   [10]int // statuses without an error, by their first digit
	bytes     int64
	took      time.Duration
	waits     histogram
	takes     histogram

	quit    chan struct{}
	stopped sync.WaitGroup
}

// A noteFunc returns what to add to the row of a result that came after some time.
type noteFunc func(r fetch.Result, after time.Duration) string

const row = "%6s  %10s  %8s  %8s  %s\n"

func newReport(cfg *config, f *fetch.Fetcher, total int, note noteFunc) *report {
	p := &report{
		fetcher: f, start: time.Now(), total: total, failures: cfg.failures, note: note,
		format: formatRow, out: cfg.out, text: cfg.text(), log: cfg.log, screen: newScreen(os.Stderr), quit: make(chan struct{}),
	}
	if p.screen != nil && isCharDevice(os.Stdout) {
		p.rows = &bytes.Buffer{}
	}
	if cfg.json {
		p.format = formatJSON
	} else {
		fmt.Fprintf(p.out, row, "STATUS", "SIZE", "WAITED", "TOOK", "URL")
	}
	p.stopped.Go(p.keepShowing)
	return p
}

// close takes the picture off the terminal. It may be called again.
func (p *report) close() {
	if p.quit == nil {
		return
	}
	close(p.quit)
	p.stopped.Wait()
	p.quit = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.screen != nil {
		p.screen.hide()
		p.screen = nil
	}
	p.printRows()
}

// add counts r and prints it. The error is that of writing.
func (p *report) add(ctx context.Context, r fetch.Result) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if interrupted(ctx, r) {
		p.cancelled++ // there may be many, so they are only counted
		return nil
	}
	p.count(r)
	note := ""
	if p.note != nil {
		note = p.note(r, time.Since(p.start))
	}
	if p.failures && r.OK() {
		return p.failure
	}
	if p.rows != nil {
		p.rows.WriteString(p.format(r, note))
		return p.failure
	}
	_, err := io.WriteString(p.out, p.format(r, note))
	return err
}

// count adds a result up.
func (p *report) count(r fetch.Result) {
	p.done++
	p.took += r.Took
	p.bytes += int64(len(r.Body))
	p.waits.add(r.Waited)
	if r.Attempts > 0 {
		p.takes.add(r.Took)
	}
	if !r.OK() {
		p.failed++
	}
	if r.Err != nil {
		p.errored++
	} else {
		p.classes[r.StatusCode/100%10]++
	}
}

// printRows prints the results that wait.
func (p *report) printRows() {
	if p.rows == nil || p.rows.Len() == 0 {
		return
	}
	if _, err := p.rows.WriteTo(p.out); err != nil && p.failure == nil {
		p.failure = err
	}
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
	fmt.Fprintf(p.text, "\n%s in %s: %d ok, %d failed, %s\n", count(p.done, "URL"),
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
		fmt.Fprintln(p.text, strings.Join(kinds, ", "))
	}
	if p.done > 1 && p.took > elapsed {
		fmt.Fprintf(p.text, "One after another: %s, %.1f times as long\n", formatTime(p.took), p.took.Seconds()/elapsed.Seconds())
	}
	columns, _ := sizeOf(os.Stdout)
	p.printHistograms(columns)
}

// printHistograms shows how the times are spread.
func (p *report) printHistograms(columns int) {
	for _, lines := range [][]string{p.waits.lines("Waited:", columns), p.takes.lines("Took:", columns)} {
		if lines != nil {
			fmt.Fprintf(p.text, "\n%s\n", strings.Join(lines, "\n"))
		}
	}
}

const (
	pictureEvery = 250 * time.Millisecond
	lineEvery    = 10 * time.Second
)

// keepShowing shows how the batch gets on until the report is closed.
func (p *report) keepShowing() {
	every := lineEvery
	if p.screen != nil {
		every = pictureEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			p.show()
		}
	}
}

// A hostList has the hosts as they were when it last looked. With very many that takes its time,
// so that it does not always look.
type hostList struct {
	hosts []fetch.HostStats
	at    time.Time
	took  time.Duration
}

// look takes a twentieth of the time at the most.
func (l *hostList) look(f *fetch.Fetcher) []fetch.HostStats {
	if start := time.Now(); start.Sub(l.at) >= 20*l.took {
		l.hosts = f.Hosts()
		l.at, l.took = start, time.Since(start)
	}
	return l.hosts
}

// show draws a picture, or prints a line of it.
func (p *report) show() {
	s := scene{now: time.Now(), elapsed: time.Since(p.start), total: p.total, stats: p.fetcher.Stats()}
	if p.screen == nil {
		fmt.Fprintln(p.log, "fetchall:", picture{columns: 200}.totals(s))
		return
	}
	s.hosts = p.hosts.look(p.fetcher)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows != nil && p.rows.Len() > 0 {
		p.screen.hide()
		p.printRows()
	}
	p.screen.show(func(pic picture) []string { return pic.draw(s) })
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
