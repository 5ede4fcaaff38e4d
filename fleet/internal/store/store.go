// Package store keeps the state of a fleet in streams of NATS JetStream: pages of URLs, a token for
// each host that has some, what is known of hosts and who owns them, which workers live, and
// what they have done. It knows neither HTTP nor what is in a page.
//
// The streams, where NAME is that of the fleet:
//
//	NAME-urls    NAME.urls.HOST        pages, each with some URLs of one host
//	NAME-tokens  NAME.tokens.HOST      a work queue with at most one token a host
//	NAME-state   NAME.host.HOST        one record a host: its owner, and what has been learnt
//	             NAME.worker.ID        one record a worker, that expires when it is not renewed
//	NAME-log     NAME.journal.ID       what a worker has done of the pages that are not done
//	             NAME.seen.HOST        URLs that were done of late
//	NAME-poison  NAME.poison.HOST      requests that were given up
//	NAME-results NAME.results.HOST     results
//
// A token wakes a worker up, and does nothing else: brokers may lose or repeat deliveries.
// What makes a worker the owner of a host is the record of the host, which is written only over
// the one that was read.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says how a fleet's streams are kept.
type Config struct {
	Name     string
	Replicas int
	Lease    time.Duration // without a sign of life, after which a worker is dead
	MaxBytes int64         // of pages, for producers; 0 is no limit
}

// A Store is safe for concurrent use. Its calls are repeated until their context is done when
// the broker cannot be reached; what the broker refuses is an error at once, and so is a connection that is
// closed for good.
type Store struct {
	config  Config
	conn    *nats.Conn
	js      jetstream.JetStream
	replies *replies
	link    *link

	urls, state, tokens, log jetstream.Stream
	queue                    jetstream.Consumer
}

// MaxData is how many bytes of data a message has room for, beside a subject and headers, in any broker that
// Open takes.
const MaxData = maxPayload - 16<<10

const maxPayload = 1 << 20 // of a broker that is not told otherwise

// Open makes the streams, or takes those that exist as they are but for what config says.
func Open(ctx context.Context, conn *nats.Conn, config Config) (*Store, error) {
	if most := conn.MaxPayload(); most < maxPayload {
		return nil, fmt.Errorf("the broker takes messages of %d bytes (max_payload), and %d are needed", most, maxPayload)
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(8*maxPublishing), jetstream.WithPublishAsyncTimeout(maxTry))
	if err != nil {
		return nil, err
	}
	s := &Store{config: config, conn: conn, js: js, link: newLink(conn)}
	if s.replies, err = newReplies(conn); err != nil {
		s.link.close()
		return nil, err
	}
	for _, stream := range s.streams() {
		var made jetstream.Stream
		err := s.repeat(ctx, func(ctx context.Context) (err error) {
			made, err = js.CreateOrUpdateStream(ctx, stream.config)
			return err
		})
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("stream %s: %w", stream.config.Name, err)
		}
		if stream.into != nil {
			*stream.into = made
		}
	}
	err = s.repeat(ctx, func(ctx context.Context) (err error) {
		s.queue, err = s.tokens.CreateOrUpdateConsumer(ctx, s.queueConfig())
		return err
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("consumer of tokens: %w", err)
	}
	return s, nil
}

// Close leaves the connection open, which is the caller's.
func (s *Store) Close() {
	s.replies.close()
	s.link.close()
}

// Closed returns an error that wraps nats.ErrConnectionClosed, and says why, if the connection is closed for
// good: by its owner, or since the broker finds fault with what comes over it.
func (s *Store) Closed() error {
	if !s.conn.IsClosed() {
		return nil
	}
	return errors.Join(nats.ErrConnectionClosed, s.conn.LastError())
}

// Connected reports whether the broker is reached, as far as that is known.
func (s *Store) Connected() bool { return s.conn.IsConnected() }

type streamOf struct {
	config jetstream.StreamConfig
	into   *jetstream.Stream
}

func (s *Store) streams() []streamOf {
	stream := func(kind string, subjects ...string) jetstream.StreamConfig {
		c := jetstream.StreamConfig{Name: s.streamName(kind), Replicas: s.config.Replicas, MaxBytes: -1}
		for _, subject := range subjects {
			c.Subjects = append(c.Subjects, s.subject(subject, ">"))
		}
		return c
	}
	urls := stream("urls", "urls")
	urls.AllowDirect = true
	tokens := stream("tokens", "tokens")
	tokens.Retention = jetstream.WorkQueuePolicy
	tokens.MaxMsgsPerSubject, tokens.Discard, tokens.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
	state := stream("state", "host", "worker")
	state.MaxMsgsPerSubject, state.AllowMsgTTL, state.AllowDirect = 1, true, true
	log := stream("log", "journal", "seen")
	log.AllowMsgTTL, log.AllowDirect = true, true
	return []streamOf{
		{urls, &s.urls}, {tokens, &s.tokens}, {state, &s.state}, {log, &s.log},
		{stream("poison", "poison"), nil}, {stream("results", "results"), nil},
	}
}

// queueConfig is that of the consumer that hands out tokens. Tokens that wait for an instant
// count as pending, so that there is no limit to them. Those of a worker come back when it
// can be taken for dead.
func (s *Store) queueConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: s.config.Lease * 85 / 100, MaxAckPending: -1, MaxDeliver: -1,
	}
}

func (s *Store) streamName(kind string) string { return s.config.Name + "-" + kind }

func (s *Store) subject(kind, rest string) string { return s.config.Name + "." + kind + "." + rest }

// noHost stands for the host of URLs that have none. encodeHost writes no % but before two digits.
const noHost = "%"

// encodeHost returns a host's key as a token of a subject, in ASCII: dots part tokens there, and what
// asks for a subject does so in JSON. It is at most three times as long as the key.
func encodeHost(host string) string {
	if host == "" {
		return noHost
	}
	var b strings.Builder
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case c == '.':
			b.WriteByte('/')
		case c <= ' ' || c >= 0x7f || strings.IndexByte("*>%/", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodeHost undoes encodeHost.
func decodeHost(token string) string {
	if token == noHost {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		switch c := token[i]; {
		case c == '/':
			b.WriteByte('.')
		case c == '%' && i+2 < len(token):
			var decoded byte
			fmt.Sscanf(token[i+1:i+3], "%02X", &decoded)
			b.WriteByte(decoded)
			i += 2
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// hostOf returns the host in a subject of one of the streams.
func hostOf(subject string) string {
	parts := strings.Split(subject, ".")
	if len(parts) < 3 {
		return ""
	}
	return decodeHost(parts[2])
}

const (
	maxTry     = 5 * time.Second // of one try
	longTry    = time.Minute     // of one that takes longer the more hosts there are, after shorter ones
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// repeat calls f until it succeeds, the broker refuses, the connection is closed for good, or ctx is done.
// A try ends when the connection is lost: its answer will not come.
func (s *Store) repeat(ctx context.Context, f func(context.Context) error) error {
	return s.repeatFor(ctx, min(maxTry, s.config.Lease/4), f)
}

// repeatFor is repeat where a try may take as long as most, if shorter ones were not enough.
func (s *Store) repeatFor(ctx context.Context, most time.Duration, f func(context.Context) error) error {
	limit := min(most, max(time.Second, s.config.Lease/4))
	for pause := firstPause; ; pause, limit = min(2*pause, maxPause), min(2*limit, most) {
		err := s.try(ctx, limit, f)
		switch {
		case err == nil || isRefusal(err):
			return err
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case s.conn.IsClosed():
			return s.Closed()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *Store) try(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	once, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(s.link.context(), cancel)()
	return f(once)
}

// isRefusal reports whether an error is the broker's answer, which would be the same again. While
// a cluster elects its leaders it answers with a status of 503.
func isRefusal(err error) bool {
	var refused *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, ErrConflict) || errors.Is(err, nats.ErrMaxPayload):
		return true
	case errors.As(err, &refused):
		return refused.Code < 500 || isFull(refused)
	}
	return false
}

// isFull reports whether the broker has no room. That takes longer to mend than an election.
func isFull(err error) bool {
	return isCode(err, 10023) || isCode(err, 10028) || isCode(err, 10047) || isCode(err, storeFailed)
}

// storeFailed is the code of a message that could not be stored: a limit of the stream, or a disk.
const storeFailed = 10077

func isCode(err error, code jetstream.ErrorCode) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == code
}

// seconds returns d as the broker counts the life of a message: in whole seconds.
func seconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}
