package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// curl has a configuration file with every URL on its standard input, and
// writes every body to a file.
type curl struct{}

func (curl) command(ctx context.Context, j job, directory string) (*exec.Cmd, error) {
	program, err := exec.LookPath("curl")
	if err != nil {
		return nil, errNotInstalled
	}
	c := exec.CommandContext(ctx, program, "--silent", "--show-error", "--fail",
		"--parallel", "--parallel-max", strconv.Itoa(j.Concurrency), "--config", "-")
	if j.Gzip {
		c.Args = append(c.Args, "--compressed")
	}
	if j.Certificate != "" {
		c.Args = append(c.Args, "--cacert", j.Certificate)
	}
	var config strings.Builder
	for i, url := range j.URLs {
		fmt.Fprintf(&config, "url = %q\noutput = %q\n", url, bodyFile(directory, i))
	}
	c.Stdin = strings.NewReader(config.String())
	return c, nil
}

func (curl) verdict(j job, _ []byte, directory string) (verdict, error) {
	return checkFiles(j, directory), nil
}

func bodyFile(directory string, i int) string {
	return filepath.Join(directory, fmt.Sprintf("%06d", i))
}

// checkFiles checks what a tool wrote, after its process has ended.
func checkFiles(j job, directory string) verdict {
	var v verdict
	v.Whole, v.Fault = check(j.Expect, len(j.URLs), func(i int) []byte {
		body, _ := os.ReadFile(bodyFile(directory, i)) // a missing file is a body of length 0
		return body
	})
	return v
}
