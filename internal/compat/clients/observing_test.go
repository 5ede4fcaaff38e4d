package clients

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// With otelhttp there is a span for each request, redirects too, below that of the caller; the
// server gets its traceparent; and there are no more connections than slots.
func TestOtelhttp(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/0" {
			http.Redirect(w, r, "/landed", http.StatusFound)
			return
		}
		time.Sleep(time.Millisecond)
		hello(w, r)
	})
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ctx, batch := provider.Tracer("test").Start(t.Context(), "batch")

	const slots = 32
	urls := numbered(s.URL, 640)
	results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(slots), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{}))
	}))
	mustBeFine(t, results, "hello")
	batch.End()

	ended := 0
	for _, span := range spans.Ended() {
		if span.Parent().SpanID() == batch.SpanContext().SpanID() {
			ended++
			if span.EndTime().Before(span.StartTime()) || len(span.Attributes()) == 0 {
				t.Errorf("span %q: %v", span.Name(), span.Attributes())
			}
		}
	}
	if ended != len(urls)+1 {
		t.Errorf("%d spans", ended)
	}
	for _, r := range s.seen() {
		if !strings.Contains(r.Header.Get("Traceparent"), batch.SpanContext().TraceID().String()) {
			t.Fatalf("traceparent is %q", r.Header.Get("Traceparent"))
		}
	}
	if s.opened() > slots {
		t.Errorf("%d connections for %d slots", s.opened(), slots)
	}
}

// A span of one's own below that of otelhttp, or around it, can name the URL and the attempt.
func TestOtelWithInfo(t *testing.T) {
	failing := 2
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if failing--; failing >= 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	tracer := provider.Tracer("test")
	r := getOne(t, s.URL, fetch.WithRetries(3), fetch.WithBackoff(0, 0), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			info, _ := fetch.InfoOf(req.Context())
			ctx, span := tracer.Start(req.Context(), fmt.Sprint("attempt ", info.Attempt))
			defer span.End()
			span.SetAttributes(attribute.Int64("waited", info.Started.Sub(info.Queued).Microseconds()))
			return next.RoundTrip(req.WithContext(ctx))
		})
	}))
	if !r.OK() || len(spans.Ended()) != 3 || spans.Ended()[2].Name() != "attempt 3" {
		t.Errorf("%v, %d spans", r.Err, len(spans.Ended()))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// promhttp counts the requests, and a collector reads Stats when it is asked.
func TestPromhttp(t *testing.T) {
	s := newServer(t, hello)
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"code", "method"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "request_seconds"}, []string{"code"})
	registry.MustRegister(counter, took)
	f, err := fetch.New(fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return promhttp.InstrumentRoundTripperCounter(counter, promhttp.InstrumentRoundTripperDuration(took, next))
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fetch_queued"}, func() float64 { return float64(f.Stats().Queued) }))
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "fetch_done_total"}, func() float64 { return float64(f.Stats().Done) }))

	mustBeFine(t, f.FetchAll(t.Context(), numbered(s.URL, 50)), "hello")
	if n := testutil.ToFloat64(counter.WithLabelValues("200", "get")); n != 50 {
		t.Errorf("%v requests", n)
	}
	want := "# HELP fetch_done_total \n# TYPE fetch_done_total counter\nfetch_done_total 50\n# HELP fetch_queued \n# TYPE fetch_queued gauge\nfetch_queued 0\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "fetch_done_total", "fetch_queued"); err != nil {
		t.Error(err)
	}
	if s.opened() > 32 { // a host alone gets all slots, but there are only 50 URLs
		t.Logf("%d connections", s.opened())
	}
}

// promhttp's own trace of dials and handshakes fires with the Fetcher's own client.
func TestPromhttpTrace(t *testing.T) {
	tlsServer := newTLSServer(t, hello)
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(name string) func(float64) {
		return func(float64) {
			mu.Lock()
			defer mu.Unlock()
			seen[name]++
		}
	}
	trace := &promhttp.InstrumentTrace{
		GotConn: note("GotConn"), ConnectStart: note("ConnectStart"), ConnectDone: note("ConnectDone"), TLSHandshakeStart: note("TLSHandshakeStart"),
		TLSHandshakeDone: note("TLSHandshakeDone"), WroteHeaders: note("WroteHeaders"), GotFirstResponseByte: note("GotFirstResponseByte"),
	}
	r := getOne(t, tlsServer.URL, fetch.WithTLSConfig(trusting(tlsServer)), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return promhttp.InstrumentRoundTripperTrace(trace, next)
	}))
	mustBeFine(t, []fetch.Result{r}, "hello")
	for _, name := range []string{"GotConn", "ConnectStart", "ConnectDone", "TLSHandshakeStart", "TLSHandshakeDone", "WroteHeaders", "GotFirstResponseByte"} {
		if seen[name] != 1 {
			t.Errorf("%s was told %d times", name, seen[name])
		}
	}
}

// A trace in the context of a request of one's own hears of the connection.
func TestHttptrace(t *testing.T) {
	s := newServer(t, hello)
	f, err := fetch.New()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range []bool{false, true} {
		var reused []bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := f.Do(t.Context(), req); !r.OK() || len(reused) != 1 || reused[0] != want {
			t.Errorf("%v, reused %v, want %v", r.Err, reused, want)
		}
	}
}
