package main

import (
	"fmt"
	"math"
	"slices"
)

// A spread is the middle of some values, and how far they lie apart.
type spread struct {
	median, least, most float64
}

// spreadOf returns NaNs for no values.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + median) / 2
	}
	return spread{median: median, least: sorted[0], most: sorted[len(sorted)-1]}
}

// reach says how far the values lie apart.
func (s spread) reach() string {
	if math.IsNaN(s.median) {
		return "–"
	}
	return fmt.Sprintf("%.2f–%.2f", s.least, s.most)
}

// ratios divides what two contenders needed in the same round. A round in
// which one of them failed, a NaN, is left out: the machine drifts, and
// only neighbours in time can be compared.
func ratios(ours, theirs []float64) []float64 {
	var pairs []float64
	for i := range min(len(ours), len(theirs)) {
		if ratio := ours[i] / theirs[i]; !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
			pairs = append(pairs, ratio)
		}
	}
	return pairs
}

// present leaves out the NaNs.
func present(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}
