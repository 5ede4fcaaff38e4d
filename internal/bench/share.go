package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// A share is a part of a request's way, and how to know its stacks.
type share struct {
	name string
	of   *regexp.Regexp // matches a line of the stack
}

// shares are asked in turn, and the first that knows a stack has it. The system's are the floor: a
// request needs one write, one read, and one wait for the answer.
var shares = []share{
	{"garbage collector", regexp.MustCompile(`runtime\.(gcBgMark|gcAssist|bgsweep|bgscavenge)`)},
	{"system: write", regexp.MustCompile(`(?s)yscall.*\(\*netFD\)\.Write`)},
	{"system: read, with the copy", regexp.MustCompile(`(?s)yscall.*\(\*netFD\)\.Read`)},
	{"system: look before reuse", regexp.MustCompile(`(?s)yscall.*h1\.isSilent`)},
	{"system: wait for sockets", regexp.MustCompile(`runtime\.(netpoll|epollwait)\b`)},
	{"system: sleep and wake threads", regexp.MustCompile(`runtime\.futex\b`)},
	{"net/http: heads of responses", regexp.MustCompile(`http\.(ReadResponse|readTransfer|fixLength)|textproto\.`)},
	{"net/http: Transport", regexp.MustCompile(`http\.\(\*(Transport|ClientConn|persistConn|http2\w+)\)|dialConn`)},
	{"fetch: heads of requests", regexp.MustCompile(`h1\.\(\*Head\)`)},
	{"fetch: bodies", regexp.MustCompile(`fetch/internal/body\.`)},
	{"fetch: connections", regexp.MustCompile(`fetch/internal/(h1|transport)\.`)},
	{"fetch: URLs", regexp.MustCompile(`net/url\.|fetch/internal/target\.`)},
	{"fetch: order of service", regexp.MustCompile(`fetch/internal/sched\.`)},
	{"fetch: the rest", regexp.MustCompile(`batchhttp/fetch`)},
	{"the bench itself", regexp.MustCompile(`main\.`)},
	{"runtime: goroutines and polling", regexp.MustCompile(`runtime\.`)},
	{"other", regexp.MustCompile(``)},
}

// printShares says where the time of a CPU profile went.
func printShares(ctx context.Context, output io.Writer, file string) error {
	traces, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w", err)
	}
	spent := sharesOf(string(traces))
	total := time.Duration(0)
	for _, d := range spent {
		total += d
	}
	for i, s := range shares {
		if spent[i] > 0 {
			fmt.Fprintf(output, "%6.1f %%  %s\n", 100*float64(spent[i])/float64(total), s.name)
		}
	}
	return nil
}

var traceStart = regexp.MustCompile(`^ +([0-9.]+(?:ns|us|ms|s|mins)) +(\S.*)`)

// sharesOf adds up the stacks that pprof prints, each with its time in front
// of the innermost function, by share.
func sharesOf(traces string) []time.Duration {
	spent := make([]time.Duration, len(shares))
	blocks := strings.Split(traces, "-----------+")
	for _, block := range blocks[1:] { // the first is the heading
		_, block, _ = strings.Cut(block, "\n")
		start := traceStart.FindStringSubmatch(block)
		if start == nil {
			continue
		}
		took, err := time.ParseDuration(strings.Replace(start[1], "mins", "m", 1))
		if err != nil {
			continue
		}
		for i, s := range shares {
			if s.of.MatchString(block) {
				spent[i] += took
				break
			}
		}
	}
	return spent
}
