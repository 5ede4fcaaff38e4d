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
	fmt.Fprintf(output, "\n%s: %s. %d requests, %d at once, %d rounds, %s, %d CPUs, %s, %s\n\n",
		w.name, w.about, p.requestsFor(w), p.concurrency, p.rounds,
		time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOARCH, runtime.Version())
	ours := referenceCPU(records)
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "contender\tCPU µs/request\tfetch ÷ it\tleast–most\trequests/s\tallocs/request\tbytes/request\tpeak MiB\tconnections\tbodies\t")
	for _, r := range records {
		fmt.Fprintln(table, r.row(ours))
	}
	table.Flush()
	for _, r := range records {
		if r.failure != nil {
			fmt.Fprintf(output, "%s failed: %v\n", r.contender.name, r.failure)
		}
	}
}

func (r *record) row(ours []float64) string {
	if r.left != nil {
		return fmt.Sprintf("%s\t%v\t\t\t\t\t\t\t\t\t", r.contender.name, leftBecause(r.left))
	}
	ratio := spreadOf(ratios(ours, r.cpu))
	reach := "–"
	if !math.IsNaN(ratio.median) {
		reach = fmt.Sprintf("%.2f–%.2f", ratio.least, ratio.most)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", r.contender.name,
		figure(r.cpu, "%.1f"), shown(ratio.median, "%.2f"), reach,
		figure(r.throughput, "%.0f"), figure(r.objects, "%.1f"), figure(r.bytes, "%.0f"),
		r.peak(), figure(r.opened, "%.0f"), r.bodies())
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

func leftBecause(err error) string {
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
