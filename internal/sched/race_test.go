//go:build race

package sched

func init() { underRace = true }
