package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A scene is what the picture shows: one list of URLs, grouped by host as
// lists from a crawl or a sitemap are, the slow host first.
type scene struct {
	slots     int
	hostLimit int
	requests  []sceneRequest
}

type sceneRequest struct {
	host int // 0 is the slow one
	took time.Duration
}

const (
	sceneHosts   = 20
	scenePerHost = 12
	slowRequest  = 200 * time.Millisecond
	quickRequest = 40 * time.Millisecond
)

func newScene() scene {
	s := scene{slots: 10, hostLimit: 2}
	random := rand.New(rand.NewPCG(1, 2))
	for host := range sceneHosts {
		usual := quickRequest
		if host == 0 {
			usual = slowRequest
		}
		for range scenePerHost {
			// Between three and five quarters of the usual time.
			took := time.Duration(float64(usual) * (0.75 + random.Float64()/2))
			s.requests = append(s.requests, sceneRequest{host: host, took: took})
		}
	}
	return s
}

// urls names each request by its index, which the transport finds in the path.
func (s scene) urls() []string {
	urls := make([]string, len(s.requests))
	for i, r := range s.requests {
		urls[i] = fmt.Sprintf("http://host%d.example/%d", r.host, i)
	}
	return urls
}
