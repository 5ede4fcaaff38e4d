package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"
)

// print writes the table of one workload. Every figure is the median of the
// rounds; the ratio is that of the pairs, with the least and the greatest.
func (p plan) print(output io.Writer, w workload, records []*record) {
	concurrency := p.concurrency
	if w.together {
		concurrency = p.requestsFor(w)
	}
	fmt.Fprintf(output, "\n%s: %s. %d requests, %d at once, %d rounds, %s, %d CPUs, %s, %s\n\n",
		w.name, w.about, p.requestsFor(w), concurrency, p.rounds,
		time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOARCH, runtime.Version())
	ours := referenceCPU(records)
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := columnsOf(w, ours)
	for _, c := range columns {
		fmt.Fprintf(table, "%s\t", c.title)
	}
	fmt.Fprintln(table)
	for _, r := range records {
		for i, c := range columns {
			fmt.Fprintf(table, "%s\t", r.cell(i, c))
		}
		fmt.Fprintln(table)
	}
	table.Flush()
	for _, r := range records {
		if r.failure != nil {
			fmt.Fprintf(output, "%s failed: %v\n", r.contender.name, r.failure)
		}
	}
}

// A column shows one figure of every contender.
type column struct {
	title string
	of    func(r *record) string
}

// columnsOf returns the columns of a workload's table; ours is what the reference needed.
func columnsOf(w workload, ours []float64) []column {
	columns := []column{
		{"contender", func(r *record) string { return r.contender.name }},
		{"CPU µs/request", func(r *record) string { return figure(r.cpu, "%.1f") }},
		{"fetch ÷ it", func(r *record) string { return shown(spreadOf(ratios(ours, r.cpu)).median, "%.2f") }},
		{"least–most", func(r *record) string { return spreadOf(ratios(ours, r.cpu)).reach() }},
		{"requests/s", func(r *record) string { return figure(r.throughput, "%.0f") }},
		{"allocs/request", func(r *record) string { return figure(r.objects, "%.1f") }},
		{"bytes/request", func(r *record) string { return figure(r.bytes, "%.0f") }},
		{"peak MiB", (*record).peak},
	}
	if w.together {
		columns = append(columns, column{"KiB/slot", func(r *record) string { return figure(r.slot, "%.1f") }})
	}
	return append(columns,
		column{"connections", func(r *record) string { return figure(r.opened, "%.0f") }},
		column{"bodies", (*record).bodies})
}

// cell returns what a column shows; of a contender that takes no part only why.
func (r *record) cell(i int, c column) string {
	switch {
	case r.absence == nil || i == 0:
		return c.of(r)
	case i == 1:
		return absenceOf(r.absence)
	}
	return ""
}

// peak marks a figure that is no more than this process's own: a child starts
// with the peak of the process that started it.
func (r *record) peak() string {
	var own syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	if err == nil && spreadOf(present(r.memory)).median <= float64(own.Maxrss)/1024 {
		return figure(r.memory, "≤ %.0f")
	}
	return figure(r.memory, "%.0f")
}

func (r *record) bodies() string {
	if whole := len(present(r.cpu)); whole < len(r.cpu) {
		return fmt.Sprintf("FAILED in %d of %d", len(r.cpu)-whole, len(r.cpu))
	}
	return "all whole"
}

func absenceOf(err error) string {
	if err == errNotInstalled {
		return err.Error()
	}
	return "not supported"
}

func figure(values []float64, format string) string {
	return shown(spreadOf(present(values)).median, format)
}

func shown(value float64, format string) string {
	if math.IsNaN(value) {
		return "–"
	}
	return fmt.Sprintf(format, value)
}

func referenceCPU(records []*record) []float64 {
	for _, r := range records {
		if r.contender.name == reference {
			return r.cpu
		}
	}
	return nil
}
