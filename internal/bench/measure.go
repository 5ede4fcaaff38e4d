package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"time"
)

// A record is what one contender needed for one workload, round by round. A
// round that failed is NaN in all of them, so that rounds stay comparable.
type record struct {
	contender  contender
	cpu        []float64 // µs a request
	throughput []float64 // requests a second
	memory     []float64 // MiB
	opened     []float64 // connections
	objects    []float64 // allocated per request; none outside Go
	bytes      []float64
	slot       []float64 // KiB of memory per request in flight
	failure    error     // the last
	absence    error     // why it does not take part
}

// measure runs the plan and prints a table for each workload.
func (p plan) measure(ctx context.Context, output io.Writer) error {
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	// Linux lets a process inherit the peak memory of the one that starts it:
	// this one must stay small for the peaks to be theirs.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	failed := false
	for _, w := range p.workloads {
		records := make([]*record, len(p.contenders))
		for i, c := range p.contenders {
			records[i] = &record{contender: c}
		}
		for round := range p.rounds {
			fmt.Fprintf(os.Stderr, "%s: round %d of %d\n", w.name, round+1, p.rounds)
			if err := p.round(ctx, b, w, inTurn(records, round)); err != nil {
				return err
			}
		}
		p.print(output, w, records)
		for _, r := range records {
			failed = failed || r.failure != nil
		}
	}
	if failed {
		return errors.New("a contender failed")
	}
	return nil
}

// inTurn returns the records in the order of a round. All contenders have their
// turn in each, since what the machine does besides must meet them alike, and
// every other round runs backwards, so that nobody always follows the same one.
func inTurn(records []*record, round int) []*record {
	order := slices.Clone(records)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func (p plan) round(ctx context.Context, b *bench, w workload, records []*record) error {
	for _, r := range records {
		if r.absence == nil {
			p.add(ctx, b, r, w)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// add runs one round of one contender: once for a single URL and once for all
// of them. The difference is what the requests needed, without what starting
// the process does.
func (p plan) add(ctx context.Context, b *bench, r *record, w workload) {
	requests := p.requestsFor(w)
	single, err := b.run(ctx, r.contender, w, newJob(r.contender, w, b.server.Reached, 1, p.concurrency))
	all := usage{}
	if err == nil {
		all, err = b.run(ctx, r.contender, w, newJob(r.contender, w, b.server.Reached, 1+requests, p.concurrency))
	}
	if errors.Is(err, errNotInstalled) || errors.Is(err, errors.ErrUnsupported) {
		r.absence = err
		return
	}
	if err != nil {
		r.failure = err
		r.addNothing()
		return
	}
	r.addUsage(single, all, float64(requests))
}

func (r *record) addUsage(single, all usage, requests float64) {
	r.cpu = append(r.cpu, (all.cpu-single.cpu).Seconds()*1e6/requests)
	r.throughput = append(r.throughput, rateOf(requests, all.wall-single.wall))
	r.memory = append(r.memory, float64(all.peakMemory)/(1<<20))
	r.slot = append(r.slot, float64(all.peakMemory-single.peakMemory)/(1<<10)/requests)
	r.opened = append(r.opened, float64(all.tally.Connections))
	if one, many := single.verdict.Malloc, all.verdict.Malloc; one != nil && many != nil {
		r.objects = append(r.objects, (float64(many.Objects)-float64(one.Objects))/requests)
		r.bytes = append(r.bytes, (float64(many.Bytes)-float64(one.Bytes))/requests)
	}
}

// rateOf is NaN when so few requests ran that starting the process took longer.
func rateOf(requests float64, took time.Duration) float64 {
	if took <= 0 {
		return math.NaN()
	}
	return requests / took.Seconds()
}

func (r *record) addNothing() {
	for _, values := range []*[]float64{&r.cpu, &r.throughput, &r.memory, &r.slot, &r.opened} {
		*values = append(*values, math.NaN())
	}
}
