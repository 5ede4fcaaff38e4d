//go:build linux

package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/batchhttp/fetch"
)

// The tests here take limits that are those of a whole process, or what only Linux
// has. Such a test runs its own part in a child: this program again, with nothing but that test.

const childVariable = "FETCH_TEST_CHILD"

// inChild reports whether this is the child of the test, and otherwise runs it
// with the given variables. The test passes if the child's does.
func inChild(t *testing.T, change func(*exec.Cmd), env ...string) bool {
	t.Helper()
	if os.Getenv(childVariable) == t.Name() {
		return true
	}
	runChild(t, "^"+t.Name()+"$", change, append(env, childVariable+"="+t.Name())...)
	return false
}

func runChild(t *testing.T, tests string, change func(*exec.Cmd), env ...string) {
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

// The own client on TLS and HTTP/2: only a process that was started for it trusts
// the certificates of the servers.
func TestTheOwnClientOnTLS(t *testing.T) {
	runChild(t, "^TestFaultsOf", nil, ownTLSVariable+"="+t.TempDir())
}

// Case 21.
func TestDescriptorsThatRunOut(t *testing.T) {
	const urlVariable = "FETCH_TEST_URL"
	server, _ := newServer(t, answerSlowly)
	if !inChild(t, nil, urlVariable+"="+server.URL) {
		return
	}
	limit := syscall.Rlimit{Cur: 40, Max: 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	before := resourcesInUse()
	urls := numbered(os.Getenv(urlVariable), 100)
	checkShortage(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(100)), syscall.EMFILE)
	before.check(t)
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(patient, fetch.WithConcurrency(100))...))
	before.check(t)
}

// Case 22. A network of its own has few ports, and none that others use.
func TestPortsThatRunOut(t *testing.T) {
	if !inChild(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
	}) {
		return
	}
	if err := startLoopback(); err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40063"), 0); err != nil {
		t.Skip(err)
	}
	// Ports that were used for one server can still be used for another.
	serve := func(port int) string {
		listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(answerSlowly)}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		return "http://" + listener.Addr().String()
	}
	urls := numbered(serve(8080), 150)
	checkShortage(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(150)), syscall.EADDRNOTAVAIL)
	urls = numbered(serve(8081), 150)
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(patient, fetch.WithConcurrency(150))...))
	// Connections that are used again need few ports.
	urls = numbered(serve(8082), 300)
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(50)))
}

// answerSlowly takes long enough for there to be more connections than there can be.
func answerSlowly(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(20 * time.Millisecond)
	io.WriteString(w, "ok")
}

// patient options try again until a shortage is over.
var patient = []fetch.Option{fetch.WithRetries(20), fetch.WithBackoff(20*time.Millisecond, 200*time.Millisecond)}

// checkShortage checks that some URLs, and not nearly all, ended for want of something.
func checkShortage(t *testing.T, urls []string, results []fetch.Result, want error) {
	t.Helper()
	checkResults(t, urls, results)
	failed := 0
	for _, r := range results {
		if r.Err == nil {
			continue
		}
		failed++
		if !errors.Is(r.Err, want) || !as[*net.OpError](r.Err) {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
	}
	if failed == 0 || failed > len(urls)*9/10 {
		t.Errorf("%d of %d failed", failed, len(urls))
	}
}

// startLoopback sets up the loopback device, as "ip link set lo up" does.
func startLoopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct { // ifreq of netdevice(7)
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// Case 54. Each body is 64 MiB when decoded, all together more than 6 GiB.
func TestGzipBombsStayWithinTheMemoryLimit(t *testing.T) {
	const urlVariable = "FETCH_TEST_URL"
	const memory, bodyLimit, slots = 128 << 20, 1 << 20, 16
	bomb := strings.Repeat(zipped(make([]byte, 1<<20)), 64)
	var server *httptest.Server
	if os.Getenv(childVariable) == "" {
		server, _ = newServer(t, func(w http.ResponseWriter, req *http.Request) {
			switch {
			case strings.HasSuffix(req.URL.Path, "3"):
				zip(http.StatusNotFound, bomb)(w, req)
			case strings.HasSuffix(req.URL.Path, "7"):
				w.Header().Set("Location", "/8")
				zip(http.StatusFound, bomb)(w, req)
			case strings.HasSuffix(req.URL.Path, "9"):
				zip(http.StatusServiceUnavailable, bomb)(w, req)
			default:
				zip(http.StatusOK, bomb)(w, req)
			}
		})
	} else {
		server = &httptest.Server{URL: os.Getenv(urlVariable)}
	}
	if !inChild(t, nil, urlVariable+"="+server.URL) {
		return
	}
	debug.SetMemoryLimit(memory)
	var most atomic.Uint64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				most.Store(max(most.Load(), stats.HeapInuse))
			}
		}
	})
	urls := numbered(server.URL, 100)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithMaxBody(bodyLimit), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
	close(done)
	watching.Wait()
	checkResults(t, urls, results)
	for _, r := range results {
		if !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
			t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
		}
	}
	if most.Load() > memory {
		t.Errorf("the heap grew to %d MiB", most.Load()>>20)
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	// The race detector keeps as much again and more beside the heap.
	if resident := usage.Maxrss >> 10; resident > 2*memory>>20 && !raceEnabled {
		t.Errorf("%d MiB were in use", resident)
	}
}

// Case 16. A queue of connections that is full does not answer any more.
func TestADialThatNobodyAnswers(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for full := false; !full; {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			defer conn.Close()
		}
	}
	urls := []string{"http://" + address, "https://" + address}
	t.Run("until the end of the attempt", func(t *testing.T) {
		before := resourcesInUse()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(100*time.Millisecond), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
		checkResults(t, urls, results)
		for _, r := range results {
			if !errors.Is(r.Err, fetch.ErrTimeout) || r.Attempts != 2 {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		before.check(t)
	})
	t.Run("until the end of the dial, with a POST", func(t *testing.T) {
		before := resourcesInUse()
		transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 100 * time.Millisecond}).DialContext}
		for _, target := range urls {
			r := sendOne(t, newRequest(t, "POST", target, strings.NewReader("body")), fetch.WithClient(newClient(transport)), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
			if !errors.Is(r.Err, fetch.ErrTimeout) || !as[*net.OpError](r.Err) || r.Attempts != 2 {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		transport.CloseIdleConnections()
		before.check(t)
	})
}
