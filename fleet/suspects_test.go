package fleet

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// A death is of the request that ran alone, unless that was done.
func TestWhoIsToBlameForADeath(t *testing.T) {
	done := newBits(8)
	done.set(3)
	left := map[uint64]bequest{7: {done: done, left: 7}}
	r := record{}
	r.buried(left)
	r.Trial = r.trialOf(7, 3)
	r.buried(left)
	if r.Deaths != 2 || len(r.Suspects) != 0 {
		t.Fatalf("%+v", r)
	}
	for want := 1; want <= 2; want++ {
		r.Trial = r.trialOf(7, 4)
		r.buried(left)
		if r.Deaths != 2 || !slices.Equal(r.Suspects, []trial{{7, 4, want}}) || r.trialOf(7, 5).Fatal != 0 {
			t.Fatalf("%+v", r)
		}
	}
	r.acquit(r.Suspects)
	if r.Deaths != 2 || len(r.Suspects) != 1 {
		t.Errorf("of one that is not tried: %+v", r)
	}
	if r.acquit(nil); r.Deaths != 0 || r.Suspects != nil {
		t.Errorf("at last: %+v", r)
	}
}

// Two hosts have a suspect each, of which one runs at a time. The worker is stopped while one waits.
func TestASuspectThatWaitsIsNotLost(t *testing.T) {
	var mu sync.Mutex
	requested := map[string]int{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requested["http://"+r.Host+r.URL.Path]++
		mu.Unlock()
		time.Sleep(500 * time.Millisecond)
	}))
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	go server.Config.Serve(second)
	f := newFleet(t)
	var urls []string
	for _, host := range []string{server.Listener.Addr().String(), second.Addr().String()} {
		added := []string{"http://" + host + "/suspect", "http://" + host + "/other"}
		if _, err := f.Add(t.Context(), slices.Values(added)); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, added...)
		pages, _, err := f.store.Pages(t.Context(), host, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		r := run{rec: record{Deaths: 3, Suspects: []trial{{Page: pages[0].Seq, Fatal: 1}}}}
		if _, err := f.store.PutRecord(t.Context(), host, r.encode(), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, enough := range []int{1, len(urls)} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx, func(context.Context, Delivery) error { return nil }) }()
		for range 200 {
			mu.Lock()
			n := len(requested)
			mu.Unlock()
			if n >= enough {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, u := range urls {
		if requested[u] == 0 {
			t.Errorf("%s was never requested", u)
		}
	}
	if s, err := f.Status(t.Context()); err != nil || s.Requests != 0 || s.Poison != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
