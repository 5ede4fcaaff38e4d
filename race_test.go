//go:build race

package fetch_test

// raceEnabled reports whether the race detector is on, under which large
// tests are made smaller.
const raceEnabled = true
