package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// runTimeout ends a contender that hangs. The slowest need a few seconds.
const runTimeout = 2 * time.Minute

// A bench is a running server process, and a directory for what contenders write.
type bench struct {
	server      greeting
	process     *exec.Cmd
	lifeline    io.Closer
	directory   string
	certificate string
}

func newBench(ctx context.Context) (*bench, error) {
	directory, err := os.MkdirTemp("", "fetch-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{directory: directory, certificate: filepath.Join(directory, "certificate.pem")}
	if err := b.startServer(ctx); err != nil {
		b.close()
		return nil, fmt.Errorf("server: %w", err)
	}
	if err := os.WriteFile(b.certificate, b.server.Certificate, 0o600); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) startServer(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self)
	c.Env = append(os.Environ(), roleVariable+"="+roleServer)
	c.Stderr = os.Stderr
	if b.lifeline, err = c.StdinPipe(); err != nil {
		return err
	}
	output, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	b.process = c
	return json.NewDecoder(output).Decode(&b.server)
}

func (b *bench) close() {
	if b.process != nil {
		b.lifeline.Close()
		b.process.Wait()
	}
	os.RemoveAll(b.directory)
}

// A usage is what one run needed.
type usage struct {
	cpu        time.Duration // user and system
	wall       time.Duration
	peakMemory int64 // bytes
	verdict    verdict
	tally      tally
}

// run runs one contender to its end. An error says why the run does not count.
func (b *bench) run(ctx context.Context, c contender, w workload, j job) (usage, error) {
	if c.noHTTP2 && w.served == tlsHTTP2 || c.few && w.together {
		return usage{}, errors.ErrUnsupported
	}
	directory, err := os.MkdirTemp(b.directory, c.name+"-")
	if err != nil {
		return usage{}, err
	}
	defer os.RemoveAll(directory)
	if w.served == tlsHTTP1 || w.served == tlsHTTP2 {
		j.Certificate = b.certificate
	}
	if _, err := b.takeTally(ctx, len(j.URLs)); err != nil {
		return usage{}, err
	}
	u, output, err := runProcess(ctx, c, j, directory)
	if err != nil {
		return usage{}, err
	}
	if u.tally, err = b.takeTally(ctx, 0); err != nil {
		return usage{}, err
	}
	if u.verdict, err = c.runner.verdict(j, output, directory); err != nil {
		return usage{}, err
	}
	return u, u.fault(w, len(j.URLs))
}

func runProcess(ctx context.Context, c contender, j job, directory string) (usage, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	process, err := c.runner.command(ctx, j, directory)
	if err != nil {
		return usage{}, nil, err
	}
	var output, complaints bytes.Buffer
	process.Stdout, process.Stderr = &output, &complaints
	started := time.Now()
	if err := process.Run(); err != nil {
		return usage{}, nil, fmt.Errorf("%w: %s", err, firstLine(complaints.Bytes()))
	}
	u := usage{
		wall: time.Since(started),
		cpu:  process.ProcessState.UserTime() + process.ProcessState.SystemTime(),
	}
	if r, ok := process.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peakMemory = r.Maxrss * 1024 // Linux counts KiB
	}
	return u, output.Bytes(), nil
}

// fault says in what the contender did not do its job.
func (u usage) fault(w workload, requests int) error {
	switch {
	case u.verdict.Fault != "":
		return fmt.Errorf("%d of %d bodies are whole: %s", u.verdict.Whole, requests, u.verdict.Fault)
	case u.verdict.Whole != requests:
		return fmt.Errorf("%d of %d bodies are whole", u.verdict.Whole, requests)
	case w.served == tlsHTTP2 && u.tally.HTTP1 > 0:
		return errors.New("spoke HTTP/1")
	}
	return nil
}

// takeTally also tells the server how many requests to expect next.
func (b *bench) takeTally(ctx context.Context, expect int) (t tally, err error) {
	control := fmt.Sprintf("%s?expect=%d", b.server.Control, expect)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, control, nil)
	if err != nil {
		return t, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return t, err
	}
	defer response.Body.Close()
	return t, json.NewDecoder(response.Body).Decode(&t)
}

// firstLine keeps an error to one line of the table: a panic has many.
func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return line
}
