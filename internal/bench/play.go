package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/batchhttp/fetch"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// playErrgroup runs the scene as programs do that add a semaphore for each
// host to an errgroup: a goroutine takes its slot first, and then waits.
func playErrgroup(ctx context.Context, s scene) (panel, error) {
	log := newSlots(s.slots)
	hosts := make([]*semaphore.Weighted, sceneHosts)
	for i := range hosts {
		hosts[i] = semaphore.NewWeighted(int64(s.hostLimit))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.slots)
	for _, r := range s.requests {
		g.Go(func() error {
			b := bar{host: r.host}
			b.slot, b.taken = log.take()
			if err := hosts[r.host].Acquire(ctx, 1); err != nil {
				return err
			}
			defer hosts[r.host].Release(1)
			b.sent = log.now()
			err := pause(ctx, r.took)
			log.release(b)
			return err
		})
	}
	err := g.Wait()
	return panel{title: "errgroup + a semaphore per host", slots: len(log.held), bars: log.bars}, err
}

// playFetch runs the scene with the same limits through the library, which
// sees nothing of it but a transport.
func playFetch(ctx context.Context, s scene) (panel, error) {
	log := newSlots(s.slots)
	client := &http.Client{Transport: stage{scene: s, log: log}}
	results := fetch.FetchAll(ctx, s.urls(), fetch.WithClient(client),
		fetch.WithConcurrency(s.slots), fetch.WithHostConcurrency(s.hostLimit))
	return panel{title: "fetch", slots: len(log.held), bars: log.bars}, fetch.JoinErrors(results)
}

// A stage is a transport whose responses take the time that the scene says.
type stage struct {
	scene scene
	log   *slots
}

func (t stage) RoundTrip(request *http.Request) (*http.Response, error) {
	index, err := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/"))
	if err != nil || index >= len(t.scene.requests) {
		return nil, errors.New("no such request in the scene")
	}
	r := t.scene.requests[index]
	b := bar{host: r.host}
	b.slot, b.taken = t.log.take()
	b.sent = b.taken
	defer func() { t.log.release(b) }()
	if err := pause(request.Context(), r.took); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body:    io.NopCloser(strings.NewReader("")),
		Request: request,
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
