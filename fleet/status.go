package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/batchhttp/fetch/fleet/internal/store"
)

// A Status is what goes on in a fleet, about: it is put together from several reads.
type Status struct {
	// Requests is how many are not done, as far as the workers have told. Of more than ten million it
	// is an estimate.
	Requests int
	Poison   int // requests that were given up
	Rate     float64
	// Left is how long the requests will take at the present rate, and at least until the last
	// pause is over; 0 if that cannot be told, since nothing is being done.
	Left    time.Duration
	Hosts   []HostStatus   // with requests, those with the most first
	Workers []WorkerStatus // that live
}

// A HostStatus is what goes on with a host.
type HostStatus struct {
	Host        string
	Requests    int // that are not done, with those done of the pages that the owner is at
	Owner       string
	Since       time.Time // when the owner got it
	PausedUntil time.Time
	Failures    int // to connect, in a row
}

// A WorkerStatus is what a worker says of itself.
type WorkerStatus struct {
	Name    string
	Started time.Time
	Hosts   int
	Done    int64   // requests handled
	Failed  int64   // of these, without a complete response
	Again   int64   // put off to be done again
	Dropped int64   // URLs that were seen before
	Rate    float64 // requests a second
}

// Status asks for the state of the fleet. It costs more the more hosts there are: some
// hundred thousand are fine once in a while.
func (f *Fleet) Status(ctx context.Context) (Status, error) {
	var s Status
	pages, infos, err := f.store.Backlog(ctx)
	if err != nil {
		return s, fmt.Errorf("fleet: status: %w", err)
	}
	records, err := f.store.Records(ctx)
	if err != nil {
		return s, fmt.Errorf("fleet: status: %w", err)
	}
	if s.Poison, err = f.store.Length(ctx, "poison"); err != nil {
		return s, fmt.Errorf("fleet: status: %w", err)
	}
	signs, err := f.signs(ctx)
	if err != nil {
		return s, fmt.Errorf("fleet: status: %w", err)
	}
	s.addHosts(pages, infos, records)
	s.addWorkers(signs)
	s.estimate(time.Now())
	return s, nil
}

func (s *Status) addHosts(pages map[string]int, infos []store.PageInfo, records map[string][]byte) {
	known := map[string]record{}
	for host, data := range records {
		if rec, err := readRecord(data); err == nil {
			known[host] = rec
		}
	}
	looked, left := map[string]int{}, map[string]int{} // pages and requests of these
	all := 0
	for _, page := range infos {
		n := page.Count
		if rec := known[page.Host]; rec.Owner == "" { // an owner tells itself
			n -= rec.Progress[page.Seq].count()
		}
		looked[page.Host]++
		left[page.Host] += n
		all += n
	}
	for host, n := range pages {
		rec := known[host]
		h := HostStatus{
			Host: host, Requests: left[host],
			Owner: rec.Owner, Since: rec.Since, PausedUntil: rec.closedUntil(), Failures: rec.State.Failures,
		}
		if unknown := n - looked[host]; unknown > 0 && len(infos) > 0 {
			h.Requests += unknown * all / len(infos)
		}
		s.Requests += h.Requests
		s.Hosts = append(s.Hosts, h)
	}
	slices.SortFunc(s.Hosts, func(a, b HostStatus) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Host, b.Host))
	})
}

func (s *Status) addWorkers(signs map[string]sign) {
	for id, w := range signs {
		s.Rate += w.Rate
		s.Requests -= w.Part
		s.Workers = append(s.Workers, WorkerStatus{id, w.Started, w.Hosts, w.Done, w.Failed, w.Again, w.Dropped, w.Rate})
	}
	s.Requests = max(s.Requests, len(s.Hosts)) // signs may be older than the pages
	slices.SortFunc(s.Workers, func(a, b WorkerStatus) int { return cmp.Compare(a.Name, b.Name) })
}

func (s *Status) estimate(now time.Time) {
	if s.Rate > 0 {
		s.Left = time.Duration(float64(s.Requests) / s.Rate * float64(time.Second))
	}
	for _, h := range s.Hosts {
		s.Left = max(s.Left, h.PausedUntil.Sub(now))
	}
}
