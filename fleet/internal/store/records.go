package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrConflict tells that a record is not the one any more that was read.
var ErrConflict = errors.New("the record was changed by another worker")

// Record reads what is kept of a host: nothing, with the number 0, if there is nothing.
func (s *Store) Record(ctx context.Context, host string) (data []byte, seq uint64, err error) {
	m, err := s.last(ctx, s.subject("host", encodeHost(host)))
	return m.data, m.seq, err
}

// last reads the one message of a subject of the state, from the leader where replicas may lag
// behind. The number of one that is not there is 0.
func (s *Store) last(ctx context.Context, subject string) (m message, err error) {
	err = s.repeat(ctx, func(ctx context.Context) (err error) {
		if s.config.Replicas > 1 {
			m, err = s.lastOfLeader(ctx, subject)
			return err
		}
		found, _, err := s.replies.get(ctx, s.streamName("state"), query{Subject: subject, From: 1, Batch: 1})
		m = message{}
		if len(found) > 0 {
			m = found[0]
		}
		return err
	})
	return m, err
}

// PutRecord replaces the record of a host that has the given number, by one that lives for ttl, or
// for ever if that is 0.
func (s *Store) PutRecord(ctx context.Context, host string, data []byte, seq uint64, ttl time.Duration) (next uint64, err error) {
	return s.put(ctx, s.subject("host", encodeHost(host)), data, &seq, ttl)
}

func (s *Store) put(ctx context.Context, subject string, data []byte, over *uint64, ttl time.Duration) (seq uint64, err error) {
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	if ttl > 0 {
		m.Header.Set(jetstream.MsgTTLHeader, seconds(ttl).String())
	}
	if over != nil {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*over, 10))
	}
	err = s.repeat(ctx, func(ctx context.Context) error {
		ack, err := s.js.PublishMsg(ctx, m)
		if isConflict(err) {
			return ErrConflict
		}
		if err == nil {
			seq = ack.Sequence
		}
		return err
	})
	return seq, err
}

// wrongLastSequence is JSErrCodeStreamWrongLastSequence where a cluster found it out late.
const wrongLastSequence = 10164

// isConflict reports whether a message was not stored because of what its subject had.
func isConflict(err error) bool {
	return isCode(err, jetstream.JSErrCodeStreamWrongLastSequence) || isCode(err, wrongLastSequence)
}

// A Sign is a sign of life.
type Sign struct {
	Seq  uint64
	At   time.Time // by the clock of the broker
	Data []byte
}

// Beat replaces the sign of life of a worker that has the given number. It is ErrConflict when
// that is gone: the worker was taken for dead. The broker drops it after the lease, or some time later.
func (s *Store) Beat(ctx context.Context, id string, data []byte, seq uint64) (next uint64, err error) {
	next, err = s.put(ctx, s.subject("worker", id), data, &seq, s.config.Lease)
	if errors.Is(err, ErrConflict) && seq > 0 {
		// Nobody else writes it, so that one that is there is from a try whose answer was lost.
		if there, err := s.Sign(ctx, id); err != nil || there.Seq > seq {
			return there.Seq, err
		}
	}
	return next, err
}

// Sign returns a worker's sign of life, with the number 0 if there is none.
func (s *Store) Sign(ctx context.Context, id string) (sign Sign, err error) {
	m, err := s.last(ctx, s.subject("worker", id))
	return Sign{m.seq, m.at, m.data}, err
}

// Expire drops a sign of life, and reports whether it was there. From then on the worker cannot renew
// it.
func (s *Store) Expire(ctx context.Context, seq uint64) (was bool, err error) {
	err = s.repeat(ctx, func(ctx context.Context) (err error) {
		was, err = s.delete(ctx, s.streamName("state"), seq)
		return err
	})
	return was, err
}

// Signs returns the signs of life of all workers, by their names.
func (s *Store) Signs(ctx context.Context) (map[string]Sign, error) {
	found, err := s.all(ctx, s.streamName("state"), s.subject("worker", ">"))
	signs := map[string]Sign{}
	for _, m := range found {
		signs[m.subject[strings.LastIndexByte(m.subject, '.')+1:]] = Sign{m.seq, m.at, m.data}
	}
	return signs, err
}

// Records returns the records of all hosts.
func (s *Store) Records(ctx context.Context) (map[string][]byte, error) {
	found, err := s.all(ctx, s.streamName("state"), s.subject("host", ">"))
	records := map[string][]byte{}
	for _, m := range found {
		records[hostOf(m.subject)] = m.data
	}
	return records, err
}
