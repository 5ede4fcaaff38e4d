package attempt

import (
	"context"
	"net/http"
	"time"
)

// An Info says whose request one is, to code of the caller's that only has its context.
type Info struct {
	Index    int // of the URL in its input
	Attempt  int // from 1
	Redirect int // followed in this attempt so far
	URL      string
	Queued   time.Time // when the URL was accepted
	Started  time.Time // when the attempt began
}

// InfoOf returns the Info of the request with the given context, and whether there is one.
func InfoOf(ctx context.Context) (Info, bool) {
	if i, ok := ctx.Value(infoKey{}).(*informed); ok {
		return i.info, true
	}
	return Info{}, false
}

type infoKey struct{}

// An informed is the context of one request, with its Info. It is not changed, since whoever has
// got it may keep it.
type informed struct {
	context.Context
	info Info
}

func (i *informed) Value(key any) any {
	if key == (infoKey{}) {
		return i
	}
	return i.Context.Value(key)
}

// inform returns a context with the Info of an exchange's next request.
func (b *builder) inform(ctx context.Context, x *Exchange, i Info) context.Context {
	if x.next != nil || x.Request != nil {
		return &informed{ctx, i}
	}
	// A GET is made in one piece with its context, which saves an allocation.
	both := &struct {
		request http.Request
		context informed
	}{context: informed{ctx, i}}
	b.spare = &both.request
	return &both.context
}

// info returns the Info of the next request.
func (t *turn) info() Info {
	return Info{
		Index: t.x.Index, Attempt: t.Tally.Attempts, Redirect: t.x.Redirects,
		URL: t.x.URL, Queued: t.Tally.Queued, Started: t.Tally.Began,
	}
}
