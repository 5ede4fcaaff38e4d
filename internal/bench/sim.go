package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// A simulation needs no network and no clock: time is a number that moves on to the next
// event. It shows what only the order of requests decides.

// simulate prints how near each policy comes to the lower bound, what the scheduler of
// fetch costs at scale, and how it treats hosts that refuse, or are dead.
func simulate(out io.Writer, urls int) {
	comparePolicies(out)
	compareRefusals(out)
	compareDead(out)
	measureScale(out, urls)
}

// comparePolicies prints the makespan of each policy over the lower bound.
func comparePolicies(out io.Writer) {
	const loads, urls, hosts, slots, limit = 200, 6000, 300, 10, 2
	for _, noise := range []float64{0, 0.5} {
		fmt.Fprintf(out, "Makespan over the lower bound: %d lists of %d URLs on %d hosts, %d slots, %d to a host, noise %.1f\n\n",
			loads, urls, hosts, slots, limit, noise)
		table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "policy\tmedian\t90 %\tmost\t")
		for _, p := range policies {
			var ratios []float64
			for seed := range uint64(loads) {
				l := newLoad(seed, urls, hosts, noise)
				ratios = append(ratios, p.run(l, slots, limit).Seconds()/l.lowerBound(slots, limit).Seconds())
			}
			slices.Sort(ratios)
			fmt.Fprintf(table, "%s\t%.3f\t%.3f\t%.3f\t\n", p.name, ratios[loads/2], ratios[loads*9/10], ratios[loads-1])
		}
		table.Flush()
		fmt.Fprintln(out)
	}
}

// measureScale prints what the scheduler costs for longer and longer lists, up
// to the given number of URLs, ten to a host.
func measureScale(out io.Writer, most int) {
	fmt.Fprintf(out, "The scheduler alone, 64 slots, ten URLs to a host, two in flight to each\n\n")
	fmt.Fprintf(out, "%12s %12s %12s %20s %12s\n", "URLs", "hosts", "ns to push", "ns to start and end", "bytes a URL")
	for urls := 10_000; urls <= most; urls *= 10 {
		s := scale(urls, urls/10)
		fmt.Fprintf(out, "%12d %12d %12d %20d %12d\n", urls, urls/10, s.push.Nanoseconds(), s.serve.Nanoseconds(), s.bytes)
		runtime.GC()
	}
}

// scaled is what one URL costs.
type scaled struct {
	push, serve time.Duration
	bytes       uint64
}
