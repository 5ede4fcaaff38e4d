package main

import (
	"context"
	"errors"
	"os/exec"
)

// A contender is one way to fetch many URLs.
type contender struct {
	name    string
	about   string
	noHTTP2 bool
	few     bool // cannot have thousands of requests in flight
	runner  runner
}

// A runner makes the process of a contender, and judges what it got.
type runner interface {
	// command returns the process that does the job, not yet started. It
	// may write below the directory. The error is errNotInstalled where
	// the program is missing.
	command(ctx context.Context, j job, directory string) (*exec.Cmd, error)
	// verdict looks at what the finished process printed or wrote.
	verdict(j job, output []byte, directory string) (verdict, error)
}

var errNotInstalled = errors.New("not installed")

// A verdict says what a contender got.
type verdict struct {
	Whole  int    // bodies with the right length and checksum
	Fault  string // the first error, if any
	Malloc *mallocs
}

// mallocs is what the runtime of a Go contender counted while it fetched.
type mallocs struct {
	Objects, Bytes uint64
}

// reference is the contender that the others are compared with.
const reference = "fetch"

func contenders() []contender {
	return []contender{
		{name: reference, about: "fetch.FetchAll", runner: inGo{getWithFetch}},
		{name: "fetch-options", about: "fetch.FetchAll with retries and every limit on", runner: inGo{getWithFetchOptions}},
		{name: "fetch-nethttp", about: "fetch.FetchAll with a tuned http.Transport instead of its own connections", runner: inGo{getWithFetchNetHTTP}},
		{name: "fetch-polled", about: "fetch.FetchAll, and Stats ten times a second", runner: inGo{getWithFetchPolled}},
		{name: "fetch-hooks", about: "fetch.FetchAll with all hooks", runner: inGo{getWithFetchHooks}},
		{name: "fetch-wrapped", about: "fetch.FetchAll with a RoundTripper around its client that calls InfoOf", runner: inGo{getWithFetchWrapped}},
		{name: "round-trip", about: "no client: Transport.RoundTrip in a worker loop, header and status kept, no timeouts", runner: inGo{getWithRoundTrip}},
		{name: "worker-loop", about: "hand-written: tuned client, timeouts, presized bodies", runner: inGo{getWithWorkerLoop}},
		{name: "errgroup-tuned", about: "errgroup.SetLimit, tuned client, io.ReadAll", runner: inGo{getWithErrgroup}},
		{name: "errgroup-default", about: "errgroup.SetLimit, http.DefaultClient, io.ReadAll", runner: inGo{getWithDefaultClient}},
		{name: "conc", about: "sourcegraph/conc pool, tuned client, io.ReadAll", runner: inGo{getWithConc}},
		{name: "colly", about: "colly v2, asynchronous, tuned transport", runner: inGo{getWithColly}},
		{name: "resty", about: "resty v3 in an errgroup, tuned transport", runner: inGo{getWithResty}},
		{name: "retryablehttp", about: "go-retryablehttp in an errgroup, tuned transport", runner: inGo{getWithRetryable}},
		{name: "fasthttp", about: "fasthttp in a worker loop", noHTTP2: true, runner: inGo{getWithFasthttp}},
		{name: "aiohttp", about: "Python: asyncio.gather and aiohttp", noHTTP2: true, runner: inPython{}},
		{name: "curl", about: "curl --parallel, to files", few: true, runner: curl{}},
		{name: "wget2", about: "wget2, to files", few: true, runner: wget2{}},
	}
}

func findContender(name string) (contender, error) {
	found, err := pick(contenders(), []string{name}, func(c contender) string { return c.name })
	if err != nil {
		return contender{}, err
	}
	return found[0], nil
}
