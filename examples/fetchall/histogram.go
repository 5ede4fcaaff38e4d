package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A histogram counts times in buckets, two to a factor of ten.
type histogram struct{ counts [buckets]int }

const (
	buckets = 14                     // the last has all longer times
	least   = 100 * time.Microsecond // the first has all shorter times
)

// bucketOf returns the bucket of a time.
func bucketOf(d time.Duration) int {
	if d < least {
		return 0
	}
	return min(buckets-1, 1+int(2*math.Log10(float64(d)/float64(least))+1e-9))
}

// from returns the least time of a bucket.
func from(bucket int) time.Duration {
	if bucket == 0 {
		return 0
	}
	d := float64(least) * math.Pow(10, float64(bucket-1)/2)
	return time.Duration(d).Round(time.Duration(math.Pow(10, math.Floor(math.Log10(d)))))
}

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(d)]++ }

// lines returns a line for each bucket from the first to the last that has any.
func (h *histogram) lines(title string, columns int) []string {
	first := slices.IndexFunc(h.counts[:], func(n int) bool { return n > 0 })
	if first < 0 {
		return nil
	}
	last := buckets - 1
	for h.counts[last] == 0 {
		last--
	}
	most := slices.Max(h.counts[:])
	digits := len(fmt.Sprint(most))
	width := max(1, min(40, columns-len("  from 300 ms  ")-digits-1))
	lines := []string{title}
	for i := first; i <= last; i++ {
		n := h.counts[i]
		bar := strings.Repeat("█", (n*width+most-1)/most)
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  from %6s  %*d %s", label(from(i)), digits, n, bar), " "))
	}
	return lines
}

// label is short for the bounds of buckets.
func label(d time.Duration) string {
	if 0 < d && d < time.Millisecond {
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
	if d >= time.Second {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return short(d)
}
