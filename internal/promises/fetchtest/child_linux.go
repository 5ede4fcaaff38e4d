package fetchtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Some tests take limits that are those of a whole process, or what only Linux has. Such
// a test runs its own part in a child: this program again, with nothing but that test.

// ChildVariable is set in the environment of a child, to the name of its test.
const ChildVariable = "FETCH_TEST_CHILD"

// InChild reports whether this is the child of the test, and otherwise runs it
// with the given variables. The test passes if the child's does.
func InChild(t *testing.T, change func(*exec.Cmd), env ...string) bool {
	t.Helper()
	if os.Getenv(ChildVariable) == t.Name() {
		return true
	}
	RunChild(t, "^"+t.Name()+"$", change, append(env, ChildVariable+"="+t.Name())...)
	return false
}

// RunChild runs the tests of a pattern in a child with the given variables, after change.
// The test passes if those of the child do, and is skipped if one of them is.
func RunChild(t *testing.T, tests string, change func(*exec.Cmd), env ...string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.run="+tests, "-test.v")
	cmd.Env = append(os.Environ(), env...)
	if change != nil {
		change(cmd)
	}
	out, err := cmd.CombinedOutput()
	told := tellingLines(string(out))
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		t.Skipf("not permitted here: %v", err)
	case err != nil:
		t.Errorf("the child: %v\n%s", err, told)
	case strings.Contains(told, "--- SKIP"):
		t.Skipf("the child:\n%s", told)
	case !strings.Contains(told, "--- PASS"):
		t.Errorf("the child ran nothing:\n%s", told)
	}
}

// tellingLines returns what the child printed without its list of subtests that passed.
func tellingLines(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "    --- PASS") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
