package store

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// journalLife is how long a journal is kept, so that those of the dead go at last.
const journalLife = 24 * time.Hour

// Append adds entries to a worker's journal. With instead they replace all that is there, which
// goes once they are stored.
func (s *Store) Append(ctx context.Context, id string, entries [][]byte, instead bool) error {
	var first uint64
	for _, data := range entries {
		m := &nats.Msg{Subject: s.subject("journal", id), Data: data, Header: nats.Header{jetstream.MsgTTLHeader: {journalLife.String()}}}
		seq, err := s.publish(ctx, m)
		if err != nil {
			return err
		}
		first = cmp.Or(first, seq)
	}
	if !instead || first == 0 {
		return nil
	}
	return s.purge(ctx, id, jetstream.WithPurgeSequence(first))
}

// Journal returns a worker's journal, the oldest first.
func (s *Store) Journal(ctx context.Context, id string) (entries [][]byte, err error) {
	return s.logged(ctx, s.subject("journal", id))
}

// DropJournal deletes a worker's journal.
func (s *Store) DropJournal(ctx context.Context, id string) error { return s.purge(ctx, id) }

// purge deletes what a worker's journal has, or of that what the options say.
func (s *Store) purge(ctx context.Context, id string, opts ...jetstream.StreamPurgeOpt) error {
	return s.repeat(ctx, func(ctx context.Context) error {
		return s.log.Purge(ctx, append(opts, jetstream.WithPurgeSubject(s.subject("journal", id)))...)
	})
}

// AddSeen notes URLs of a host as done, for as long as ttl.
func (s *Store) AddSeen(ctx context.Context, host string, data []byte, ttl time.Duration) error {
	m := &nats.Msg{Subject: s.subject("seen", encodeHost(host)), Data: data, Header: nats.Header{}}
	m.Header.Set(jetstream.MsgTTLHeader, seconds(ttl).String())
	_, err := s.publish(ctx, m)
	return err
}

// Seen returns what AddSeen has noted of a host.
func (s *Store) Seen(ctx context.Context, host string) ([][]byte, error) {
	return s.logged(ctx, s.subject("seen", encodeHost(host)))
}

func (s *Store) logged(ctx context.Context, subject string) (entries [][]byte, err error) {
	found, err := s.all(ctx, s.streamName("log"), subject)
	for _, m := range found {
		entries = append(entries, m.data)
	}
	return entries, err
}

// AddPoison keeps a request that was given up.
func (s *Store) AddPoison(ctx context.Context, host string, data []byte, id string) error {
	_, err := s.publish(ctx, &nats.Msg{
		Subject: s.subject("poison", encodeHost(host)), Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}},
	})
	return err
}

// AddResult keeps a result.
func (s *Store) AddResult(ctx context.Context, host string, data []byte) error {
	_, err := s.publish(ctx, &nats.Msg{Subject: s.subject("results", encodeHost(host)), Data: data})
	return err
}

func (s *Store) publish(ctx context.Context, m *nats.Msg) (seq uint64, err error) {
	err = s.repeat(ctx, func(ctx context.Context) error {
		ack, err := s.js.PublishMsg(ctx, m)
		if err == nil {
			seq = ack.Sequence
		}
		return err
	})
	return seq, err
}

// Length returns how many messages the stream of a kind has.
func (s *Store) Length(ctx context.Context, kind string) (n int, err error) {
	err = s.repeat(ctx, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.streamName(kind))
		if err == nil {
			n = int(stream.CachedInfo().State.Msgs)
		}
		return err
	})
	return n, err
}
