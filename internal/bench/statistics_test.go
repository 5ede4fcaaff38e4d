package main

import (
	"math"
	"slices"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestSpreadIsMedianLeastAndMost(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 3}, spread{3, 1, 5}},
		{[]float64{4, 1, 2, 8}, spread{3, 1, 8}},
	} {
		values := slices.Clone(test.values)
		if got := spreadOf(values); got != test.want {
			t.Errorf("spread of %v is %v, want %v", test.values, got, test.want)
		}
		if !slices.Equal(values, test.values) {
			t.Errorf("%v was sorted in place", test.values)
		}
	}
	if got := spreadOf(nil); !math.IsNaN(got.median) {
		t.Errorf("spread of nothing is %v", got)
	}
}

func TestRatiosPairOnlyRoundsThatBothFinished(t *testing.T) {
	nan := math.NaN()
	got := ratios([]float64{1, nan, 3, 4}, []float64{2, 2, nan, 8})
	if want := []float64{0.5, 0.5}; !slices.Equal(got, want) {
		t.Errorf("ratios are %v, want %v", got, want)
	}
	if got := ratios([]float64{1}, []float64{0}); len(got) != 0 {
		t.Errorf("ratio to nothing is %v", got)
	}
	if got := ratios(nil, []float64{1}); len(got) != 0 {
		t.Errorf("ratios without a reference are %v", got)
	}
}
