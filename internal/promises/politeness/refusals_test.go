package politeness_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The host answers the requests of one wave one after the other, and each answer is a 429.
func TestManyRefusalsAtOnceAreOneIncident(t *testing.T) {
	for name, header := range map[string][]string{"no Retry-After": nil, "Retry-After": {"Retry-After", "1"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const wave, ms = 50, time.Millisecond
				sent := fetchtest.NewTimeline()
				var n atomic.Int32
				urls := fetchtest.Numbered("http://a.example", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(wave), fetch.WithRetries(3), fetch.WithBackoff(time.Second, 10*time.Second),
					fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
						if n := n.Add(1); n <= wave {
							return fetchtest.Taking(time.Duration(100+n)*ms, fetchtest.Always(429, header...))(req)
						}
						return fetchtest.AnswerAfter(100 * ms)(req)
					})))
				fetchtest.MustAllBeFine(t, urls, results)
				at := sent.OfHost("a.example")
				if len(at) != 150 {
					t.Fatalf("%d requests, want 150", len(at))
				}
				// One incident is a pause of a second, whatever comes after it in the same wave; 50 would be 10 s.
				probe := at[wave]
				if probe < 1101*ms || probe > 1150*ms {
					t.Errorf("the probe was sent after %v", probe)
				}
				if header != nil && probe != 1150*ms {
					t.Errorf("the probe was sent after %v, when the last answer had asked for %v", probe, 1150*ms)
				}
				if at[wave+1] < probe+100*ms {
					t.Errorf("another request %v after the probe, which had no answer yet", at[wave+1]-probe)
				}
			})
		})
	}
}

func TestARefusedURLGoesToTheBackOfItsHostsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent fetchtest.Recorder
		urls := fetchtest.Numbered("http://a.example", 5)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "1"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		var order []string
		for _, s := range sent.Take() {
			order = append(order, s.URL)
		}
		if want := slices.Concat(urls, urls[:1]); !slices.Equal(order, want) {
			t.Errorf("sent %v", order)
		}
	})
}

// Without Retry-After, too: the pause governs those.
func TestRefusalsAreNotChargedToTheBudget(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"429": fetchtest.Always(429), "429 with Retry-After": fetchtest.Always(429, "Retry-After", "1"), "503 with Retry-After": fetchtest.Always(503, "Retry-After", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := slices.Repeat([]fetchtest.RoundTripFunc{step}, 40)
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(50), fetch.WithBackoff(time.Second, time.Second), fetchtest.Over(fetchtest.InTurn(append(steps, fetchtest.AtOnce)...)))
				if !r.OK() || r.Attempts != 41 {
					t.Errorf("%d after %d attempts", r.StatusCode, r.Attempts)
				}
			})
		})
	}
}

// A pause is that of the host, but each attempt begins at the door.
func TestARefusalBehindARedirectIsRetriedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		urls := fetchtest.Numbered("http://door", 3)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetchtest.Over(sent.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
			"busy": fetchtest.Taking(time.Second, func(req *http.Request) (*http.Response, error) {
				if time.Since(sent.Start) < 10*time.Second {
					return fetchtest.Respond(req, 429, "no", "Retry-After", "10"), nil
				}
				return fetchtest.Respond(req, 200, "ok"), nil
			}),
			"door": func(req *http.Request) (*http.Response, error) {
				return fetchtest.Respond(req, 302, "", "Location", "http://busy"+req.URL.Path), nil
			},
		}))))
		fetchtest.MustAllBeFine(t, urls, results)
		for _, r := range results {
			if !r.OK() || r.Attempts != 2 || r.Redirects != 1 {
				t.Errorf("%s: %d after %d attempts, %d redirects", r.URL, r.StatusCode, r.Attempts, r.Redirects)
			}
		}
		if doors := len(sent.OfHost("door")); doors != 6 {
			t.Errorf("%d requests at the door, want 6", doors)
		}
		if at := sent.OfHost("busy"); len(at) != 6 || at[3] != 11*time.Second {
			t.Errorf("requests at %v, want the fourth at 11 s", at)
		}
	})
}

// Twice in a row, and then the host has recovered.
func TestAURLThatIsRefusedTwiceIsFetchedAtLast(t *testing.T) {
	for name, c := range hostileRetryAfters {
		if c.asks == math.MaxInt64 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuse := func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 429, "no")
					resp.Header["Retry-After"] = c.values
					return resp, nil
				}
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(2), fetchtest.Over(fetchtest.InTurn(refuse, refuse, fetchtest.AtOnce)))
				if !r.OK() || r.Attempts != 3 || r.Waited < 600*time.Millisecond && c.asks == 0 || r.Waited < c.asks || r.Waited > 2*c.asks+time.Second {
					t.Errorf("%d after %d attempts and %v", r.StatusCode, r.Attempts, r.Waited)
				}
			})
		})
	}
}

func TestAShortOutageLosesNothing(t *testing.T) {
	const outage = 5 * time.Second
	for name, c := range map[string]struct {
		slots int
		ask   func(left time.Duration) int
	}{
		"the host knows when it is over": {100, func(left time.Duration) int { return int(math.Ceil(left.Seconds())) }},
		"the host says a second":         {64, func(time.Duration) int { return 1 }},
		"the host says two":              {5, func(time.Duration) int { return 2 }},
	} {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprint(name, ", ", status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := fetchtest.NewTimeline()
					urls := fetchtest.Numbered("http://a.example", 100)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetch.WithConcurrency(c.slots),
						fetchtest.Over(sent.Over(fetchtest.Taking(20*time.Millisecond, func(req *http.Request) (*http.Response, error) {
							if left := outage - time.Since(sent.Start); left > 0 {
								return fetchtest.Respond(req, status, "later", "Retry-After", fmt.Sprint(c.ask(left))), nil
							}
							return fetchtest.Respond(req, 200, "ok"), nil
						}))))
					fetchtest.MustAllBeFine(t, urls, results)
					for _, r := range results {
						if !r.OK() {
							t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
						}
					}
					if n := sent.Len(); n > 200 {
						t.Errorf("%d requests for 100 URLs", n)
					}
					if took := time.Since(sent.Start); took > 3*outage {
						t.Errorf("took %v", took)
					}
				})
			})
		}
	}
}

// Everything but the first URL is held back for the memory that results take which wait for it, and it has
// gone to the back of its host's queue, behind URLs that are held back.
func TestAnOrderedStreamOfLargeBodiesWaitsForARefusedURL(t *testing.T) {
	const size, large = 1 << 20, 72 // 64 MiB stop it
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"refused before the others are there": fetchtest.Always(429, "Retry-After", "5"),
		"refused after that":                  fetchtest.Taking(time.Second, fetchtest.Always(429, "Retry-After", "5")),
		"in back-off after that":              fetchtest.Taking(time.Second, fetchtest.Always(500)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := strings.Repeat("x", size)
				rt := fetchtest.InTurn(step, step, fetchtest.AnswerAfter(10*time.Millisecond))
				urls := slices.Concat([]string{"http://busy/first"}, fetchtest.Numbered("http://large", large), fetchtest.Numbered("http://busy", 20))
				results := fetchtest.Collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), fetch.WithInOrder(), fetch.WithRetries(4), fetch.WithConcurrency(4),
					fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						switch {
						case req.URL.Path == "/first":
							return rt(req)
						case req.URL.Host == "large":
							return fetchtest.Respond(req, 200, page), nil
						}
						return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
					})))
				for i, r := range results {
					if r.Index != i || !r.OK() {
						t.Errorf("result %d is %d: %d, %v", i, r.Index, r.StatusCode, r.Err)
					}
				}
			})
		})
	}
}

// BodyFunc gets no refusal that is retried, but it gets the refusal that a URL ends with.
func TestBodyFuncGetsTheRefusalThatAURLEndsWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		urls := fetchtest.Numbered("http://a.example", 2)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return fetchtest.Respond(req, 429, "too many", "Retry-After", "1"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}), fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
			text, err := io.ReadAll(body)
			got = append(got, fmt.Sprintf("%d %s", r.StatusCode, text))
			return err
		}))
		fetchtest.MustAllBeFine(t, urls, results)
		if want := []string{"429 too many", "200 ok"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

func TestAServerIsObeyedOverRealConnections(t *testing.T) {
	var mu sync.Mutex
	var refused time.Time // the last refusal
	early, requests := 0, 0
	start := time.Now()
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		// What is on its way when the first refusal is sent comes at most a moment after that.
		if since := time.Since(refused); since > 500*time.Millisecond && since < time.Second {
			early++
		}
		if time.Since(start) > 500*time.Millisecond {
			io.WriteString(w, "ok")
			return
		}
		refused = time.Now()
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, "too many")
	})
	urls := fetchtest.Numbered(server.URL, 40)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8), fetch.WithRetries(3))
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		if !r.OK() {
			t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
		}
	}
	if early > 0 || requests > 48 {
		t.Errorf("%d requests, %d of them in the pause", requests, early)
	}
}
