package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Token says that a host has something to do.
type Token struct {
	Host  string
	store *Store
	msg   jetstream.Msg
}

// Tokens gives at most n tokens to f as they come, waiting for no longer than that.
func (s *Store) Tokens(ctx context.Context, n int, wait time.Duration, f func(Token)) error {
	fetch, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	batch, err := s.queue.Fetch(n, jetstream.FetchContext(fetch))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		f(Token{hostOf(m.Subject()), s, m})
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return err
	}
	return nil
}

// Keep keeps the token from being given to another worker until the lease is over once more.
func (t Token) Keep() { t.msg.InProgress() }

// Return gives the token back, to be handed out again after the given time.
func (t Token) Return(after time.Duration) {
	if after <= 0 {
		t.msg.Nak()
	} else {
		t.msg.NakWithDelay(after)
	}
}

// Finish takes the token out of the queue.
func (t Token) Finish(ctx context.Context) error {
	return t.store.repeat(ctx, func(ctx context.Context) error {
		err := t.msg.DoubleAck(ctx)
		if errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			return nil // by the try before, or so it looks: a token too many does no harm
		}
		return err
	})
}

// AddToken puts a token for the host into the queue, unless there is one.
func (s *Store) AddToken(ctx context.Context, host string) error {
	return s.repeat(ctx, func(ctx context.Context) error {
		_, err := s.js.Publish(ctx, s.subject("tokens", encodeHost(host)), nil)
		if isTaken(err) {
			return nil
		}
		return err
	})
}

// isTaken reports whether a token was refused because the host has one.
func isTaken(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == storeFailed &&
		refused.Description == "maximum messages per subject exceeded"
}

// Orphans returns the hosts that have pages but no token: those of a producer that died between
// the two.
func (s *Store) Orphans(ctx context.Context) (hosts []string, err error) {
	pages, err := s.subjects(ctx, s.urls, s.subject("urls", ">")) // first, as an owner finishes the token only when the pages are gone
	if err != nil {
		return nil, err
	}
	tokens, err := s.subjects(ctx, s.tokens, s.subject("tokens", ">"))
	if err != nil {
		return nil, err
	}
	for subject := range pages {
		if host := hostOf(subject); tokens[s.subject("tokens", encodeHost(host))] == 0 {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

// Waiting returns how many tokens nobody has asked for yet.
func (s *Store) Waiting(ctx context.Context) (n int, err error) {
	err = s.repeat(ctx, func(ctx context.Context) error {
		info, err := s.queue.Info(ctx)
		if err == nil {
			n = int(info.NumPending)
		}
		return err
	})
	return n, err
}
