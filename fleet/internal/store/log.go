package store

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// journalLife is how long a journal is kept, so that those of the dead go at last.
const journalLife = 24 * time.Hour

// Append adds to a worker's journal. With instead it replaces all that is there.
func (s *Store) Append(ctx context.Context, id string, data []byte, instead bool) error {
	m := &nats.Msg{Subject: s.subject("journal", id), Data: data, Header: nats.Header{jetstream.MsgTTLHeader: {journalLife.String()}}}
	if instead {
		m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	}
	return s.publish(ctx, m)
}

// Journal returns a worker's journal, the oldest first.
func (s *Store) Journal(ctx context.Context, id string) (entries [][]byte, err error) {
	return s.logged(ctx, s.subject("journal", id))
}

// DropJournal deletes a worker's journal.
func (s *Store) DropJournal(ctx context.Context, id string) error {
	return s.repeat(ctx, func(ctx context.Context) error {
		log, err := s.js.Stream(ctx, s.streamName("log"))
		if err != nil {
			return err
		}
		return log.Purge(ctx, jetstream.WithPurgeSubject(s.subject("journal", id)))
	})
}

// AddSeen notes URLs of a host as done, for as long as ttl.
func (s *Store) AddSeen(ctx context.Context, host string, data []byte, ttl time.Duration) error {
	m := &nats.Msg{Subject: s.subject("seen", encodeHost(host)), Data: data, Header: nats.Header{}}
	m.Header.Set(jetstream.MsgTTLHeader, seconds(ttl).String())
	return s.publish(ctx, m)
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
	return s.publish(ctx, &nats.Msg{
		Subject: s.subject("poison", encodeHost(host)), Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}},
	})
}

// AddResult keeps a result.
func (s *Store) AddResult(ctx context.Context, host string, data []byte) error {
	return s.publish(ctx, &nats.Msg{Subject: s.subject("results", encodeHost(host)), Data: data})
}

func (s *Store) publish(ctx context.Context, m *nats.Msg) error {
	return s.repeat(ctx, func(ctx context.Context) error {
		_, err := s.js.PublishMsg(ctx, m)
		return err
	})
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
