package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/time/rate"
)

// A town has servers on loopback, each a host of its own.
type town struct{ servers []*server }

// A server counts what it sees.
type server struct {
	kind     string
	count    int // of URLs
	host     string
	listener net.Listener // nil: it refuses connections
	http     *http.Server // nil: it never answers
	answer   func(w http.ResponseWriter, r *http.Request)

	mu             sync.Mutex
	inFlight, most int
	requests       int
}

const ordinary = 40

func newTown() (*town, error) {
	t := &town{}
	kinds := []*server{
		{kind: "dead", count: 10},
		{kind: "slow", count: 60, answer: after(200 * time.Millisecond)},
		{kind: "limited", count: 80, answer: limited(10, 5)},
		{kind: "refusing", count: 50},
	}
	for range ordinary {
		kinds = append(kinds, &server{kind: "ordinary", count: 200, answer: after(30 * time.Millisecond)})
	}
	for _, s := range kinds {
		t.servers = append(t.servers, s)
		if err := s.start(); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (s *server) start() (err error) {
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	s.host = s.listener.Addr().String()
	switch s.kind {
	case "dead":
		go s.neverAnswer()
	case "refusing":
		return s.listener.Close()
	default:
		s.http = &http.Server{Handler: s}
		go s.http.Serve(s.listener)
	}
	return nil
}

// neverAnswer accepts connections, and counts those that are open.
func (s *server) neverAnswer() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			time.Sleep(5 * time.Millisecond) // for the end of the connection that this one takes the place of
			s.enter()
			io.Copy(io.Discard, conn)
			conn.Close()
			s.leave()
		}()
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.enter()
	defer s.leave()
	s.answer(w, r)
}

func (s *server) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.inFlight++
	s.most = max(s.most, s.inFlight)
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

func after(d time.Duration) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(d):
			fmt.Fprintln(w, "hello")
		}
	}
}

// limited refuses what comes faster than so many a second.
func limited(perSecond rate.Limit, burst int) func(http.ResponseWriter, *http.Request) {
	limiter := rate.NewLimiter(perSecond, burst)
	return func(w http.ResponseWriter, _ *http.Request) {
		if !limiter.Allow() {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprintln(w, "hello")
	}
}

func (t *town) close() {
	for _, s := range t.servers {
		if s.http != nil {
			s.http.Close()
		}
		if s.listener != nil {
			s.listener.Close()
		}
	}
}

func (s *server) url(i int) string { return fmt.Sprintf("http://%s/%d", s.host, i) }

// urls has the dead host first.
func (t *town) urls() (urls []string) {
	for _, s := range t.servers {
		for i := range s.count {
			urls = append(urls, s.url(i))
		}
	}
	return urls
}

// A row is what became of the hosts of a kind.
type row struct {
	hosts, urls, requests, most, handled, lost, twice int
}

// report prints a table, and fails if a URL was lost or a limit exceeded.
func (t *town) report(w io.Writer, handled *tally) error {
	handled.mu.Lock()
	defer handled.mu.Unlock()
	rows := map[string]*row{}
	var kinds []string
	for _, s := range t.servers {
		r := rows[s.kind]
		if r == nil {
			r = &row{}
			rows[s.kind] = r
			kinds = append(kinds, s.kind)
		}
		s.addTo(r, handled.times)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "host\thosts\tURLs\trequests\tmost in flight\thandled\tlost\ttwice\t")
	bad := 0
	for _, kind := range kinds {
		r := rows[kind]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", kind, r.hosts, r.urls, r.requests, r.most, r.handled, r.lost, r.twice)
		if r.lost > 0 || r.most > hostLimit {
			bad++
		}
	}
	table.Flush()
	if bad > 0 {
		return fmt.Errorf("%d rows are not as they ought to be", bad)
	}
	return nil
}

func (s *server) addTo(r *row, times map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.hosts++
	r.urls += s.count
	r.requests += s.requests
	r.most = max(r.most, s.most)
	for i := range s.count {
		switch times[s.url(i)] {
		case 0:
			r.lost++
		case 1:
			r.handled++
		default:
			r.handled++
			r.twice++
		}
	}
}
