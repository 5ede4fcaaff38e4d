//go:build !race

package fetchtest

// RaceEnabled reports whether the race detector is on.
const RaceEnabled = false
