package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// play is the life of a process of the bench: server, broker, worker or alone. Each prints a
// line when it is ready, and what it has done a few times a second.
func play(ctx context.Context, role string) error {
	switch role {
	case "server":
		return serve(ctx)
	case "broker":
		return broke(ctx)
	case "worker":
		return work(ctx)
	case "alone":
		return fetchAlone(ctx)
	}
	return fmt.Errorf("no role %q", role)
}

// addressOf returns the address of a host.
func addressOf(host int) string { return fmt.Sprintf("127.0.%d.%d", 1+host/200, 1+host%200) }

// serve answers with 1 KiB at one port of many addresses.
func serve(ctx context.Context) error {
	count, err := strconv.Atoi(flagArg(1))
	if err != nil {
		return err
	}
	body := []byte(strings.Repeat("x", 1024))
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })}
	port := "0"
	for i := range count {
		listener, err := net.Listen("tcp", net.JoinHostPort(addressOf(i), port))
		if err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		go s.Serve(listener)
	}
	fmt.Println(port)
	<-ctx.Done()
	return nil
}

// broke is a broker in a process of its own.
func broke(ctx context.Context) error {
	s, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: flagArg(1), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("the broker does not start")
	}
	fmt.Println(s.ClientURL())
	<-ctx.Done()
	return nil
}

// options are those of both.
func options() []fetch.Option {
	return []fetch.Option{fetch.WithHostConcurrency(16), fetch.WithRetries(2)}
}

func work(ctx context.Context) error {
	lease, err := time.ParseDuration(flagArg(2))
	if err != nil {
		return err
	}
	f, err := fleet.Open(ctx, fleet.Config{URL: flagArg(1), Lease: lease})
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	var done atomic.Int64
	go tell(ctx, &done)
	return f.Run(ctx, func(_ context.Context, d fleet.Delivery) error {
		if d.Result.Err != nil || len(d.Result.Body) != 1024 {
			return fmt.Errorf("%s: %d bytes, %v", d.Request.URL, len(d.Result.Body), d.Result.Err)
		}
		done.Add(1)
		return nil
	}, options()...)
}

// fetchAlone fetches the URLs that it reads with one Fetcher.
func fetchAlone(ctx context.Context) error {
	fmt.Println("ready")
	var urls []string
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		urls = append(urls, in.Text())
	}
	var done atomic.Int64
	go tell(ctx, &done)
	for r := range fetch.Stream(ctx, slices.Values(urls), options()...) {
		if r.Err != nil || len(r.Body) != 1024 {
			return fmt.Errorf("%s: %d bytes, %v", r.URL, len(r.Body), r.Err)
		}
		done.Add(1)
	}
	<-ctx.Done()
	return nil
}

// tell prints a number whenever it has changed.
func tell(ctx context.Context, n *atomic.Int64) {
	for last := int64(0); ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if now := n.Load(); now != last {
			fmt.Println(now)
			last = now
		}
	}
}
