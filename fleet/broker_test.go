package fleet_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/batchhttp/fetch/fleet"
)

// connect connects to the broker of a fleet behind its back.
func connect(t testing.TB, f *fleet.Fleet) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(f.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func streams(t testing.TB, f *fleet.Fleet) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(connect(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// dropTokens empties the queue of tokens.
func dropTokens(t testing.TB, f *fleet.Fleet) {
	t.Helper()
	tokens, err := streams(t, f).Stream(t.Context(), "fetch-tokens")
	if err == nil {
		err = tokens.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// messages returns the data of all messages of a stream.
func messages(t testing.TB, f *fleet.Fleet, stream string) (all [][]byte) {
	t.Helper()
	js := streams(t, f)
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for n := int(s.CachedInfo().State.Msgs); len(all) < n; {
		batch, err := consumer.Fetch(n - len(all))
		if err != nil {
			t.Fatal(err)
		}
		before := len(all)
		for m := range batch.Messages() {
			all = append(all, m.Data())
		}
		if len(all) == before {
			t.Fatalf("%d of %d messages of %s", before, n, stream)
		}
	}
	return all
}
