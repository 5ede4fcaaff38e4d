package main

import (
	"container/heap"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

const (
	deadTakes  = 10 * time.Second // to give up a dial
	aliveTakes = 50 * time.Millisecond
)

// A cemetery is a list of URLs of many hosts in turn, of which one in ten is dead.
type cemetery struct {
	slots int
	keys  []string
	of    []int // the host of each URL
}

func newCemetery(hosts, each, slots int) *cemetery {
	c := &cemetery{slots: slots}
	for h := range hosts {
		c.keys = append(c.keys, strconv.Itoa(h))
	}
	for range each {
		for h := range hosts {
			c.of = append(c.of, h)
		}
	}
	return c
}

func (c *cemetery) isDead(url int) bool { return c.of[url]%10 == 3 }

func (c *cemetery) takes(url int) time.Duration {
	if c.isDead(url) {
		return deadTakes
	}
	return aliveTakes
}

// compareDead prints when the last URL of a living host is done.
func compareDead(out io.Writer) {
	fmt.Fprintf(out, "2000 hosts in turn, %v; one in ten is dead, which is known after %v; 64 slots: the living end at, over their time alone\n\n", aliveTakes, deadTakes)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "URLs of each\tnext URL in order\tfetch\tall of the dead tried once\t")
	for _, each := range []int{1, 5, 25} {
		c := newCemetery(2000, each, 64)
		alone := c.alone()
		fmt.Fprintf(table, "%d\t", each)
		for _, took := range []time.Duration{c.inOrder(), c.scheduled(), c.tried()} {
			fmt.Fprintf(table, "%.1f s, %.2f\t", took.Seconds(), took.Seconds()/alone.Seconds())
		}
		fmt.Fprintln(table)
	}
	table.Flush()
	fmt.Fprintln(out)
}

// alone is the time that the living take without the dead.
func (c *cemetery) alone() time.Duration {
	return c.slotTime(func(url int) bool { return !c.isDead(url) })
}

// tried is the time that the living take, and one try of each dead host.
func (c *cemetery) tried() time.Duration {
	return c.slotTime(func(url int) bool { return !c.isDead(url) || url < len(c.keys) })
}

// slotTime is the time that all slots need for some URLs.
func (c *cemetery) slotTime(wanted func(url int) bool) time.Duration {
	var work time.Duration
	for url := range c.of {
		if wanted(url) {
			work += c.takes(url)
		}
	}
	return work / time.Duration(c.slots)
}

func (c *cemetery) inOrder() (last time.Duration) {
	free := make([]time.Duration, c.slots)
	for url := range c.of {
		slot := first(free)
		*slot += c.takes(url)
		if !c.isDead(url) {
			last = max(last, *slot)
		}
	}
	return last
}

// scheduled is the scheduler of fetch.
func (c *cemetery) scheduled() (last time.Duration) {
	start := time.Unix(0, 0)
	s := sched.New(start, sched.Config{Slots: c.slots, InitialWindow: sched.DefaultInitialWindow})
	lane := s.NewLane(nil)
	for url, h := range c.of {
		lane.Push(start, c.keys[h], url)
	}
	var running ends
	now := time.Duration(0)
	for {
		for task, ok := s.Pop(start.Add(now)); ok; task, ok = s.Pop(start.Add(now)) {
			heap.Push(&running, ending{at: now + c.takes(task.ID), task: task})
		}
		if running.Len() == 0 {
			return last
		}
		e := heap.Pop(&running).(ending)
		now = e.at
		o := sched.Outcome{}
		if !c.isDead(e.task.ID) {
			o.Verdict, last = sched.Accepted, now
		}
		s.Done(start.Add(now), e.task, o)
	}
}
