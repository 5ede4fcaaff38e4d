// Command bench measures package fetch beside what else fetches many URLs.
//
// It starts a server in a process of its own, runs every contender as a
// process of its own, in turn and repeatedly, and prints what a request cost
// each of them. README.md says what that shows and what it does not.
//
//	go -C internal/bench run . [flags]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	switch os.Getenv(roleVariable) {
	case roleServer:
		return serve(os.Stdin, os.Stdout)
	case roleContender:
		return contend(os.Stdin, os.Stdout)
	}
	p, err := parsePlan(os.Args[1:])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch {
	case p.simulate:
		simulate(os.Stdout, p.simulated)
		return nil
	case p.svg != "":
		return writePicture(ctx, p.svg)
	case p.profile != "":
		return p.writeProfiles(ctx)
	}
	return p.measure(ctx, os.Stdout)
}
