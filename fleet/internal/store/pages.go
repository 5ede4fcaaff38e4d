package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Page has some requests of one host.
type Page struct {
	Seq  uint64
	Data []byte
}

// A NewPage is one to be stored.
type NewPage struct {
	Host  string
	Count int // of its requests
	Data  []byte
	ID    string // that tells it from others, so that it is not stored twice
}

// maxPublishing is how many messages are on their way to the broker at a time.
const maxPublishing = 256

// AddPages stores pages, and then sees to it that there is a token for each of their hosts: in
// this order, so that either a worker that gives a host up finds the page, or the token is not
// refused. It returns how many pages were stored, from the first on.
func (s *Store) AddPages(ctx context.Context, pages []NewPage) (stored int, err error) {
	return s.addPages(ctx, pages, 0)
}

// AddPagesWithinLimit is AddPages for a producer: of as many as Config.MaxBytes has room for. It does not
// count what others are about to store.
func (s *Store) AddPagesWithinLimit(ctx context.Context, pages []NewPage) (stored int, err error) {
	return s.addPages(ctx, pages, s.config.MaxBytes)
}

func (s *Store) addPages(ctx context.Context, pages []NewPage, limit int64) (stored int, err error) {
	for len(pages) > 0 && err == nil {
		some := pages[:min(len(pages), maxPublishing)]
		pages = pages[len(some):]
		fit, full := s.fitting(ctx, some, limit)
		n, addErr := s.addSome(ctx, some[:fit])
		stored += n
		err = errors.Join(addErr, full)
	}
	return stored, err
}

// fitting returns how many of the pages the limit has room for, and an error unless it has for all. A limit
// of 0 is none.
func (s *Store) fitting(ctx context.Context, pages []NewPage, limit int64) (n int, err error) {
	if limit == 0 {
		return len(pages), nil
	}
	var size int64
	err = s.repeat(ctx, func(ctx context.Context) error {
		info, err := s.urls.Info(ctx)
		if err == nil {
			size = int64(info.State.Bytes)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for i, p := range pages {
		if size += int64(len(p.Data) + pageOverhead); size > limit {
			return i, fmt.Errorf("the backlog is full: a page of %d bytes has no room within MaxBytes, %d", len(p.Data), limit)
		}
	}
	return len(pages), nil
}

// pageOverhead is about what the subject, the headers and the broker add to a page.
const pageOverhead = 150

func (s *Store) addSome(ctx context.Context, pages []NewPage) (stored int, err error) {
	stored, err = s.publishAll(ctx, len(pages), func(i int) *nats.Msg {
		p := pages[i]
		return &nats.Msg{
			Subject: s.subject("urls", encodeHost(p.Host)), Data: p.Data,
			Header: nats.Header{jetstream.MsgIDHeader: {p.ID}, countHeader: {strconv.Itoa(p.Count)}},
		}
	}, nil)
	var hosts []string
	known := map[string]bool{}
	for _, p := range pages { // of those not counted too: some of them may be stored
		if !known[p.Host] {
			known[p.Host] = true
			hosts = append(hosts, p.Host)
		}
	}
	_, tokenErr := s.publishAll(ctx, len(hosts), func(i int) *nats.Msg {
		return &nats.Msg{Subject: s.subject("tokens", encodeHost(hosts[i]))}
	}, isTaken)
	return stored, errors.Join(err, tokenErr)
}

// publishAll publishes n messages at once, and those again that did not get through. It returns
// how many are stored, from the first on. An error for which accept is true is none.
func (s *Store) publishAll(ctx context.Context, n int, message func(i int) *nats.Msg, accept func(error) bool) (stored int, err error) {
	missing := make([]int, n)
	for i := range missing {
		missing[i] = i
	}
	var refused error
	first := n // of those that were refused
	err = s.repeat(ctx, func(ctx context.Context) error {
		futures := make([]jetstream.PubAckFuture, len(missing))
		var failed error
		for i, k := range missing {
			if futures[i], failed = s.js.PublishMsgAsync(message(k)); failed != nil {
				break
			}
		}
		var again []int
		for i, k := range missing {
			err := failed
			if futures[i] != nil {
				err = wait(ctx, futures[i])
			}
			switch {
			case err == nil || accept != nil && accept(err):
			case isRefusal(err):
				first, refused = min(first, k), err
			default:
				again, failed = append(again, k), err
			}
		}
		if missing = again; len(missing) == 0 {
			return nil
		}
		return failed
	})
	if len(missing) > 0 {
		first = min(first, missing[0])
	}
	return first, errors.Join(refused, err)
}

func wait(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pages reads the next pages of a host behind the one with the given number, at most n and about a
// megabyte, and reports whether there are more.
func (s *Store) Pages(ctx context.Context, host string, after uint64, n int) (pages []Page, more bool, err error) {
	q := query{From: after + 1, Subject: s.subject("urls", encodeHost(host)), Batch: n, MaxBytes: 1 << 20}
	err = s.repeat(ctx, func(ctx context.Context) error {
		var found []message
		if found, more, err = s.replies.get(ctx, s.streamName("urls"), q); err != nil {
			return err
		}
		pages = pages[:0]
		for _, m := range found {
			pages = append(pages, Page{m.seq, m.data})
		}
		return nil
	})
	return pages, more, err
}

// HasPages reports whether a host has pages. It asks the leader of the stream, since a replica may
// lag behind, and the answer decides whether a token is needed.
func (s *Store) HasPages(ctx context.Context, host string) (has bool, err error) {
	q := s.subject("urls", encodeHost(host))
	err = s.repeat(ctx, func(ctx context.Context) error {
		if s.config.Replicas <= 1 {
			found, _, err := s.replies.get(ctx, s.streamName("urls"), query{From: 1, Subject: q, Batch: 1})
			has = len(found) > 0
			return err
		}
		info, err := s.urls.Info(ctx, jetstream.WithSubjectFilter(q))
		if err == nil {
			has = len(info.State.Subjects) > 0
		}
		return err
	})
	return has, err
}

// DeletePage deletes a page that is done. One that is gone is fine.
func (s *Store) DeletePage(ctx context.Context, seq uint64) error {
	return s.repeat(ctx, func(ctx context.Context) error {
		_, err := s.delete(ctx, s.streamName("urls"), seq)
		return err
	})
}

// countHeader has the number of a page's requests. It is not in the subject: a broker finds the next page
// of one subject without looking at others, but not of a wildcard.
const countHeader = "Fleet-Count"

// A PageInfo is what is known of a page without reading it.
type PageInfo struct {
	Seq   uint64
	Host  string
	Count int
}

// mostInfos is how many pages are looked at to count their requests. The others count as they do on
// average.
const mostInfos = 100_000

// Backlog returns the number of pages of each host, and what is known of the pages, or of the first of
// them.
func (s *Store) Backlog(ctx context.Context) (pages map[string]int, infos []PageInfo, err error) {
	subjects, err := s.subjects(ctx, s.urls, s.subject("urls", ">"))
	if err != nil {
		return nil, nil, err
	}
	pages = make(map[string]int, len(subjects))
	total := 0
	for subject, n := range subjects {
		pages[hostOf(subject)] = int(n)
		total += int(n)
	}
	if total > 0 {
		infos, err = s.infos(ctx, min(total, mostInfos))
	}
	return pages, infos, err
}

// infos looks at the first pages.
func (s *Store) infos(ctx context.Context, n int) (infos []PageInfo, err error) {
	err = s.repeatFor(ctx, longTry, func(ctx context.Context) error {
		consumer, err := s.urls.CreateConsumer(ctx, jetstream.ConsumerConfig{
			AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
		})
		if err != nil {
			return err
		}
		defer s.urls.DeleteConsumer(ctx, consumer.CachedInfo().Name)
		for infos = nil; len(infos) < n; {
			batch, err := consumer.FetchNoWait(min(n-len(infos), 5000))
			if err != nil {
				return err
			}
			before := len(infos)
			for m := range batch.Messages() {
				if meta, err := m.Metadata(); err == nil {
					count, _ := strconv.Atoi(m.Headers().Get(countHeader))
					infos = append(infos, PageInfo{meta.Sequence.Stream, hostOf(m.Subject()), count})
				}
			}
			if len(infos) == before {
				break // the others have gone meanwhile
			}
		}
		return nil
	})
	return infos, err
}

// subjects counts the messages of each subject that fits the filter.
func (s *Store) subjects(ctx context.Context, stream jetstream.Stream, filter string) (counts map[string]uint64, err error) {
	err = s.repeatFor(ctx, longTry, func(ctx context.Context) error {
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err == nil {
			counts = info.State.Subjects
		}
		return err
	})
	return counts, err
}
