package engine_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/sched"
)

func TestGoexitOfARunnerEndsItsTaskAlone(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, oneSlot)
		all := tasks(3, "a", each(lasts(time.Second)))
		all[1].work = func(_ job.Turn, r *job.Report) error {
			r.Answer, r.Pause, r.Next = job.Throttled, 10*time.Second, job.Again
			runtime.Goexit()
			return nil
		}
		start := time.Now()
		run(c, t.Context(), all)
		// The next waits for the end of the pause: the report holds as far as it got.
		fetchtest.CheckTook(t, "all", time.Since(start), 12*time.Second)
		for i, k := range all {
			if want := map[bool]error{true: fault.Exited}[i == 1]; k.err != want {
				t.Errorf("task %d: %v", i, k.err)
			}
		}
	})
}

func TestAPanicOfARunnerStopsItsBatchAlone(t *testing.T) {
	eachWay(t, func(t *testing.T, run runTasks) {
		c := hire(t, engine.Config{Limits: sched.Config{Slots: 2}})
		others := tasks(5, "a", each(lasts(time.Second)))
		go run(c, t.Context(), others)
		all := tasks(9, "b", each(lasts(time.Second)))
		all[1].work = func(job.Turn, *job.Report) error {
			time.Sleep(500 * time.Millisecond) // a stream has read all then
			panic(errTest)
		}
		value, _ := fetchtest.Recovered(func() { run(c, t.Context(), all) })
		if err, ok := value.(error); !ok || !errors.Is(err, errTest) {
			t.Errorf("%v came out", value)
		}
		for i, k := range all {
			if k.ends != 1 {
				t.Errorf("task %d was ended %d times", i, k.ends)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, k := range others {
			if k.result != 1 || k.err != nil {
				t.Errorf("task %d of the other batch has %d results; %v", i, k.result, k.err)
			}
		}
		c.gauges.all.most.Store(0)
		run(c, t.Context(), tasks(4, "b", each(lasts(time.Second))))
		if most := c.gauges.all.most.Load(); most != 2 {
			t.Errorf("later %d ran at a time", most)
		}
	})
}

// End closes bodies of the caller's. One that has not returned is called once more.
func TestAPanicInTheEndOfATask(t *testing.T) {
	ends := map[string]func(c *crew, all []*task){
		"after its turn": func(c *crew, all []*task) {},
		"of its context": func(c *crew, all []*task) {
			all[1].ctx, _ = cancelAfter(500 * time.Millisecond)
		},
		"without a host": func(c *crew, all []*task) { all[1].hostErr = errTest },
		"of its host":    func(c *crew, all []*task) { all[0].work = reports(job.Report{Down: errTest}) },
	}
	for name, prepare := range ends {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run runTasks) {
				c := hire(t, engine.Config{Limits: sched.Config{Slots: 1}, MaxHostFailures: 1})
				all := tasks(3, "a", each(lasts(time.Second)))
				k := all[1]
				k.blowsUp, k.onEnd = true, func() {
					if k.ends == 1 {
						panic(errTest)
					}
				}
				prepare(c, all)
				value, _ := fetchtest.Recovered(func() { run(c, t.Context(), all) })
				if err, ok := value.(error); !ok || !errors.Is(err, errTest) {
					t.Errorf("%v came out", value)
				}
				for i, k := range all {
					notRead := i == 2 && k.result == 0 // by a stream that was stopped
					if k.ends == 0 && !notRead || k.ends > 2 || k.ends == 2 && !k.blowsUp {
						t.Errorf("task %d was ended %d times", i, k.ends)
					}
				}
				later := tasks(2, "b", each(lasts(time.Second)))
				run(c, t.Context(), later)
			})
		})
	}
}

// The limits of a host are asked for where a task is accepted, and where a hop leads.
func TestPanicsAndGoexitOfHostLimits(t *testing.T) {
	for name, blow := range map[string]func(){"panic": func() { panic(errTest) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run runTasks) {
				c := hire(t, engine.Config{
					Limits: sched.Config{Slots: 1},
					HostLimits: func(host string) (sched.Limits, error) {
						if host == "d" {
							blow()
						}
						return sched.Limits{}, nil
					},
				})
				for _, hops := range []bool{false, true} {
					all := tasks(3, "a", each(lasts(time.Second)))
					if all[1].host = "d"; hops {
						all[1].host, all[1].work = "a", hopTo(all[1], "d")
					}
					value, ended := fetchtest.Recovered(func() { run(c, t.Context(), all) })
					if (value != nil) != (name == "panic") || !ended {
						t.Errorf("%v came out", value)
					}
					if value == nil && (all[1].err != fault.Exited || all[2].err != nil) {
						t.Errorf("%v, then %v", all[1].err, all[2].err)
					}
				}
				run(c, t.Context(), tasks(3, "a", each(lasts(time.Second))))
			})
		})
	}
}

func TestTheInputOfAStreamBlowsUp(t *testing.T) {
	for name, blow := range map[string]func(){"panic": func() { panic(errTest) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := hire(t, engine.Config{})
				all := tasks(4, "a", each(lasts(time.Second)))
				yielded := 0
				value, ended := fetchtest.Recovered(func() {
					for range c.streamOf(context.Background(), func(yield func(job.Job) bool) {
						inputs(all)(yield)
						time.Sleep(500 * time.Millisecond)
						blow()
					}, engine.StreamConfig{}) {
						yielded++
					}
				})
				if (value != nil) != (name == "panic") || ended != (name == "panic") {
					t.Errorf("%v came out", value)
				}
				if yielded != len(all) {
					t.Errorf("%d of those that were read have results", yielded)
				}
			})
		})
	}
}

// The loop over a stream may be left in any way.
func TestTheLoopOverAStreamBlowsUp(t *testing.T) {
	for name, blow := range map[string]func(){"panic": func() { panic(errTest) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := hire(t, oneSlot)
				all := tasks(4, "a", each(lasts(time.Second)))
				value, ended := fetchtest.Recovered(func() {
					for range c.stream(context.Background(), all, engine.StreamConfig{}) {
						blow()
					}
				})
				if (value == error(errTest)) != (name == "panic") || ended != (name == "panic") {
					t.Errorf("%v came out", value)
				}
				synctest.Wait()
				for i, k := range all {
					if k.ends != 1 || (k.err == nil) != (i == 0) {
						t.Errorf("task %d was ended %d times; %v", i, k.ends, k.err)
					}
				}
			})
		})
	}
}
