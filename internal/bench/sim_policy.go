package main

import (
	"container/heap"
	"slices"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// A policy decides which URL starts next. run returns when the last one ends.
type policy struct {
	name string
	run  func(l *load, slots, limit int) time.Duration
}

var policies = []policy{
	{"next URL, wait for its host (errgroup + host semaphore)", inOrder},
	{"round-robin over hosts", func(l *load, slots, limit int) time.Duration {
		return conserving(l, slots, limit, &turns{})
	}},
	{"oldest URL that can start", func(l *load, slots, limit int) time.Duration {
		return conserving(l, slots, limit, &oldest{})
	}},
	{"fetch: oldest, but critical hosts first", scheduled},
}

// inOrder takes URLs as they come; a slot waits for the host of its URL.
func inOrder(l *load, slots, limit int) time.Duration {
	free := make([]time.Duration, slots) // when each slot is
	hosts := make([][]time.Duration, l.hosts)
	for i, h := range l.of {
		if hosts[h] == nil {
			hosts[h] = make([]time.Duration, limit)
		}
		slot, place := first(free), first(hosts[h])
		end := max(*slot, *place) + l.takes[i]
		*slot, *place = end, end
	}
	return slices.Max(free)
}

func first(times []time.Duration) *time.Duration {
	least := 0
	for i := range times {
		if times[i] < times[least] {
			least = i
		}
	}
	return &times[least]
}

// A ready set has the hosts that can start a request, and says which is next.
type ready interface {
	add(host, oldest int)
	next() (host int)
	len() int
}

// conserving starts whatever it can, in the order of the ready set.
func conserving(l *load, slots, limit int, hosts ready) time.Duration {
	queues, inFlight := make([][]int, l.hosts), make([]int, l.hosts)
	for i, h := range l.of {
		queues[h] = append(queues[h], i)
	}
	for h, q := range queues {
		hosts.add(h, q[0])
	}
	var running ends
	now := time.Duration(0)
	for {
		for running.Len() < slots && hosts.len() > 0 {
			h := hosts.next()
			i := queues[h][0]
			queues[h] = queues[h][1:]
			inFlight[h]++
			heap.Push(&running, ending{at: now + l.takes[i], host: h})
			if inFlight[h] < limit && len(queues[h]) > 0 {
				hosts.add(h, queues[h][0])
			}
		}
		if running.Len() == 0 {
			return now
		}
		e := heap.Pop(&running).(ending)
		now = e.at
		if inFlight[e.host] == limit && len(queues[e.host]) > 0 {
			hosts.add(e.host, queues[e.host][0])
		}
		inFlight[e.host]--
	}
}

// turns serves hosts in the order in which they became ready.
type turns struct{ hosts []int }

func (t *turns) add(host, _ int) { t.hosts = append(t.hosts, host) }
func (t *turns) len() int        { return len(t.hosts) }
func (t *turns) next() int {
	h := t.hosts[0]
	t.hosts = t.hosts[1:]
	return h
}

// oldest serves the host first that has the oldest URL.
type oldest struct{ waiting ends }

func (o *oldest) add(host, oldest int) {
	heap.Push(&o.waiting, ending{at: time.Duration(oldest), host: host})
}
func (o *oldest) len() int  { return o.waiting.Len() }
func (o *oldest) next() int { return heap.Pop(&o.waiting).(ending).host }

// scheduled is the scheduler of fetch.
func scheduled(l *load, slots, limit int) time.Duration {
	start := time.Unix(0, 0)
	s := sched.New(start, sched.Config{Slots: slots, InitialWindow: sched.DefaultInitialWindow, Host: sched.Limits{Concurrency: limit}})
	lane := s.NewLane(nil)
	for i, h := range l.of {
		lane.Push(start, l.keys[h], i)
	}
	var running ends
	now := time.Duration(0)
	for {
		for task, ok := s.Pop(start.Add(now)); ok; task, ok = s.Pop(start.Add(now)) {
			heap.Push(&running, ending{at: now + l.takes[task.ID], task: task})
		}
		if running.Len() == 0 {
			return now
		}
		e := heap.Pop(&running).(ending)
		now = e.at
		s.Done(start.Add(now), e.task, sched.Outcome{Verdict: sched.Accepted})
	}
}

// ends is a heap of what runs, the first to end on top.
type ends []ending

type ending struct {
	at   time.Duration
	host int
	task sched.Task

	quota sched.Quota // that the answer tells
}

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(ending)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
