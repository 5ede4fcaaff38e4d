package fetchtest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// Numbered returns n URLs of a host, given with its scheme: base/0, base/1, and so on.
func Numbered(base string, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s/%d", base, i)
	}
	return urls
}

// HostURLs returns n URLs of each host in turn: a/0, b/0, a/1, b/1, and so on.
func HostURLs(n int, hosts ...string) []string {
	var urls []string
	for i := range n {
		for _, host := range hosts {
			urls = append(urls, fmt.Sprintf("http://%s/%d", host, i))
		}
	}
	return urls
}

// NumberedHosts yields host0, host1, and so on, n in all.
func NumberedHosts(n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("host%d", i)) {
				return
			}
		}
	}
}

// Dice returns a number in [0, 1) that depends on nothing but its arguments,
// so that the order in which requests of one instant come does not matter.
func Dice(seed uint64, rawURL string, n int) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, rawURL, " ", n)
	return rand.New(rand.NewPCG(seed, h.Sum64())).Float64()
}
