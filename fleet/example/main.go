// The example shows a fleet on one machine: a broker in this process, three workers in processes of
// their own, and servers on loopback, of which one is slow, one limited, one refuses connections and
// one is dead. One of the workers is killed in the middle.
//
//	go run ./example
//	go run ./example status nats://127.0.0.1:4222   # of a fleet that runs
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

const (
	lease     = 2 * time.Second
	hostLimit = 2
	killAfter = 1500 * time.Millisecond
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := flag.Args(); {
	case len(args) == 0:
		err = show(ctx)
	case len(args) == 2 && args[0] == "worker":
		err = work(ctx, args[1])
	case len(args) == 2 && args[0] == "status":
		err = printStatus(ctx, args[1])
	default:
		err = errors.New("usage: example [status URL]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// work is a worker. It prints each URL that it has handled.
func work(ctx context.Context, broker string) error {
	f, err := fleet.Open(ctx, fleet.Config{URL: broker, Lease: lease})
	if err != nil {
		return err
	}
	defer f.Close()
	handler := func(_ context.Context, d fleet.Delivery) error {
		_, err := os.Stdout.WriteString(d.Request.URL + "\n")
		return err
	}
	return f.Run(ctx, handler, fetch.WithHostConcurrency(hostLimit), fetch.WithRetries(1), fetch.WithTimeout(time.Second))
}

// show runs the whole.
func show(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := fleet.Open(ctx, fleet.Config{Dir: dir, Lease: lease})
	if err != nil {
		return err
	}
	defer f.Close()
	town, err := newTown()
	if err != nil {
		return err
	}
	defer town.close()
	urls := town.urls()
	n, err := f.Add(ctx, slices.Values(urls))
	if err != nil {
		return err
	}
	fmt.Printf("broker %s: %d URLs on %d hosts, at most %d requests in flight to each\n", f.URL(), n, len(town.servers), hostLimit)
	handled, err := run(ctx, f, town)
	if err != nil {
		return err
	}
	return town.report(os.Stdout, handled)
}

// A tally counts how often each URL was handled.
type tally struct {
	mu    sync.Mutex
	times map[string]int
}

func (t *tally) add(u string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times[u]++
}

// run starts the workers, kills one, and waits until the backlog is done.
func run(ctx context.Context, f *fleet.Fleet, town *town) (*tally, error) {
	handled := &tally{times: map[string]int{}}
	var workers []*exec.Cmd
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		for _, w := range workers {
			w.Process.Signal(syscall.SIGTERM)
		}
	}()
	for range 3 {
		w, err := startWorker(f.URL(), handled, &readers)
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	began, killed := time.Now(), false
	kill := time.AfterFunc(killAfter, func() { workers[0].Process.Kill() })
	defer kill.Stop()
	for {
		s, err := f.Status(ctx)
		if err != nil {
			return nil, err
		}
		fmt.Printf("%4.1f s: %s\n", time.Since(began).Seconds(), line(s))
		if s.Requests == 0 {
			return handled, nil
		}
		if !killed && time.Since(began) > killAfter {
			killed = true
			fmt.Printf("%4.1f s: one of the workers was killed\n", killAfter.Seconds())
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func startWorker(broker string, handled *tally, readers *sync.WaitGroup) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := exec.Command(self, "worker", broker)
	w.Stderr = os.Stderr
	out, err := w.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	readers.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			handled.add(s.Text())
		}
		w.Wait()
	})
	return w, nil
}

// line is a Status in a line.
func line(s fleet.Status) string {
	owned, paused := 0, 0
	for _, h := range s.Hosts {
		if h.Owner != "" {
			owned++
		}
		if time.Until(h.PausedUntil) > 0 {
			paused++
		}
	}
	var rates []string
	for _, w := range s.Workers {
		rates = append(rates, fmt.Sprintf("%.0f/s on %d hosts", w.Rate, w.Hosts))
	}
	return fmt.Sprintf("%5d requests left on %3d hosts, %3d owned, %d paused; workers: %s", s.Requests, len(s.Hosts), owned, paused, strings.Join(rates, ", "))
}

func printStatus(ctx context.Context, broker string) error {
	f, err := fleet.Open(ctx, fleet.Config{URL: broker, Lease: lease})
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := f.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s; %d poisoned; %v left\n", line(s), s.Poison, s.Left.Round(time.Second))
	for _, h := range s.Hosts[:min(20, len(s.Hosts))] {
		fmt.Printf("%-24s %6d requests, owner %-8.8s", h.Host, h.Requests, h.Owner)
		if left := time.Until(h.PausedUntil); left > 0 {
			fmt.Printf(", paused for %v", left.Round(time.Second))
		}
		fmt.Println()
	}
	return nil
}
