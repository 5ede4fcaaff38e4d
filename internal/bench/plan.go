package main

import (
	"flag"
	"fmt"
	"strings"
)

// A plan is what the flags ask for.
type plan struct {
	requests    int // 0: as many as the workload says
	concurrency int
	rounds      int
	contenders  []contender
	workloads   []workload
	profile     string // directory
	svg         string // file
	simulate    bool
	simulated   int // URLs, at the most
}

// The quick plan shows that everything runs. Its figures are mostly noise.
const (
	quickRequests = 300
	quickRounds   = 1
)

func parsePlan(arguments []string) (plan, error) {
	var p plan
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&p.requests, "n", 0, "requests of one run (default: the workload's own number)")
	flags.IntVar(&p.concurrency, "concurrency", 64, "requests in flight")
	flags.IntVar(&p.rounds, "rounds", 5, "how often every contender runs")
	names := flags.String("contenders", "", "comma-separated contenders (default: all)\n"+listContenders())
	loads := flags.String("workload", "1k,100k", "comma-separated workloads, or all\n"+listWorkloads())
	quick := flags.Bool("quick", false, "a few seconds: do they all run?")
	flags.StringVar(&p.profile, "profile", "", "write CPU and allocation profiles to this `directory` instead (default contender: fetch)")
	flags.StringVar(&p.svg, "svg", "", "draw slots over time to this `file` instead")
	flags.BoolVar(&p.simulate, "sim", false, "simulate the scheduler instead, without network or clock")
	flags.IntVar(&p.simulated, "sim-urls", 10_000_000, "with -sim, the longest list (100,000,000 need 16 GiB)")
	if err := flags.Parse(arguments); err != nil {
		return p, err
	}
	if flags.NArg() > 0 {
		return p, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *quick {
		p.requests, p.rounds = quickRequests, quickRounds
	}
	if p.requests < 0 || p.concurrency < 1 || p.rounds < 1 {
		return p, fmt.Errorf("-n, -concurrency and -rounds must be positive")
	}
	if p.profile != "" && *names == "" {
		*names = reference
	}
	return p, p.choose(*names, *loads)
}

func (p *plan) choose(names, loads string) (err error) {
	p.contenders = contenders()
	if names != "" {
		p.contenders, err = pick(p.contenders, strings.Split(names, ","), func(c contender) string { return c.name })
		if err != nil {
			return err
		}
	}
	p.workloads = workloads()
	if loads != "all" {
		p.workloads, err = pick(p.workloads, strings.Split(loads, ","), func(w workload) string { return w.name })
	}
	return err
}

// pick returns those of all that are named, in the order of the names.
func pick[T any](all []T, names []string, nameOf func(T) string) ([]T, error) {
	var picked []T
	for _, name := range names {
		found := false
		for _, candidate := range all {
			if nameOf(candidate) == strings.TrimSpace(name) {
				picked, found = append(picked, candidate), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %q", name)
		}
	}
	return picked, nil
}

func (p *plan) requestsFor(w workload) int {
	if p.requests > 0 {
		return p.requests
	}
	return w.requests
}

func listContenders() string {
	var b strings.Builder
	for _, c := range contenders() {
		fmt.Fprintf(&b, "  %-18s %s\n", c.name, c.about)
	}
	return b.String()
}

func listWorkloads() string {
	var b strings.Builder
	for _, w := range workloads() {
		fmt.Fprintf(&b, "  %-18s %s\n", w.name, w.about)
	}
	return b.String()
}
