package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"os/exec"
)

//go:embed contender.py
var pythonProgram string

// inPython runs contender.py with the first Python that has aiohttp.
type inPython struct{}

func (inPython) command(ctx context.Context, j job, _ string) (*exec.Cmd, error) {
	python, err := findPython()
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, python, "-c", pythonProgram)
	c.Stdin = bytes.NewReader(input)
	c.Env = j.environment()
	return c, nil
}

func (inPython) verdict(_ job, output []byte, _ string) (verdict, error) {
	var v verdict
	err := json.Unmarshal(output, &v)
	return v, err
}

// findPython prefers the system's Python: a distribution's package of aiohttp
// is not seen by one that was installed beside it.
func findPython() (string, error) {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import aiohttp").Run() == nil {
			return name, nil
		}
	}
	return "", errNotInstalled
}
