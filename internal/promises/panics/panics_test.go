package panics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// explosives are the places where code of others runs inside a batch. The options
// that they return call explode there, and use calm for all other URLs.
var explosives = map[string]func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option{
	"transport": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				explode()
			}
			return calm(req)
		})}
	},
	"response body": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				resp := fetchtest.Respond(req, 200, "")
				resp.Body, resp.ContentLength = io.NopCloser(fetchtest.ReaderFunc(func([]byte) (int, error) {
					explode()
					return 0, io.EOF
				})), -1
				return resp, nil
			}
			return calm(req)
		})}
	},
	"closing a response body": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				resp := fetchtest.Respond(req, 200, "ok")
				resp.Body = &fetchtest.HookedBody{ReadCloser: resp.Body, OnClose: explode}
				return resp, nil
			}
			return calm(req)
		})}
	},
	"BodyFunc": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{
			fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/bomb" {
					return fetchtest.Respond(req, 200, ""), nil
				}
				return calm(req)
			}),
			fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, _ io.Reader) error {
				if strings.HasSuffix(r.URL, "/bomb") {
					explode()
				}
				return nil
			}),
		}
	},
	"Attempt hook": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return hooked(calm, fetch.Hooks{Attempt: func(r fetch.Result, _ time.Time) {
			if strings.HasSuffix(r.URL, "/bomb") {
				explode()
			}
		}})
	},
	"Done hook": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return hooked(calm, fetch.Hooks{Done: func(r fetch.Result) {
			if strings.HasSuffix(r.URL, "/bomb") {
				explode()
			}
		}})
	},
	"WithTransport": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/bomb" {
					explode()
				}
				return next.RoundTrip(req)
			})
		})}
	},
	"RequestFunc": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithRequestFunc(func(req *http.Request) error {
			if req.URL.Path == "/bomb" {
				explode()
			}
			return nil
		})}
	},
	"Limiter": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		calls := 0
		return []fetch.Option{fetchtest.Over(calm), fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
			if calls++; calls == 4 {
				explode()
			}
			return nil
		}))}
	},
	"HostLimiter": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithLimiter(fetchtest.HostLimiterFunc(func(_ context.Context, host string) error {
			if host == "bomb" {
				explode()
			}
			return nil
		}))}
	},
	"HostLimits": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithHostLimits(func(host string) fetch.HostLimits {
			if host == "bomb" {
				explode()
			}
			return fetch.HostLimits{}
		})}
	},
	"CheckRedirect": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithClient(&http.Client{
			Transport: fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/bomb" {
					return fetchtest.Respond(req, 302, "", "Location", "/next"), nil
				}
				return calm(req)
			}),
			CheckRedirect: func(*http.Request, []*http.Request) error {
				explode()
				return nil
			},
		})}
	},
	"Jar": func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithClient(&http.Client{
			Transport: calm,
			Jar: jarFunc(func(u *url.URL) []*http.Cookie {
				if u.Path == "/bomb" {
					explode()
				}
				return nil
			}),
		})}
	},
}

// hooked returns options with the hooks, where the bomb is answered at once.
func hooked(calm fetchtest.RoundTripFunc, hooks fetch.Hooks) []fetch.Option {
	return []fetch.Option{fetch.WithHooks(hooks), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/bomb" {
			return fetchtest.Respond(req, 200, ""), nil
		}
		return calm(req)
	})}
}

type jarFunc func(*url.URL) []*http.Cookie

func (f jarFunc) SetCookies(*url.URL, []*http.Cookie)   {}
func (f jarFunc) Cookies(u *url.URL) (c []*http.Cookie) { return f(u) }

// bombURLs are what the explosives are tried with: the fourth of them explodes.
var bombURLs = []string{"http://a/", "http://b/", "http://c/", "http://bomb/bomb", "http://a/2", "http://b/2"}

// detonate has a name to look for in a stack.
func detonate() { panic("boom") }

func TestPanicOfOthersCodeComesOutAtTheCaller(t *testing.T) {
	for name, options := range explosives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The bomb goes off after a second, when the others are in flight.
				var flight fetchtest.InFlight
				f := fetchtest.NewFetcher(t, append(options(func() {
					if name != "Limiter" && name != "HostLimits" { // no others start while these wait
						time.Sleep(time.Second)
					}
					detonate()
				}, flight.Over(fetchtest.AnswerAfter(time.Hour))), fetch.WithTimeout(0))...)
				start := time.Now()
				value, _ := fetchtest.Recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				if took := time.Since(start); took > time.Second {
					t.Errorf("took %v: the others were not stopped", took)
				}
				if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
					t.Errorf("recovered %.200q, want boom and the stack of where it happened", text)
				}
				if n := flight.Current(); n != 0 {
					t.Errorf("%d requests still run", n)
				}
				fetchtest.MustFetch(t, f, "http://calm/")
			})
		})
	}
}

func TestPanicLeavesNoRequestBodyOpen(t *testing.T) {
	for name, options := range explosives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fetchtest.NewFetcher(t, append(options(detonate, fetchtest.AnswerAfter(time.Hour)), fetch.WithConcurrency(4))...)
				var reqs []*http.Request
				var bodies []*fetchtest.TrackedBody
				for _, u := range bombURLs {
					body := fetchtest.NewTrackedBody("data")
					req, err := http.NewRequest("POST", u, body)
					if err != nil {
						t.Fatal(err)
					}
					reqs, bodies = append(reqs, req), append(bodies, body)
				}
				if value, _ := fetchtest.Recovered(func() { f.DoAll(t.Context(), reqs) }); value == nil {
					t.Error("the panic did not come out")
				}
				for i, body := range bodies {
					if !body.Closed.Load() {
						t.Errorf("body %d is open", i)
					}
				}
			})
		})
	}
}

func TestPanicStopsItsBatchAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		var sent atomic.Int32 // of the batch that panics
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(4), fetchtest.Over(flight.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "calm" {
				return fetchtest.AnswerAfter(100 * time.Millisecond)(req)
			}
			sent.Add(1)
			if req.URL.Path == "/0" {
				time.Sleep(time.Second)
				detonate()
			}
			return fetchtest.AnswerAfter(time.Hour)(req)
		})))
		var wg sync.WaitGroup
		wg.Go(func() {
			fetchtest.MustFetch(t, f, fetchtest.Numbered("http://calm", 100)...)
		})
		value, _ := fetchtest.Recovered(func() { f.FetchAll(t.Context(), fetchtest.Numbered("http://bomb", 50)) })
		if value == nil {
			t.Error("the panic did not come out")
		}
		if n := flight.CurrentOf("bomb"); n != 0 {
			t.Errorf("%d requests of the batch are in flight", n)
		}
		before := sent.Load()
		wg.Wait()
		if sent.Load() != before {
			t.Error("requests of the batch started after it had panicked")
		}
		// No slot was lost.
		start := time.Now()
		fetchtest.MustFetch(t, f, fetchtest.Numbered("http://calm", 40)...)
		fetchtest.CheckTook(t, "40 requests of 100 ms, 4 at once,", time.Since(start), time.Second)
	})
}

func TestPanicValuesOfAllKindsComeOut(t *testing.T) {
	for name, value := range map[string]any{
		"nil":             nil,
		"error":           errors.New("boom"),
		"number":          42,
		"ErrAbortHandler": http.ErrAbortHandler,
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := fetchtest.Recovered(func() {
				fetch.FetchAll(t.Context(), []string{"http://host/"}, fetchtest.Over(func(*http.Request) (*http.Response, error) { panic(value) }))
			})
			if got == nil || value != nil && !strings.Contains(fmt.Sprint(got), fmt.Sprint(value)) {
				t.Errorf("recovered %.100q, want %v", fmt.Sprint(got), value)
			}
		})
	}
}

// net/http reads request bodies on goroutines of its own.
func TestPanicOfARequestBodyComesOutAtTheCaller(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) })
	f := fetchtest.NewFetcher(t)
	body := fetchtest.ReaderFunc(func([]byte) (int, error) {
		detonate()
		return 0, io.EOF
	})
	req, err := http.NewRequest("POST", server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := fetchtest.Recovered(func() { f.DoAll(t.Context(), []*http.Request{req}) })
	if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
		t.Errorf("recovered %.200q", text)
	}
	fetchtest.MustFetch(t, f, server.URL)
}

func TestARetryIfThatPanicsComesOutAtTheCaller(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{"answer": fetchtest.Always(503), "error": fetchtest.Failing(fetchtest.ErrReset)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				f := fetchtest.NewFetcher(t, fetch.WithRetries(2), fetch.WithTimeout(0), fetch.WithRetryIf(func(r fetch.Result) bool {
					if strings.Contains(r.URL, "bomb") {
						time.Sleep(time.Second) // the others are in flight then
						detonate()
					}
					return false
				}), fetchtest.Over(flight.Over(func(req *http.Request) (*http.Response, error) {
					switch req.URL.Host {
					case "bomb":
						return step(req)
					case "calm":
						return fetchtest.Respond(req, 200, "ok"), nil
					}
					return fetchtest.AnswerAfter(time.Hour)(req)
				})))
				start := time.Now()
				value, _ := fetchtest.Recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
				if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
					t.Errorf("recovered %.200q", text)
				}
				if flight.Current() != 0 {
					t.Errorf("%d requests still run", flight.Current())
				}
				fetchtest.MustFetch(t, f, "http://calm/")
			})
		})
	}
}
