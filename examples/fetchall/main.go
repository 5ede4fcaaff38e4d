// Fetchall fetches many URLs at once and prints what came of each:
//
//	fetchall https://go.dev https://pkg.go.dev
//	fetchall -host-rate 5 < urls.txt
//
// Without URLs it shows a demo with servers of its own. fetchall -h lists the flags.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/batchhttp/fetch"
	"golang.org/x/time/rate"
)

const usage = `Fetchall fetches many URLs at once and prints what came of each.

usage: fetchall [flags] [URL ...]

The URLs are the arguments or, without any, the lines of standard input. Blank
lines and lines that begin with # are skipped; blanks around a URL, line ends of
Windows and a byte order mark do no harm. The argument - is standard input
too, even if that is a terminal or empty. With no URL at all fetchall shows a
demo: it starts some servers on this machine and fetches from them.

  fetchall https://go.dev https://pkg.go.dev
  fetchall -host-rate 5 -timeout 10s < urls.txt
  fetchall -header 'Authorization: Bearer abc' https://api.example.com/v1/users

Meanwhile standard error shows how it gets on: on a terminal the totals, the time
left, and the hosts that end last, with the URLs that wait and are in flight, what
holds them back, and their own time left; elsewhere a line every ten seconds.
NO_COLOR takes the colours away.

WAITED is the time that a URL spent in queues and limits, TOOK the time of its
requests. The exit status is 1 when a URL failed, with an error or with a status
that is not 2xx, and 2 when the flags are wrong. Ctrl-C ends the run and reports
what is done.

flags:
`

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	cfg, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fetchall: %v\nRun fetchall -h for help.\n", err)
		return 2
	}

	// The first Ctrl-C cancels ctx. After that stop gives the signal its
	// usual meaning back, so that the second one kills the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop)

	ok := runInput(ctx, stop, cfg)
	if cfg.archive != nil {
		if err := cfg.archive.write(); err != nil {
			fmt.Fprintln(os.Stderr, "fetchall: -har:", err)
			ok = false
		}
	}
	return exitStatus(ok)
}

// runInput fetches the URLs there are, or shows the demo, and reports whether all are well.
func runInput(ctx context.Context, stop func(), cfg *config) (ok bool) {
	in := cfg.open(ctx)
	if in.urls == nil && in.err() == nil && ctx.Err() == nil {
		return runDemo(ctx, stop, cfg)
	}
	ok = fetchInput(ctx, stop, cfg, in, nil)
	if err := in.err(); err != nil {
		fmt.Fprintln(os.Stderr, "fetchall: standard input:", err)
		ok = false
	}
	return ok
}

func exitStatus(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// fetchInput fetches the URLs of in, prints what came of them, and reports
// whether all are well. note, if not nil, has something to add to a row.
func fetchInput(ctx context.Context, stop func(), cfg *config, in input, note noteFunc) (ok bool) {
	if in.urls == nil {
		return false
	}
	f, err := fetch.New(cfg.options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetchall:", err)
		return false
	}
	defer f.Close()
	out := newReport(cfg, f, in.total, note)
	defer out.close()
	for r := range f.Stream(ctx, in.urls) {
		if err := out.add(ctx, r); err != nil {
			fmt.Fprintln(os.Stderr, "fetchall:", err)
			stop() // leaving the loop waits for the input, which may be blocked
			return false
		}
	}
	out.printTotals()
	return out.failed == 0 && ctx.Err() == nil
}

// config is what the command line says.
type config struct {
	options  []fetch.Option
	args     []string
	demo     bool
	failures bool // print only these
	json     bool // print results as lines of JSON
	archive  *archive

	out, log io.Writer // standard output and error
}

// text returns where all but the results goes.
func (cfg *config) text() io.Writer {
	if cfg.json {
		return cfg.log
	}
	return cfg.out
}

func parseFlags(args []string) (*config, error) {
	cfg := &config{out: os.Stdout, log: os.Stderr}
	add := func(o fetch.Option) { cfg.options = append(cfg.options, o) }

	fs := flag.NewFlagSet("fetchall", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error
	concurrency := fs.Int("concurrency", 64, "most requests in flight, `n` of all hosts together")
	hostConcurrency := fs.Int("host-concurrency", 0, "most requests in flight to one host, `n`; 0: half the slots while other hosts need them")
	totalRate := fs.Float64("rate", 0, "most requests started in a second, `n` of all hosts together; 0: no limit")
	hostRate := fs.Float64("host-rate", 0, "most requests started in a second to one host, `n`; 0: no limit")
	timeout := fs.Duration("timeout", 30*time.Second, "longest time for one URL, waiting for its turn not counted; 0: no limit")
	maxBody := fs.Int64("max-body", 10<<20, "longest body, in `bytes` after decoding; 0: no limit")
	redirects := fs.Int("redirects", 10, "follow at most `n` redirects; 0: report the redirect itself")
	retries := fs.Int("retries", 0, "try a URL up to `n` times more after a failure that another attempt can mend")
	maxRetryAfter := fs.Duration("max-retry-after", time.Minute, "longest Retry-After to wait for; 0: ignore Retry-After")
	hostFailures := fs.Int("max-host-failures", 0, "give a host up after `n` failures to connect in a row; 0: never")
	publicOnly := fs.Bool("public-only", false, "connect to public addresses only")
	inOrder := fs.Bool("in-order", false, "print in the order of the input, not of completion")
	dedup := fs.Bool("dedup", false, "fetch equal URLs once")
	fs.BoolVar(&cfg.failures, "failures", false, "print only the URLs that failed, and the totals")
	fs.BoolVar(&cfg.json, "json", false, "print a line of JSON for each URL, and all else to standard error")
	harFile := fs.String("har", "", "write all requests to `file` as an HTTP Archive, without the values of headers, cookies and queries")
	fs.BoolVar(&cfg.demo, "demo", false, "show the demo, whatever standard input is")
	fs.Func("header", "`\"Name: value\"` to send with every request; can be given more than once", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New(`want "Name: value"`)
		}
		add(fetch.WithHeader(strings.TrimSpace(name), strings.TrimSpace(value)))
		return nil
	})

	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
	}
	if err != nil {
		return nil, err
	}
	cfg.args = fs.Args()
	if i := slices.IndexFunc(cfg.args, func(s string) bool { return len(s) > 1 && s[0] == '-' }); i >= 0 {
		return nil, fmt.Errorf("flags go before the URLs: %s", cfg.args[i])
	}
	if cfg.demo && len(cfg.args) > 0 {
		return nil, errors.New("-demo takes no URLs")
	}

	add(fetch.WithConcurrency(*concurrency))
	add(fetch.WithHostConcurrency(*hostConcurrency))
	add(fetch.WithTimeout(*timeout))
	add(fetch.WithMaxBody(*maxBody))
	add(fetch.WithMaxRedirects(*redirects))
	add(fetch.WithRetries(*retries))
	add(fetch.WithMaxRetryAfter(*maxRetryAfter))
	add(fetch.WithMaxHostFailures(*hostFailures))
	if *publicOnly {
		add(fetch.WithPublicOnly())
	}
	if *totalRate != 0 {
		add(fetch.WithRate(rate.Limit(*totalRate), 1))
	}
	if *hostRate != 0 {
		add(fetch.WithHostRate(rate.Limit(*hostRate), 1))
	}
	if *inOrder {
		add(fetch.WithInOrder())
	}
	if *dedup {
		add(fetch.WithDedup())
	}
	if _, err := fetch.New(cfg.options...); err != nil { // before any input is read
		return nil, err
	}
	if *harFile != "" {
		if cfg.archive, err = createArchive(*harFile); err != nil {
			return nil, err
		}
		add(cfg.archive.option())
	}
	return cfg, nil
}

// input is where the URLs come from. urls is nil when there is none.
type input struct {
	urls  iter.Seq[string]
	total int // 0: not known
	lines *lineReader
}

// err returns what went wrong reading the input, and is asked at its end.
func (in input) err() error {
	if in.lines == nil {
		return nil
	}
	return in.lines.err()
}

// open finds out where the URLs come from. For standard input it waits for the first.
func (cfg *config) open(ctx context.Context) input {
	stdin := slices.Equal(cfg.args, []string{"-"})
	switch {
	case cfg.demo || len(cfg.args) == 0 && isCharDevice(os.Stdin):
		return input{}
	case len(cfg.args) > 0 && !stdin:
		return input{urls: slices.Values(cfg.args), total: len(cfg.args)}
	}
	hint := time.AfterFunc(2*time.Second, func() {
		fmt.Fprintln(os.Stderr, "fetchall: waiting for URLs on standard input, one a line (-demo shows a demo instead)")
	})
	defer hint.Stop()
	lines := readLines(ctx, os.Stdin)
	first, ok := lines.next(ctx)
	if !ok && !stdin {
		return input{lines: lines}
	}
	return input{lines: lines, urls: func(yield func(string) bool) {
		for line, ok := first, ok; ok; line, ok = lines.next(ctx) {
			if !yield(line) {
				return
			}
		}
	}}
}

// isCharDevice reports whether f is a terminal, or a device such as /dev/null.
func isCharDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A lineReader reads lines on a goroutine of its own. A blocked read of
// standard input cannot be cancelled, but it need not be waited for.
type lineReader struct {
	lines   chan string // unbuffered, so that no more is read than is fetched
	readErr error       // valid once lines is closed
}

func readLines(ctx context.Context, r io.Reader) *lineReader {
	l := &lineReader{lines: make(chan string)}
	go func() {
		defer close(l.lines)
		l.readErr = l.readAll(ctx, r)
	}()
	return l
}

// maxLine bounds the memory that a file without line ends can take. No server takes a URL of that length.
const maxLine = 1 << 20

func (l *lineReader) readAll(ctx context.Context, r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	n := 1
	for ; s.Scan(); n++ {
		url := urlOf(s.Text())
		if url == "" {
			continue
		}
		select {
		case l.lines <- url:
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", n, maxLine)
	}
	return s.Err()
}

// urlOf returns the URL of a line, or "" if there is none. Editors leave byte order marks,
// blanks and carriage returns. A # within a URL begins its fragment and no comment.
func urlOf(line string) string {
	line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return line
}

// next returns the next line. ok is false at the end of the input, and when ctx is done.
func (l *lineReader) next(ctx context.Context) (line string, ok bool) {
	select {
	case line, ok = <-l.lines:
		return line, ok
	case <-ctx.Done():
		return "", false
	}
}

// err returns the read error that ended the lines, if there was one.
func (l *lineReader) err() error {
	select {
	case _, open := <-l.lines:
		if !open {
			return l.readErr
		}
	default:
	}
	return nil
}
