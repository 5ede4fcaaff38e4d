package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/batchhttp/fetch/fleet"
)

const (
	longLease = 10 * time.Second
	killLease = 2 * time.Second
)

// runAlone measures one Fetcher.
func runAlone(ctx context.Context, urls []string) (f figure, err error) {
	p, err := start("alone")
	if err != nil {
		return f, err
	}
	defer p.kill()
	before, began := p.cpu(), time.Now()
	if _, err := io.WriteString(p.in, strings.Join(urls, "\n")+"\n"); err != nil {
		return f, err
	}
	p.in.Close()
	if err := waitFor(ctx, func() bool { return p.told.Load() == int64(len(urls)) }); err != nil {
		return f, err
	}
	return figure{fetching: time.Since(began), workers: p.cpu() - before}, nil
}

// A stage is a broker and workers.
type stage struct {
	dir     string
	broker  *process
	workers []*process
	fleet   *fleet.Fleet
}

func newStage(ctx context.Context, workers int, lease time.Duration) (s *stage, err error) {
	s = &stage{}
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	if s.broker, err = start("broker", s.dir); err != nil {
		s.close()
		return nil, err
	}
	for range workers {
		w, err := start("worker", s.broker.ready, lease.String())
		if err != nil {
			s.close()
			return nil, err
		}
		s.workers = append(s.workers, w)
	}
	if s.fleet, err = fleet.Open(ctx, fleet.Config{URL: s.broker.ready, Lease: lease}); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) close() {
	if s.fleet != nil {
		s.fleet.Close()
	}
	for _, w := range s.workers {
		w.kill()
	}
	if s.broker != nil {
		s.broker.kill()
	}
	os.RemoveAll(s.dir)
}

// begin lets the workers begin.
func (s *stage) begin() {
	for _, w := range s.workers {
		w.in.Close()
	}
}

func (s *stage) done() (n int64) {
	for _, w := range s.workers {
		n += w.told.Load()
	}
	return n
}

func (s *stage) cpu() (total time.Duration) {
	for _, w := range s.workers {
		total += w.cpu()
	}
	return total
}

func (s *stage) add(ctx context.Context, urls []string) error {
	n, err := s.fleet.Add(ctx, slices.Values(urls))
	if err == nil && n != len(urls) {
		err = fmt.Errorf("%d of %d URLs stored", n, len(urls))
	}
	return err
}

// runFleet measures workers. All URLs are added before they begin.
func runFleet(ctx context.Context, urls []string, workers int) (f figure, err error) {
	s, err := newStage(ctx, workers, longLease)
	if err != nil {
		return f, err
	}
	defer s.close()
	producer, broker, began := ownCPU(), s.broker.cpu(), time.Now()
	if err := s.add(ctx, urls); err != nil {
		return f, err
	}
	f.adding, f.producer, f.addBroker = time.Since(began), ownCPU()-producer, s.broker.cpu()-broker
	before, broker, began := s.cpu(), s.broker.cpu(), time.Now()
	s.begin()
	if err := waitFor(ctx, func() bool { return s.done() >= int64(len(urls)) }); err != nil {
		return f, err
	}
	f.fetching = time.Since(began)
	time.Sleep(300 * time.Millisecond) // what is written behind counts too
	f.workers, f.broker = s.cpu()-before, s.broker.cpu()-broker
	return f, nil
}

// A recovery is how long hosts were without an owner that lives.
type recovery struct {
	hosts       int
	first, last time.Duration
}

// recover kills one of three workers in the middle.
func recover(ctx context.Context, urls []string) (r recovery, err error) {
	s, err := newStage(ctx, 3, killLease)
	if err != nil {
		return r, err
	}
	defer s.close()
	if err := s.add(ctx, urls); err != nil {
		return r, err
	}
	s.begin()
	if err := waitFor(ctx, func() bool { return s.done() > int64(len(urls)/3) }); err != nil {
		return r, err
	}
	before, err := s.fleet.Status(ctx)
	if err != nil {
		return r, err
	}
	killed := time.Now()
	s.workers[0].kill()
	changed, last := map[string]time.Duration{}, before // when a host was first seen with another owner
	for time.Since(killed) < 2*killLease {
		if last, err = s.fleet.Status(ctx); err != nil {
			return r, err
		}
		for _, h := range before.Hosts {
			owner := ownerOf(last, h.Host)
			if _, ok := changed[h.Host]; !ok && h.Owner != "" && owner != h.Owner && owner != "" {
				changed[h.Host] = time.Since(killed)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, h := range before.Hosts {
		if h.Owner == "" || slices.ContainsFunc(last.Workers, func(w fleet.WorkerStatus) bool { return w.Name == h.Owner }) {
			continue
		}
		at, ok := changed[h.Host]
		if !ok {
			continue // it was done before the kill, or as soon as it had another
		}
		if r.hosts++; r.first == 0 || at < r.first {
			r.first = at
		}
		r.last = max(r.last, at)
	}
	return r, nil
}

func ownerOf(s fleet.Status, host string) string {
	for _, h := range s.Hosts {
		if h.Host == host {
			return h.Owner
		}
	}
	return ""
}

func waitFor(ctx context.Context, f func() bool) error {
	for began := time.Now(); !f(); time.Sleep(5 * time.Millisecond) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > 5*time.Minute:
			return errors.New("not done within five minutes")
		}
	}
	return nil
}
