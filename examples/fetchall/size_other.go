//go:build !(linux || darwin || freebsd || netbsd || dragonfly)

package main

import "os"

// terminalSize tells a terminal, but not its size.
func terminalSize(f *os.File) (columns, rows int, ok bool) { return 0, 0, isCharDevice(f) }
