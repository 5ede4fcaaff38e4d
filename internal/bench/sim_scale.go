package main

import (
	"runtime"
	"strconv"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// scale pushes a list of URLs, host by host in turn, and serves it. Hosts are
// named by number; the names count as memory of the list, not of the scheduler.
func scale(urls, hosts int) scaled {
	keys := make([]string, hosts)
	for h := range keys {
		keys[h] = strconv.Itoa(h)
	}
	before := liveBytes()
	start := time.Unix(0, 0)
	s := sched.New(start, sched.Config{Slots: 64, InitialWindow: sched.DefaultInitialWindow, Host: sched.Limits{Concurrency: 2}})
	lane := s.NewLane(nil)
	began := time.Now()
	for i := range urls {
		lane.Push(start, keys[i%hosts], i)
	}
	pushed := time.Since(began)
	bytes := liveBytes() - before

	began = time.Now()
	now := start
	var running []sched.Task // ended in the order in which they started
	for range urls {
		task, ok := s.Pop(now)
		for ; ok; task, ok = s.Pop(now) {
			running = append(running, task)
		}
		now = now.Add(time.Millisecond)
		s.Done(now, running[0], sched.Outcome{Verdict: sched.Accepted})
		running = running[1:]
	}
	served := time.Since(began)
	runtime.KeepAlive(keys)
	return scaled{push: pushed / time.Duration(urls), serve: served / time.Duration(urls), bytes: bytes / uint64(urls)}
}

func liveBytes() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
