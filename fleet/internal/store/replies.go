package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// replies gets the answers to reads of several messages, on one subscription: one for each read
// would cost more than the read.
type replies struct {
	conn   *nats.Conn
	prefix string
	sub    *nats.Subscription

	mu    sync.Mutex
	last  uint64
	reads map[string]chan *nats.Msg
}

// maxBatch is the most messages that one read asks for.
const maxBatch = 256

func newReplies(conn *nats.Conn) (*replies, error) {
	r := &replies{conn: conn, prefix: nats.NewInbox() + ".", reads: map[string]chan *nats.Msg{}}
	var err error
	if r.sub, err = conn.Subscribe(r.prefix+"*", r.deliver); err != nil {
		return nil, err
	}
	return r, r.sub.SetPendingLimits(-1, -1)
}

func (r *replies) close() { r.sub.Unsubscribe() }

func (r *replies) deliver(m *nats.Msg) {
	id := strings.TrimPrefix(m.Subject, r.prefix)
	r.mu.Lock()
	read := r.reads[id]
	r.mu.Unlock()
	if read == nil {
		return // given up
	}
	select {
	case read <- m:
	default: // more than were asked for
	}
}

func (r *replies) open() (id string, read chan *nats.Msg) {
	read = make(chan *nats.Msg, maxBatch+1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	id = strconv.FormatUint(r.last, 36)
	r.reads[id] = read
	return id, read
}

func (r *replies) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reads, id)
}

// A query is a read of a stream (NATS ADR-31).
type query struct {
	From      uint64   `json:"seq,omitempty"`
	Subject   string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// A message is one that was read.
type message struct {
	subject string
	seq     uint64
	at      time.Time
	data    []byte
}

// get makes one read. more tells that there may be others behind these.
func (r *replies) get(ctx context.Context, stream string, q query) (found []message, more bool, err error) {
	ask, err := json.Marshal(q)
	if err != nil {
		return nil, false, err
	}
	id, read := r.open()
	defer r.drop(id)
	if err := r.conn.PublishRequest("$JS.API.DIRECT.GET."+stream, r.prefix+id, ask); err != nil {
		return nil, false, err
	}
	for {
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case m := <-read:
			switch status := m.Header.Get("Status"); status {
			case "":
				found = append(found, readMessage(m))
			case "204": // the end of the batch
				return found, len(found) > 0 && m.Header.Get("Nats-Num-Pending") != "0", nil
			case "404":
				return found, false, nil
			default:
				return nil, false, fmt.Errorf("reading %s: status %s %s", stream, status, m.Header.Get("Description"))
			}
		}
	}
}

func readMessage(m *nats.Msg) message {
	seq, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	at, _ := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	return message{m.Header.Get("Nats-Subject"), seq, at, m.Data}
}

// all reads all messages of a subject.
func (s *Store) all(ctx context.Context, stream, subject string) (found []message, err error) {
	for from, more := uint64(1), true; more; {
		var some []message
		err := s.repeat(ctx, func(ctx context.Context) (err error) {
			some, more, err = s.replies.get(ctx, stream, query{From: from, Subject: subject, Batch: maxBatch})
			return err
		})
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
		if len(some) > 0 {
			from = some[len(some)-1].seq + 1
		}
	}
	return found, nil
}
