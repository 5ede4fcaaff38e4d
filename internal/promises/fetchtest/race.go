//go:build race

package fetchtest

// RaceEnabled reports whether the race detector is on, under which large
// tests are made smaller.
const RaceEnabled = true
