package main

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMeasureRunsProcessesAndPrintsEachContender(t *testing.T) {
	// One of each kind of process.
	p, err := parsePlan([]string{"-n", "40", "-rounds", "1", "-workload", "1k,h2", "-contenders", "fetch,fasthttp,aiohttp,curl,wget2"})
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	if err := p.measure(t.Context(), &output); err != nil {
		t.Errorf("%v\n%s", err, &output)
	}
	for _, c := range p.contenders {
		rows := regexp.MustCompile(`(?m)^ *`+c.name+` .*$`).FindAllString(output.String(), -1)
		if len(rows) != 2 {
			t.Errorf("%s has %d rows, want one in each of 2 tables", c.name, len(rows))
		}
		for _, row := range rows {
			if !regexp.MustCompile(`all whole|not installed|not supported`).MatchString(row) {
				t.Errorf("row says nothing of the bodies: %s", row)
			}
		}
	}
}

func TestAContenderThatFailsIsReported(t *testing.T) {
	p := plan{requests: 10, concurrency: 2, rounds: 2, workloads: workloads()[:1],
		contenders: []contender{{name: "broken", runner: broken{}}}}
	var output strings.Builder
	if err := p.measure(t.Context(), &output); err == nil {
		t.Error("no error though the contender failed")
	}
	for _, want := range []string{"FAILED in 2 of 2", "broken failed: 0 of 1 bodies are whole: dropped them"} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &output)
		}
	}
}

// broken is a contender whose process runs well and gets nothing.
type broken struct{}

func (broken) command(ctx context.Context, _ job, _ string) (*exec.Cmd, error) {
	return exec.CommandContext(ctx, "true"), nil
}

func (broken) verdict(job, []byte, string) (verdict, error) {
	return verdict{Fault: "dropped them"}, nil
}

func TestUsageIsWhatTheRequestsNeededWithoutTheStart(t *testing.T) {
	single := usage{cpu: 30 * time.Millisecond, wall: time.Second, verdict: verdict{Malloc: &mallocs{Objects: 100, Bytes: 1000}}}
	all := usage{cpu: 130 * time.Millisecond, wall: 3 * time.Second, peakMemory: 5 << 20,
		verdict: verdict{Malloc: &mallocs{Objects: 50_100, Bytes: 301_000}}, tally: tally{Connections: 7}}
	var r record
	r.addUsage(single, all, 1000)
	got := []float64{r.cpu[0], r.throughput[0], r.memory[0], r.opened[0], r.objects[0], r.bytes[0]}
	want := []float64{100, 500, 5, 7, 50, 300}
	for i := range want {
		if !near(got[i], want[i]) {
			t.Errorf("figures are %v, want %v", got, want)
			break
		}
	}
}

func TestPlanRejectsWhatItDoesNotKnow(t *testing.T) {
	for _, arguments := range []string{"-contenders=nobody", "-workload=nothing", "-rounds=0", "-concurrency=0", "-n=-1", "stray"} {
		if _, err := parsePlan(strings.Fields(arguments)); err == nil {
			t.Errorf("%q is accepted", arguments)
		}
	}
}

func TestHTTP1WhereHTTP2WasAskedForIsAFault(t *testing.T) {
	u := usage{verdict: verdict{Whole: 3}, tally: tally{HTTP1: 1, HTTP2: 2}}
	if u.fault(workload{served: tlsHTTP2}, 3) == nil {
		t.Error("no fault")
	}
	if err := u.fault(workload{served: plainHTTP}, 3); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
