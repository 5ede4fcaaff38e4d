package connections_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Case 21.
func TestDescriptorsThatRunOut(t *testing.T) {
	const urlVariable = "FETCH_TEST_URL"
	server, _ := fetchtest.NewServer(t, answerSlowly)
	if !fetchtest.InChild(t, nil, urlVariable+"="+server.URL) {
		return
	}
	limit := syscall.Rlimit{Cur: 40, Max: 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	before := fetchtest.ResourcesInUse()
	urls := fetchtest.Numbered(os.Getenv(urlVariable), 100)
	checkShortage(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(100)), syscall.EMFILE)
	before.Check(t)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(patient, fetch.WithConcurrency(100))...))
	before.Check(t)
}

// Case 22. A network of its own has few ports, and none that others use.
func TestPortsThatRunOut(t *testing.T) {
	if !fetchtest.InChild(t, func(cmd *exec.Cmd) {
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
	urls := fetchtest.Numbered(serve(8080), 150)
	checkShortage(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(150)), syscall.EADDRNOTAVAIL)
	urls = fetchtest.Numbered(serve(8081), 150)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(patient, fetch.WithConcurrency(150))...))
	// Connections that are used again need few ports.
	urls = fetchtest.Numbered(serve(8082), 300)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(50)))
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
	fetchtest.CheckResults(t, urls, results)
	failed := 0
	for _, r := range results {
		if r.Err == nil {
			continue
		}
		failed++
		if !errors.Is(r.Err, want) || !fetchtest.As[*net.OpError](r.Err) {
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
