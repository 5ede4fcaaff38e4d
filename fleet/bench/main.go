// The bench measures what a fleet costs beside one Fetcher: CPU a URL, of workers and broker,
// requests a second, and how long it takes until the hosts of a killed worker have another.
//
//	go run ./bench          # 100,000 URLs on 2,000 hosts, about a minute
//	go run ./bench -quick   # does it run? No figures to keep
//
// It needs Linux: /proc, and 127.0.x.y without setting them up.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

var (
	urlCount  = flag.Int("urls", 100_000, "URLs")
	hostCount = flag.Int("hosts", 2_000, "hosts, whose shares are as Zipf has it")
	rounds    = flag.Int("rounds", 3, "rounds")
	quick     = flag.Bool("quick", false, "a few URLs, one round")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if role := flag.Arg(0); role != "" {
		exitOn(play(ctx, role))
		return
	}
	if *quick {
		*urlCount, *hostCount, *rounds = 2_000, 100, 1
	}
	exitOn(measure(ctx))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A figure is what one run took.
type figure struct {
	adding    time.Duration // wall, of all URLs
	producer  time.Duration // CPU
	addBroker time.Duration // CPU of the broker meanwhile
	fetching  time.Duration // wall
	workers   time.Duration // CPU
	broker    time.Duration // CPU
}

func measure(ctx context.Context) error {
	servers, err := startServers(*hostCount)
	if err != nil {
		return err
	}
	defer servers.kill()
	urls := zipf(servers.port, *urlCount, *hostCount)
	const most = 3
	figures := make([][]figure, most+1) // by the number of workers; 0: one Fetcher
	for range *rounds {
		for n := range figures {
			f, err := run(ctx, urls, n)
			if err != nil {
				return err
			}
			figures[n] = append(figures[n], f)
		}
	}
	print(figures)
	recovered, err := recover(ctx, urls)
	if err != nil {
		return err
	}
	fmt.Printf("\nOf three workers one is killed, with a lease of %v: its %d hosts have others after %.2f s, the first after %.2f s.\n",
		killLease, recovered.hosts, recovered.last.Seconds(), recovered.first.Seconds())
	return nil
}

func run(ctx context.Context, urls []string, workers int) (figure, error) {
	if workers == 0 {
		return runAlone(ctx, urls)
	}
	return runFleet(ctx, urls, workers)
}

// print prints the medians.
func print(figures [][]figure) {
	n := float64(*urlCount)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / n }
	alone := median(figures[0], func(f figure) float64 { return micros(f.workers) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tURLs/s\tCPU µs a URL: worker\tbroker\tboth ÷ alone\tworker ÷ alone\tadding: producer\tbroker\t")
	for k, all := range figures {
		name := "one Fetcher"
		if k > 0 {
			name = fmt.Sprintf("%d workers", k)
		}
		m := func(f func(figure) float64) float64 { return median(all, f) }
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t%.1f\t\n", name,
			m(func(f figure) float64 { return n / f.fetching.Seconds() }),
			m(func(f figure) float64 { return micros(f.workers) }),
			m(func(f figure) float64 { return micros(f.broker) }),
			m(func(f figure) float64 { return micros(f.workers+f.broker) / alone }),
			m(func(f figure) float64 { return micros(f.workers) / alone }),
			m(func(f figure) float64 { return micros(f.producer) }),
			m(func(f figure) float64 { return micros(f.addBroker) }))
	}
	w.Flush()
}

func median(all []figure, f func(figure) float64) float64 {
	var values []float64
	for _, one := range all {
		values = append(values, f(one))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
