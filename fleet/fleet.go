// Package fleet fetches with many processes what is too much for one: they share one backlog, and
// the promises of package fetch hold over all of them.
//
//	f, err := fleet.Open(ctx, fleet.Config{Dir: "backlog"}) // or URL: that of a NATS cluster
//	n, err := f.Add(ctx, slices.Values(urls))
//	err = f.Run(ctx, func(ctx context.Context, d fleet.Delivery) error {
//		fmt.Println(d.Result.StatusCode, d.Request.URL)
//		return nil
//	}, fetch.WithHostConcurrency(2), fetch.WithRetries(3))
//
// What is shared out are hosts, not URLs: a host has one owner at a time, and only its owner calls
// it. So the limits for each host hold over the whole fleet, and so do pauses, paces, rates and failures,
// which go along when a host changes hands. The limits for all hosts together, as
// [fetch.WithConcurrency], are those of each worker. A redirect to another host is queued for the owner of that.
//
// # At least once
//
// What [Fleet.Add] has counted is handled: a handler has returned nil for it, or it is among the
// poison (see [Config.MaxDeliveries]). The handler may see a request more than once: when a worker
// dies, those that it had in flight are done again, and those that it did within the last few
// milliseconds. A worker that loses the broker for [Config.Lease] gives up its requests in flight, since
// another may have taken over.
//
// Workers come and go at any time. When the ctx of [Fleet.Run] ends the worker finishes
// what is in flight, and hands its hosts over at once.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/batchhttp/fetch/fleet/internal/store"
)

// Config says where a fleet's backlog is, and how it is worked off. All who open a fleet of one
// name are to do so with the same Lease and Replicas.
type Config struct {
	// URL has the addresses of NATS servers with JetStream, of version 2.11 or newer, parted by
	// commas. If it is empty, Open starts a broker in this process, which keeps its
	// files in Dir and listens on Listen.
	URL string
	// Options are for the connection: credentials, TLS. They are used with URL only. Unless they say
	// otherwise it is made again for ever when it is lost, also where the credentials are refused.
	Options []nats.Option
	// Dir is where the broker of this process keeps its files.
	Dir string
	// Listen is the host:port where it listens. The default is a free port of 127.0.0.1; [Fleet.URL]
	// tells which.
	Listen string

	// Name tells fleets on one broker apart: letters, digits, - and _. The default is "fetch".
	Name string
	// Replicas is on how many servers of a cluster everything is kept. The default is 1.
	Replicas int
	// MaxBytes is how large Add may make the backlog; more is an error. It may be over by a few pages where
	// several add at once, and by what workers put back, as redirects to other hosts and what a handler fails:
	// that is stored all the same, since the backlog could not be worked off otherwise. A broker whose disk is
	// full stands still until there is room, so that there had better be a limit. The default is none.
	MaxBytes int64

	// Lease is how long after the last sign of life a worker counts as dead, at least a second.
	// The default is ten.
	Lease time.Duration
	// Dedup is for how long after it was done a URL is not fetched when it is added again. The
	// default is two minutes; negative is not at all, not even while it waits.
	Dedup time.Duration
	// MaxDeliveries is how often a request is handed to a handler that fails, or to a worker that dies of it,
	// before it is put with the poison. It is also how often a host that cannot be
	// reached or refuses everything is tried again, after a minute and longer each time, before its
	// requests are handed to the handler with the errors that they have. The default is 5.
	MaxDeliveries int
	// MaxRedirects is how many redirects of a request are followed, in place of
	// fetch.WithMaxRedirects. The default is 10; negative is none.
	MaxRedirects int
	// Hosts is how many hosts a worker has at a time. The default is 128.
	Hosts int
	// Turn is how long a worker keeps a host while others wait for a worker. The default is 30 s.
	Turn time.Duration
}

func (c *Config) fill() error {
	c.Name = cmp.Or(c.Name, "fetch")
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.Lease = cmp.Or(c.Lease, 10*time.Second)
	c.Dedup = cmp.Or(c.Dedup, 2*time.Minute)
	c.MaxDeliveries = cmp.Or(c.MaxDeliveries, 5)
	c.MaxRedirects = cmp.Or(c.MaxRedirects, 10)
	c.Hosts = cmp.Or(c.Hosts, 128)
	c.Turn = cmp.Or(c.Turn, 30*time.Second)
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(isName(c.Name), "Name %q: must be letters, digits, - and _", c.Name)
	check(c.Replicas > 0, "Replicas %d: must not be negative", c.Replicas)
	check(c.MaxBytes >= 0, "MaxBytes %d: must not be negative", c.MaxBytes)
	check(c.Lease >= time.Second, "Lease %v: must be at least a second", c.Lease)
	check(c.MaxDeliveries > 0, "MaxDeliveries %d: must not be negative", c.MaxDeliveries)
	check(c.Hosts > 0, "Hosts %d: must not be negative", c.Hosts)
	check(c.Turn > 0, "Turn %v: must not be negative", c.Turn)
	check(c.URL != "" || c.Dir != "", "neither URL nor Dir: where is the broker?")
	check(c.URL == "" || c.Dir == "" && c.Listen == "", "Dir and Listen are for a broker in this process, and there is a URL")
	return errors.Join(errs...)
}

var isName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString

// A Fleet is a connection to a backlog. It is safe for concurrent use. Make one with [Open].
type Fleet struct {
	config Config
	broker *broker // in this process, or nil
	conn   *nats.Conn
	store  *store.Store
}

// Open connects to a fleet, and makes what is missing of its streams.
func Open(ctx context.Context, config Config) (*Fleet, error) {
	if err := config.fill(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f := &Fleet{config: config}
	if err := f.open(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return f, nil
}

func (f *Fleet) open(ctx context.Context) (err error) {
	c := &f.config
	servers, opts := c.URL, []nats.Option{
		nats.Name("fleet " + c.Name), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.IgnoreAuthErrorAbort(), // a broker that has just started may not know its users yet
	}
	if c.URL == "" {
		if f.broker, err = startBroker(c.Dir, c.Listen); err != nil {
			return err
		}
		servers, opts = f.broker.url(), append(opts, f.broker.inProcess())
	} else {
		opts = append(opts, c.Options...)
	}
	if f.conn, err = nats.Connect(servers, opts...); err != nil {
		return err
	}
	f.store, err = store.Open(ctx, f.conn, store.Config{Name: c.Name, Replicas: c.Replicas, Lease: c.Lease, MaxBytes: c.MaxBytes})
	return err
}

// URL returns the address of the broker, for other processes.
func (f *Fleet) URL() string {
	if f.broker != nil {
		return f.broker.url()
	}
	return f.config.URL
}

// Close ends the connection, and the broker if it is of this process. Calls that run fail; a
// worker is to have returned from Run before.
func (f *Fleet) Close() {
	if f.store != nil {
		f.store.Close()
	}
	if f.conn != nil {
		f.conn.Close()
	}
	if f.broker != nil {
		f.broker.stop()
	}
}
