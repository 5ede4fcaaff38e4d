package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"
)

// A session of the demo in a terminal, as one sees it.
func TestASessionInATerminal(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes 3 s each time")
	}
	program := filepath.Join(t.TempDir(), "fetchall")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, columns := range []int{80, 40} {
		for _, noColor := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d columns, NO_COLOR %v", columns, noColor), func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command(program, "-demo")
				cmd.Env = append(os.Environ(), "TERM=xterm", "COLUMNS=", "NO_COLOR=")
				if noColor {
					cmd.Env = append(cmd.Env, "NO_COLOR=1")
				}
				s := runInTerminal(t, cmd, columns)
				if s.colored == noColor {
					t.Errorf("colours: %v", s.colored)
				}
				if len(s.pictures) < 5 {
					t.Fatalf("%d pictures in 2.5 s", len(s.pictures))
				}
				last := s.pictures[len(s.pictures)-1]
				t.Logf("near the end:\n%s", strings.Join(last, "\n"))
				for _, picture := range s.pictures {
					if !strings.Contains(picture[0], " of 100 done") {
						t.Errorf("a picture begins with %q", picture[0])
					}
					for _, line := range picture {
						if n := utf8.RuneCountInString(line); n >= columns {
							t.Errorf("a line of %d characters: %q", n, line)
						}
					}
				}
				screen := strings.Join(s.lines, "\n")
				if !strings.Contains(screen, "All went as it should") || strings.Contains(screen, " of 100 done") || strings.Count(screen, "/limited/") != 11 {
					t.Errorf("in the end the screen has\n%s", screen)
				}
			})
		}
	}
}

func TestOffATerminalThereAreNoEscapes(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes 3 s")
	}
	cmd := exec.Command("go", "run", ".", "-demo")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "\x1b") || !strings.Contains(string(out), "All went as it should") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A terminal keeps what a program has printed, with the few commands of the picture.
type terminal struct {
	columns  int
	lines    []string // the last is where the cursor is
	pictures [][]string
	colored  bool
}

// runInTerminal runs a program in a terminal of the kernel's.
func runInTerminal(t *testing.T, cmd *exec.Cmd, columns int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	var number, unlock int32
	size := struct{ rows, columns, x, y uint16 }{24, uint16(columns), 0, 0}
	ioctl(t, master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(t, master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	ioctl(t, master, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	term := &terminal{columns: columns, lines: []string{""}}
	var rest string
	buffer := make([]byte, 64<<10)
	for {
		n, err := master.Read(buffer)
		rest = term.print(rest + string(buffer[:n]))
		if err != nil { // the program has ended
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return term
}

func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		t.Skip(errno)
	}
}

// print prints a text, and returns the end of it that is not complete.
func (s *terminal) print(text string) (rest string) {
	for text != "" {
		switch {
		case text[0] == '\n':
			s.lines = append(s.lines, "")
		case text[0] == '\r':
		case text[0] == '\x1b':
			end := strings.IndexFunc(text[1:], func(r rune) bool { return 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' })
			if end < 0 {
				return text
			}
			s.command(text[2:1+end], text[1+end])
			text = text[2+end:]
			continue
		default:
			if !utf8.FullRuneInString(text) {
				return text
			}
			r, n := utf8.DecodeRuneInString(text)
			s.lines[len(s.lines)-1] += string(r)
			text = text[n:]
			continue
		}
		text = text[1:]
	}
	return ""
}

// command does what follows on ESC [.
func (s *terminal) command(arg string, name byte) {
	switch name {
	case 'A': // up, to erase a picture
		var n int
		fmt.Sscan(arg, &n)
		from := max(0, len(s.lines)-1-n)
		s.pictures = append(s.pictures, s.lines[from:len(s.lines)-1:len(s.lines)-1])
		s.lines = append(s.lines[:from:from], "")
	case 'm':
		s.colored = true
	}
}
