package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A load is a list of URLs, grouped by host as sitemaps and crawls are. How
// many a host has follows Zipf's law, how long its requests take is lognormal.
type load struct {
	hosts int
	keys  []string // of each host
	of    []int    // the host of each URL
	takes []time.Duration
}

func newLoad(seed uint64, urls, hosts int, noise float64) *load {
	random := rand.New(rand.NewPCG(seed, 1))
	l := &load{hosts: hosts, keys: make([]string, hosts)}
	for h := range l.keys {
		l.keys[h] = fmt.Sprintf("h%d", h)
	}
	sizes := zipf(urls, hosts)
	for _, h := range random.Perm(hosts) {
		mean := 0.1 * math.Exp(random.NormFloat64())
		for range sizes[h] {
			seconds := mean * math.Exp(noise*random.NormFloat64())
			l.of = append(l.of, h)
			l.takes = append(l.takes, time.Duration(seconds*float64(time.Second)))
		}
	}
	return l
}

// zipf shares urls out among hosts, each getting one at least.
func zipf(urls, hosts int) []int {
	sum := 0.0
	for rank := range hosts {
		sum += 1 / float64(rank+1)
	}
	sizes, left := make([]int, hosts), urls
	for rank := range sizes {
		sizes[rank] = max(1, int(float64(urls)/float64(rank+1)/sum))
		left -= sizes[rank]
	}
	sizes[0] += left
	return sizes
}

// lowerBound is the time that no order can better: that of all the work on
// all slots, or of one host's work within its limit.
func (l *load) lowerBound(slots, limit int) time.Duration {
	var all, longest time.Duration
	work := make([]time.Duration, l.hosts)
	for i, h := range l.of {
		all += l.takes[i]
		work[h] += l.takes[i]
	}
	for _, w := range work {
		longest = max(longest, w/time.Duration(limit))
	}
	return max(longest, all/time.Duration(slots))
}
