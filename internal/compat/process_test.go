//go:build linux

package compat

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A process is a server of others that runs beside the tests.
type process struct {
	*os.Process
	name, addr string
	exited     chan struct{}
}

// startProcess starts the program that command returns for an address, and waits until it
// accepts connections there. It ends with the test; what it prints is in dir.
func startProcess(t *testing.T, dir string, command func(addr string) *exec.Cmd) *process {
	t.Helper()
	output := filepath.Join(dir, "output")
	// Between the choice of a port and the program's bind another process can take it.
	var p *process
	for range 5 {
		if p = newProcess(t, output, command); p.accepts() {
			t.Cleanup(func() { p.stop(t) })
			return p
		}
		p.stop(t)
	}
	printed, _ := os.ReadFile(output)
	t.Fatalf("%s does not start:\n%s", p.name, printed)
	return nil
}

func newProcess(t *testing.T, output string, command func(addr string) *exec.Cmd) *process {
	t.Helper()
	file, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	addr := freeAddr(t)
	cmd := command(addr)
	cmd.Stdout, cmd.Stderr = file, file
	// A test binary that is killed takes its processes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd.Process, filepath.Base(cmd.Path), addr, make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	return p
}

// accepts waits until the process accepts connections, and reports whether it does.
func (p *process) accepts() bool {
	for range 1000 {
		select {
		case <-p.exited:
			return false
		case <-time.After(10 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", p.addr); err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

// stop ends the process, and kills it if it has not ended after ten seconds.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		t.Errorf("%s did not stop", p.name)
		p.Kill()
		<-p.exited
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
