package fleet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
	"github.com/nats-io/nats-server/v2/server"
)

// The test binary is a worker or a broker where the environment says so, so that it can be killed.
func TestMain(m *testing.M) {
	switch os.Getenv("FLEET_TEST_ROLE") {
	case "worker":
		workerMain()
	case "broker":
		brokerMain()
	default:
		os.Exit(m.Run())
	}
}

// workerMain prints what it handles, a line each, until it is told to stop.
func workerMain() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lease, _ := time.ParseDuration(os.Getenv("FLEET_TEST_LEASE"))
	replicas, _ := strconv.Atoi(os.Getenv("FLEET_TEST_REPLICAS"))
	f, err := fleet.Open(ctx, fleet.Config{URL: os.Getenv("FLEET_TEST_URL"), Lease: lease, Replicas: replicas})
	if err != nil {
		fail(err)
	}
	deadly := os.Getenv("FLEET_TEST_DEADLY")
	handler := func(_ context.Context, d fleet.Delivery) error {
		if deadly != "" && strings.HasSuffix(d.Request.URL, deadly) {
			os.Exit(3)
		}
		if d.Result.Err != nil {
			fmt.Fprintln(os.Stderr, d.Result.Err)
		}
		_, err := os.Stdout.WriteString(d.Request.URL + "\n")
		return err
	}
	err = f.Run(ctx, handler, fetch.WithHostConcurrency(2), fetch.WithRetries(2), fetch.WithTimeout(10*time.Second))
	f.Close()
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// brokerMain runs a NATS server until it is killed.
func brokerMain() {
	opts := &server.Options{}
	if err := opts.ProcessConfigFile(os.Getenv("FLEET_TEST_CONFIG")); err != nil {
		fail(err)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fail(err)
	}
	if path := os.Getenv("FLEET_TEST_LOG"); path != "" {
		s.SetLogger(nil, false, false)
	}
	s.Start()
	fmt.Println(s.ClientURL())
	s.WaitForShutdown()
}

// A process is a worker or broker that can be killed.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	first  chan string // the first line that it printed
	ended  chan struct{}
	stderr *strings.Builder
	code   int
}

func startProcess(t testing.TB, line func(string), env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0]), first: make(chan string, 1), ended: make(chan struct{}), stderr: &strings.Builder{}}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case p.first <- s.Text():
			default:
			}
			line(s.Text())
		}
		var exit *exec.ExitError
		if err := p.cmd.Wait(); errors.As(err, &exit) {
			p.code = exit.ExitCode()
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill kills it as kill -9 does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stop asks it to stop, and waits.
func (p *process) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Error("a worker does not stop")
		p.kill()
	}
	if p.code != 0 {
		p.t.Errorf("a worker ended with %d: %s", p.code, p.stderr)
	}
}

// startWorker starts a worker that tells a ledger what it handles.
func startWorker(t testing.TB, url string, lease time.Duration, l *ledger, env ...string) *process {
	t.Helper()
	env = append([]string{"FLEET_TEST_ROLE=worker", "FLEET_TEST_URL=" + url, "FLEET_TEST_LEASE=" + lease.String()}, env...)
	return startProcess(t, func(line string) { l.add(line) }, env...)
}
