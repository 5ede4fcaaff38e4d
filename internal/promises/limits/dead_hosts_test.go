package limits_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// someDead is a transport in which hosts whose name begins with "dead" cannot be connected to, which
// takes a while. The others answer.
func someDead(timeout, answer time.Duration) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if !strings.HasPrefix(req.URL.Host, "dead") {
			return fetchtest.AnswerAfter(answer)(req)
		}
		if err := fetchtest.SleepCtx(req.Context(), timeout); err != nil {
			return nil, err
		}
		return nil, fetchtest.ErrRefused
	}
}

// endOfLiving fetches the URLs and returns when the last of a living host was done.
func endOfLiving(t *testing.T, urls []string, rt fetchtest.RoundTripFunc, opts ...fetch.Option) time.Duration {
	t.Helper()
	start := time.Now()
	var mu sync.Mutex
	var last time.Duration
	results := fetch.FetchAll(t.Context(), urls, append(opts, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		resp, err := rt(req)
		if err == nil {
			mu.Lock()
			last = max(last, time.Since(start))
			mu.Unlock()
		}
		return resp, err
	}))...)
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		if dead := strings.HasPrefix(r.URL, "http://dead"); dead == (r.Err == nil) {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
	}
	return last
}

func TestARowOfDeadNamesDoesNotHoldUpTheLiving(t *testing.T) {
	for name, c := range map[string]struct{ dead, good, slots int }{
		"40 before 40, 8 slots":     {40, 40, 8},
		"200 before 2000, 64 slots": {200, 2000, 64},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var urls []string
				for i := range c.dead {
					urls = append(urls, fmt.Sprintf("http://dead%d/", i))
				}
				for i := range c.good {
					urls = append(urls, fmt.Sprintf("http://good%d/", i))
				}
				took := endOfLiving(t, urls, someDead(time.Second, 10*time.Millisecond), fetch.WithConcurrency(c.slots))
				alone := time.Duration((c.good+c.slots-1)/c.slots) * 10 * time.Millisecond
				t.Logf("the last living one ends at %v, alone at %v", took, alone)
				if took > 400*time.Millisecond && took > alone*21/10 {
					t.Errorf("the last living one ends at %v, alone it would at %v", took, alone)
				}
			})
		})
	}
}

// New hosts that are dead look as those that are not: no order finds the last of the living before it has
// tried nearly all of the dead, for 10 s each. Where the living have enough to do meanwhile, they take
// little more than twice as long as alone.
func TestOneDeadHostInTenDoesNotCrowdOutTheLiving(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const hosts, slots, dial, answer = 2000, 64, 10 * time.Second, 50 * time.Millisecond
	for _, each := range []int{1, 5, 25} {
		for _, order := range []string{"hosts in turn", "shuffled"} {
			t.Run(fmt.Sprintf("%d URLs each, %s", each, order), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var urls []string
					for i := range each {
						for h := range hosts {
							name := "good"
							if h%10 == 3 {
								if name = "dead"; i > 2 {
									continue // of these more is a matter of patience only
								}
							}
							urls = append(urls, fmt.Sprintf("http://%s%d/%d", name, h, i))
						}
					}
					if order == "shuffled" {
						rand.New(rand.NewPCG(1, 1)).Shuffle(len(urls), func(i, j int) { urls[i], urls[j] = urls[j], urls[i] })
					}
					took := endOfLiving(t, urls, someDead(dial, answer), fetch.WithConcurrency(slots))
					living := hosts * 9 / 10 * time.Duration(each) * answer
					alone, tried := living/slots, (hosts/10*dial+living)/slots
					t.Logf("the living end at %v: %.2f of their time alone, %.2f of that with all of the dead tried once", took, took.Seconds()/alone.Seconds(), took.Seconds()/tried.Seconds())
					most := tried * 106 / 100
					if each == 25 {
						most = min(tried*110/100, alone*21/10)
					}
					if took > most {
						t.Errorf("the living end at %v, alone at %v; with all of the dead at %v", took, alone, tried)
					}
				})
			})
		}
	}
}

// New hosts that are dead look as those that are not, so that each must be tried: here for 31 s.
// None is tried again before the living are done.
func TestADeadHostIsTriedOnceBeforeTheLivingAreDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts, each, slots = 1000, 5, 32
		var urls []string
		for i := range each {
			for h := range hosts {
				name := "good"
				if h%10 == 3 {
					name = "dead"
				}
				urls = append(urls, fmt.Sprintf("http://%s%d/%d", name, h, i))
			}
		}
		took := endOfLiving(t, urls, someDead(10*time.Second, 50*time.Millisecond), fetch.WithConcurrency(slots))
		t.Logf("the living end at %v", took)
		if most := 10*time.Second*hosts/10/slots + 50*time.Millisecond*hosts*each/slots; took > most {
			t.Errorf("the living end at %v, later than %v", took, most)
		}
	})
}

// A host that is merely new is no suspect.
func TestABroadListIsNotSlowedDown(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		const hosts, slots = 20_000, 64
		var urls []string
		var work time.Duration
		takes := func(u string) time.Duration {
			return time.Duration((20 + 60*fetchtest.Dice(5, u, 0)) * float64(time.Millisecond))
		}
		for i := range hosts {
			u := fmt.Sprintf("http://host%d/", i)
			urls = append(urls, u)
			work += takes(u)
		}
		took := endOfLiving(t, urls, func(req *http.Request) (*http.Response, error) {
			return fetchtest.AnswerAfter(takes(req.URL.String()))(req)
		}, fetch.WithConcurrency(slots))
		bound := work / slots
		t.Logf("took %v, %.4f of the bound", took, took.Seconds()/bound.Seconds())
		if took > bound*102/100 {
			t.Errorf("took %v, the bound is %v", took, bound)
		}
	})
}
