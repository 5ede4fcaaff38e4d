package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// A profileKind is what a contender in Go writes about itself while it fetches.
type profileKind string

const (
	noProfile     profileKind = ""
	cpuProfile    profileKind = "cpu"
	allocsProfile profileKind = "allocs"
)

// allocsProfileRate samples one allocation in so many bytes: often enough to
// see small ones, and the reason why the CPU is profiled in another run.
const allocsProfileRate = 512

// start starts the profile; the returned function ends and writes it.
func (k profileKind) start(file string) (stop func() error, err error) {
	switch k {
	case cpuProfile:
		output, err := os.Create(file)
		if err != nil {
			return nil, err
		}
		stop := func() error { pprof.StopCPUProfile(); return output.Close() }
		return stop, pprof.StartCPUProfile(output)
	case allocsProfile:
		runtime.MemProfileRate = allocsProfileRate
		return func() error { return writeAllocs(file) }, nil
	}
	return func() error { return nil }, nil
}

func writeAllocs(file string) error {
	output, err := os.Create(file)
	if err != nil {
		return err
	}
	defer output.Close()
	return pprof.Lookup("allocs").WriteTo(output, 0)
}

// writeProfiles runs each chosen contender in Go twice for every chosen
// workload, with as many requests as all rounds together.
func (p plan) writeProfiles(ctx context.Context) error {
	if err := os.MkdirAll(p.profile, 0o755); err != nil {
		return err
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	for _, w := range p.workloads {
		for _, c := range p.contenders {
			for _, kind := range []profileKind{cpuProfile, allocsProfile} {
				if err := p.writeProfile(ctx, b, c, w, kind); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p plan) writeProfile(ctx context.Context, b *bench, c contender, w workload, kind profileKind) error {
	file, err := filepath.Abs(filepath.Join(p.profile, fmt.Sprintf("%s-%s-%s.pprof", c.name, w.name, kind)))
	if err != nil {
		return err
	}
	j := newJob(c, w, b.server.Reached, p.requestsFor(w)*p.rounds, p.concurrency)
	j.Profile, j.ProfileFile = kind, file
	if _, err := b.run(ctx, c, w, j); err != nil {
		return fmt.Errorf("%s, %s: %w", c.name, w.name, err)
	}
	fmt.Println(file)
	if kind != cpuProfile {
		return nil
	}
	return printShares(ctx, os.Stdout, file)
}
