package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
)

// A screen is a terminal with a picture below what is printed.
type screen struct {
	out   io.Writer
	size  func() (columns, rows int)
	color bool
	drawn int // lines of the picture that are on it
}

// newScreen returns that of a file, or nil if it is no terminal that can be drawn on.
func newScreen(f *os.File) *screen {
	if _, _, ok := terminalSize(f); !ok || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &screen{out: f, size: func() (int, int) { return sizeOf(f) }, color: os.Getenv("NO_COLOR") == ""}
}

// sizeOf returns the size of a terminal. COLUMNS stands above what that says, as in other programs.
func sizeOf(f *os.File) (columns, rows int) {
	columns, rows, _ = terminalSize(f)
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		columns = n
	}
	if columns < 1 || rows < 1 { // some know neither
		columns, rows = max(columns, 80), max(rows, 24)
	}
	return columns, rows
}

// show replaces the picture.
func (s *screen) show(draw func(picture) []string) {
	columns, rows := s.size()
	// One line stays free for the cursor, and one column: not every terminal waits with the new line.
	lines := draw(picture{columns: max(10, columns-1), lines: max(1, rows-1), color: s.color})
	var b bytes.Buffer
	s.erase(&b)
	for _, line := range lines {
		fmt.Fprintln(&b, line)
	}
	s.drawn = len(lines)
	s.out.Write(b.Bytes()) // at once, so that it does not flicker
}

// hide takes the picture off the screen.
func (s *screen) hide() {
	var b bytes.Buffer
	s.erase(&b)
	s.out.Write(b.Bytes())
}

func (s *screen) erase(b *bytes.Buffer) {
	if s.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", s.drawn)
		s.drawn = 0
	}
}
