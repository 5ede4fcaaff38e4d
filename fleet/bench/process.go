package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func flagArg(i int) string { return flag.Arg(i) }

// A process is one of the bench's own.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ready string // its first line
	told  atomic.Int64
}

func start(role string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, append([]string{role}, args...)...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		p.kill()
		return nil, fmt.Errorf("%s: it ended", role)
	}
	p.ready = lines.Text()
	go func() {
		for lines.Scan() {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				p.told.Store(n)
			}
		}
	}()
	return p, nil
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// cpu returns the CPU that a running process has used (proc(5)).
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100)
}

// ownCPU returns the CPU that this process has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type servers struct {
	*process
	port string
}

func startServers(n int) (*servers, error) {
	p, err := start("server", strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	return &servers{p, p.ready}, nil
}

// zipf returns URLs of hosts whose shares are as 1, 1/2, 1/3 and so on, well mixed.
func zipf(port string, urls, hosts int) []string {
	var weights float64
	for i := range hosts {
		weights += 1 / float64(i+1)
	}
	counts, given := make([]int, hosts), 0
	for i := range counts {
		counts[i] = max(1, int(math.Round(float64(urls)/weights/float64(i+1))))
		given += counts[i]
	}
	counts[0] += urls - given
	all := make([]string, 0, urls)
	for k := 0; len(all) < urls; k++ {
		for i, n := range counts {
			if k < n {
				all = append(all, fmt.Sprintf("http://%s:%s/some/path/of/a/page/%d", addressOf(i), port, k))
			}
		}
	}
	// The same shuffle in each run.
	rand.New(rand.NewPCG(13, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
