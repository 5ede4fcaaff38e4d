package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// wget2 has a file with the URLs, since it can wait for ever for the end of its
// standard input. It names each body's file after the last part of its URL.
type wget2 struct{}

func (wget2) command(ctx context.Context, j job, directory string) (*exec.Cmd, error) {
	program, err := exec.LookPath("wget2")
	if err != nil {
		return nil, errNotInstalled
	}
	list := filepath.Join(directory, "urls")
	if err := os.WriteFile(list, []byte(strings.Join(j.URLs, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, program, "--quiet", "--no-config", "--tries=1", "--no-robots", "--no-hsts",
		"--max-threads="+strconv.Itoa(j.Concurrency), "--no-directories", "--directory-prefix="+directory, "--input-file="+list)
	if j.Gzip {
		c.Args = append(c.Args, "--compression=gzip")
	} else {
		c.Args = append(c.Args, "--no-compression")
	}
	if j.Certificate != "" {
		c.Args = append(c.Args, "--ca-certificate="+j.Certificate)
	}
	return c, nil
}

func (wget2) verdict(j job, _ []byte, directory string) (verdict, error) {
	return checkFiles(j, directory), nil
}
