package fetchtest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Main is for TestMain: it runs the tests of a package, and fails when the library has left goroutines behind.
func Main(m *testing.M) {
	code := m.Run()
	if left := waitForLeaks(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines of the library are left after all tests:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// CheckNoLeaks fails the test when goroutines of the library still run.
func CheckNoLeaks(t testing.TB) {
	t.Helper()
	if left := waitForLeaks(); left != "" {
		t.Errorf("goroutines of the library are left:\n\n%s", left)
	}
}

// waitForLeaks returns the stacks of the library's goroutines that are still
// there after 2 s: one that has done its work can take a moment to exit.
func waitForLeaks() string {
	for wait := time.Millisecond; ; wait *= 2 {
		left := libraryGoroutines("")
		if left == "" || wait > 1300*time.Millisecond {
			return left
		}
		time.Sleep(wait)
	}
}

// GoroutinesSince counts the goroutines there are in addition to those before. It looks
// again when they are more than allowed, since one that has been replaced may not have got
// round to its exit.
func GoroutinesSince(before, allowed int) int {
	n := runtime.NumGoroutine() - before
	for try := 0; try < 10 && n > allowed; try++ {
		time.Sleep(time.Millisecond)
		n = min(n, runtime.NumGoroutine()-before)
	}
	return n
}

// BubbleGoroutines returns the stacks of the library's goroutines in the bubble of the test.
// Goroutines that an earlier test has left to net/http may still be on their way out.
func BubbleGoroutines() string { return libraryGoroutines("synctest bubble") }

// libraryGoroutines returns the stacks of the library's goroutines whose first line contains where.
func libraryGoroutines(where string) string {
	buf := make([]byte, 1<<16)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		head, frames, _ := strings.Cut(stack, "\n")
		// The goroutine of a test calls the library itself.
		if strings.Contains(head, where) && runsLibrary(frames) && !strings.Contains(frames, "testing.tRunner(") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

const (
	libraryPath  = "github.com/batchhttp/fetch"
	promisesPath = libraryPath + "/internal/promises/"
)

// runsLibrary reports whether a function of the library is in a stack, or has started the
// goroutine. Functions of its tests, in packages of their own, are not of the library.
func runsLibrary(frames string) bool {
	for line := range strings.Lines(frames) {
		function := strings.TrimPrefix(line, "created by ")
		ofLibrary := strings.HasPrefix(function, libraryPath+".") || strings.HasPrefix(function, libraryPath+"/internal/")
		ofTests := strings.HasPrefix(function, promisesPath) || strings.Contains(function, "_test.")
		if ofLibrary && !ofTests {
			return true
		}
	}
	return false
}
