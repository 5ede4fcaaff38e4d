package store

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

// A link watches a connection, so that calls whose answers got lost with it do not wait for them.
type link struct {
	conn   *nats.Conn
	status chan nats.Status

	mu     sync.Mutex
	ctx    context.Context // of calls; it ends when the connection is lost
	cancel context.CancelCauseFunc
}

var errLost = errors.New("the connection to the broker is lost")

func newLink(conn *nats.Conn) *link {
	l := &link{conn: conn, status: conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	go l.watch() // until close, or the connection is closed
	return l
}

func (l *link) watch() {
	for range l.status {
		l.mu.Lock()
		l.cancel(errLost)
		l.ctx, l.cancel = context.WithCancelCause(context.Background())
		l.mu.Unlock()
	}
}

func (l *link) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ctx
}

func (l *link) close() { l.conn.RemoveStatusListener(l.status) }
