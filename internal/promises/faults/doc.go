// Package faults holds the promises about what can be wrong with an input, a
// network or a server: each fault, numbered in LEGEND.md, ends its own URL with
// the right error, is retried only if that is safe, and leaves nothing behind.
package faults
