package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	store, err := Open(t.Context(), conn, Config{Name: "test", Replicas: 1, Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.Close()
		conn.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	return store
}

func TestHostsAreEncodedWithoutLoss(t *testing.T) {
	for _, host := range []string{"", "example.com", "example.com:8080", "[2001:db8::1]", "a/b.c", "*.>", "h%C3", "\u00e9.example", "a b", "\xff", ".", "..", "%"} {
		token := encodeHost(host)
		if got := decodeHost(token); got != host {
			t.Errorf("%q: %q, %q", host, token, got)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("example.com", "example/com")
	f.Add("", "..")
	f.Fuzz(func(t *testing.T, a, b string) {
		if decodeHost(encodeHost(a)) != a {
			t.Errorf("%q becomes %q", a, decodeHost(encodeHost(a)))
		}
		if token := encodeHost(a); token == "" || len(token) > max(1, 3*len(a)) || strings.ContainsAny(token, "*>. \t\r\n") {
			t.Errorf("%q is no token of a subject", token)
		}
		if a != b && encodeHost(a) == encodeHost(b) {
			t.Errorf("%q and %q are both %q", a, b, encodeHost(a))
		}
	})
}

// take takes a token, or fails.
func take(t testing.TB, s *Store) (token Token) {
	t.Helper()
	n := 0
	if err := s.Tokens(t.Context(), 1, 3*time.Second, func(got Token) { token, n = got, n+1 }); err != nil || n != 1 {
		t.Fatalf("%d tokens, %v", n, err)
	}
	return token
}

func takeNone(t testing.TB, s *Store, wait time.Duration) {
	t.Helper()
	if err := s.Tokens(t.Context(), 1, wait, func(got Token) { t.Errorf("a token of %s", got.Host) }); err != nil {
		t.Fatal(err)
	}
}

func page(host string, i int) NewPage {
	return NewPage{Host: host, Count: 2, Data: fmt.Append(nil, i), ID: fmt.Sprint(host, i)}
}

func TestAHostHasOneTokenHoweverManyPages(t *testing.T) {
	s := open(t)
	for i := range 3 {
		if n, err := s.AddPages(t.Context(), []NewPage{page("h.example", 2*i), page("h.example", 2*i+1)}); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	token := take(t, s)
	if token.Host != "h.example" {
		t.Errorf("host %q", token.Host)
	}
	takeNone(t, s, 100*time.Millisecond) // while it is held
	if err := s.AddToken(t.Context(), "h.example"); err != nil {
		t.Error(err)
	}
	takeNone(t, s, 100*time.Millisecond)
	if err := token.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	takeNone(t, s, 100*time.Millisecond)
	if orphans, err := s.Orphans(t.Context()); err != nil || !slices.Equal(orphans, []string{"h.example"}) {
		t.Errorf("orphans %q, %v", orphans, err)
	}
	if err := s.AddToken(t.Context(), "h.example"); err != nil {
		t.Fatal(err)
	}
	take(t, s)
}

func TestATokenComesBack(t *testing.T) {
	s := open(t)
	add := func(host string) {
		t.Helper()
		if err := s.AddToken(t.Context(), host); err != nil {
			t.Fatal(err)
		}
	}
	add("a")
	token := take(t, s)
	token.Return(0)
	token = take(t, s) // at once
	began := time.Now()
	token.Return(500 * time.Millisecond)
	token = take(t, s) // at the instant
	if took := time.Since(began); took < 490*time.Millisecond || took > 800*time.Millisecond {
		t.Errorf("it came back after %v", took)
	}
	for range 6 { // as long as it is kept it does not
		token.Keep()
		takeNone(t, s, 250*time.Millisecond)
	}
	began = time.Now()
	take(t, s) // when nobody keeps it
	if took := time.Since(began); took > 1100*time.Millisecond {
		t.Errorf("it came back after %v", took)
	}
}

func TestPagesAreReadInTheirOrderAndStoredOnce(t *testing.T) {
	s := open(t)
	var pages []NewPage
	for i := range 300 {
		pages = append(pages, page(fmt.Sprintf("h%d.example", i%2), i))
	}
	for range 2 { // as a producer does that did not hear the answer
		if n, err := s.AddPages(t.Context(), pages); n != len(pages) || err != nil {
			t.Fatal(n, err)
		}
	}
	var got []string
	for after := uint64(0); ; {
		some, _, err := s.Pages(t.Context(), "h1.example", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		for _, p := range some {
			got = append(got, string(p.Data))
			after = p.Seq
		}
	}
	for i, text := range got {
		if text != fmt.Sprint(2*i+1) {
			t.Fatalf("page %d is %s", i, text)
		}
	}
	backlog, infos, err := s.Backlog(t.Context())
	if err != nil || backlog["h0.example"] != 150 || backlog["h1.example"] != 150 || len(got) != 150 {
		t.Errorf("%d pages, backlog %v, %v", len(got), backlog, err)
	}
	if len(infos) != 300 || infos[1] != (PageInfo{2, "h1.example", 2}) {
		t.Errorf("%d infos, %+v", len(infos), infos[1])
	}
}

func TestAPageCanBeDeletedTwice(t *testing.T) {
	s := open(t)
	if _, err := s.AddPages(t.Context(), []NewPage{page("h", 1), page("h", 2)}); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 1, 2, 2, 3, 77} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if err := s.DeletePage(ctx, seq); err != nil {
			t.Errorf("page %d: %v", seq, err)
		}
		cancel()
	}
	if has, err := s.HasPages(t.Context(), "h"); has || err != nil {
		t.Error(has, err)
	}
}

func TestARecordIsWrittenOnlyOverTheOneThatWasRead(t *testing.T) {
	s := open(t)
	if _, seq, err := s.Record(t.Context(), "h"); seq != 0 || err != nil {
		t.Fatal(seq, err)
	}
	first, err := s.PutRecord(t.Context(), "h", []byte("a"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutRecord(t.Context(), "h", []byte("b"), 0, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("over nothing: %v", err)
	}
	second, err := s.PutRecord(t.Context(), "h", []byte("c"), first, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutRecord(t.Context(), "h", []byte("d"), first, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("over an old one: %v", err)
	}
	if data, seq, err := s.Record(t.Context(), "h"); string(data) != "c" || seq != second || err != nil {
		t.Errorf("%q, %d, %v", data, seq, err)
	}
	time.Sleep(3 * time.Second)
	if _, seq, err := s.Record(t.Context(), "h"); seq != 0 || err != nil {
		t.Errorf("it outlived its time: %d, %v", seq, err)
	}
}

func TestAWorkerThatWasTakenForDeadGivesNoSignAgain(t *testing.T) {
	s := open(t)
	beat := func(seq uint64) uint64 {
		t.Helper()
		seq, err := s.Beat(t.Context(), "w", []byte("x"), seq)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	seq := beat(beat(0))
	if was, err := s.Expire(t.Context(), seq-1); was || err != nil {
		t.Errorf("an old sign expires: %v, %v", was, err)
	}
	seq = beat(seq)
	if was, err := s.Expire(t.Context(), seq); !was || err != nil {
		t.Errorf("the sign: %v, %v", was, err)
	}
	if was, err := s.Expire(t.Context(), seq); was || err != nil {
		t.Errorf("once more: %v, %v", was, err)
	}
	if _, err := s.Beat(t.Context(), "w", nil, seq); !errors.Is(err, ErrConflict) {
		t.Errorf("the dead: %v", err)
	}
	if sign, err := s.Sign(t.Context(), "w"); sign.Seq != 0 || err != nil {
		t.Errorf("%+v, %v", sign, err)
	}
}

func TestAJournalIsReplacedAsAWhole(t *testing.T) {
	s := open(t)
	for i := range 600 { // more than one read
		if err := s.Append(t.Context(), "w", [][]byte{fmt.Append(nil, i)}, false); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Journal(t.Context(), "w"); len(all) != 600 || err != nil || string(all[599]) != "599" {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	if err := s.Append(t.Context(), "other", [][]byte{[]byte("other")}, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "w", [][]byte{[]byte("all"), []byte("of it")}, true); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Journal(t.Context(), "w"); len(all) != 2 || err != nil || string(all[0]) != "all" {
		t.Fatalf("%q, %v", all, err)
	}
	if err := s.DropJournal(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Journal(t.Context(), "w"); len(all) != 0 || err != nil {
		t.Fatalf("%q, %v", all, err)
	}
	if all, err := s.Journal(t.Context(), "other"); len(all) != 1 || err != nil {
		t.Fatalf("another's: %q, %v", all, err)
	}
}

// The limit is that of producers. A stream that an older version made has it for all.
func TestTheLimitIsForProducersOnly(t *testing.T) {
	s := open(t)
	c := s.streams()[0].config
	c.MaxBytes, c.Discard = 2000, jetstream.DiscardNew
	if _, err := s.js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const limit = 20 << 10
	s, err := Open(t.Context(), s.conn, Config{Name: "test", Replicas: 1, Lease: time.Second, MaxBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := func() int {
		t.Helper()
		info, err := s.urls.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int(info.State.Bytes)
	}
	stored, added := 0, 0
	for ; err == nil && added < 1000; added += 30 {
		var pages []NewPage
		for i := range 30 {
			pages = append(pages, page("h.example", added+i))
		}
		var n int
		n, err = s.AddPagesWithinLimit(t.Context(), pages)
		stored += n
	}
	if err == nil || !strings.Contains(err.Error(), "MaxBytes") || size() > limit || size() < limit*8/10 {
		t.Errorf("%d bytes, %v", size(), err)
	}
	if has, _, err := s.Backlog(t.Context()); err != nil || has["h.example"] != stored {
		t.Errorf("%v there, and %d counted, %v", has, stored, err)
	}
	if n, err := s.AddPages(t.Context(), []NewPage{page("h.example", -1), {Host: "h.example", Data: make([]byte, limit), ID: "large"}}); n != 2 || err != nil {
		t.Errorf("of a worker: %d, %v", n, err)
	}
	if n, err := s.AddPagesWithinLimit(t.Context(), []NewPage{page("h.example", -2)}); n != 0 || err == nil {
		t.Errorf("of a producer: %d, %v", n, err)
	}
}
