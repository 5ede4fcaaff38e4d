package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
)

// A getter is a contender in Go. It fetches every URL, at most concurrency of
// them at once, and returns their bodies in the order of the URLs.
type getter func(ctx context.Context, urls []string, concurrency int) ([][]byte, error)

// inGo runs a getter in a copy of this program.
type inGo struct{ get getter }

func (inGo) command(ctx context.Context, j job, _ string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self)
	c.Stdin = bytes.NewReader(input)
	c.Env = append(j.environment(), roleVariable+"="+roleContender)
	return c, nil
}

func (inGo) verdict(_ job, output []byte, _ string) (verdict, error) {
	var v verdict
	err := json.Unmarshal(output, &v)
	return v, err
}

// contend is the process of a contender in Go.
func contend(input io.Reader, output io.Writer) error {
	var j job
	if err := json.NewDecoder(input).Decode(&j); err != nil {
		return err
	}
	c, err := findContender(j.Contender)
	if err != nil {
		return err
	}
	g, ok := c.runner.(inGo)
	if !ok {
		return fmt.Errorf("%s is not written in Go", j.Contender)
	}
	stop, err := j.Profile.start(j.ProfileFile)
	if err != nil {
		return err
	}
	v := g.do(j)
	if err := stop(); err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(v)
}

func (g inGo) do(j job) verdict {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	bodies, err := g.get(context.Background(), j.URLs, j.Concurrency)
	runtime.ReadMemStats(&after)
	v := verdict{Malloc: &mallocs{
		Objects: after.Mallocs - before.Mallocs,
		Bytes:   after.TotalAlloc - before.TotalAlloc,
	}}
	if err != nil {
		v.Fault = err.Error()
		return v
	}
	v.Whole, v.Fault = check(j.Expect, len(bodies), func(i int) []byte { return bodies[i] })
	return v
}
