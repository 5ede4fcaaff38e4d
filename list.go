package fetch

import (
	"context"
	"net/http"
	"time"
)

// pushChunk is how many URLs are queued under one lock.
const pushChunk = 256

// fetchList fetches a list of URLs into results, which have Index and URL.
func (e *engine) fetchList(ctx context.Context, results []Result) {
	b := e.newBatch(ctx)
	b.results, b.left, b.lazy = results, len(results), true
	if e.config.dedup {
		b.leaders = leadersOf(results)
	}
	b.start()
	defer b.completeList()
	var keys [pushChunk]string
	for first := 0; first < len(results) && b.ctx.Err() == nil; first += pushChunk {
		chunk := results[first:min(first+pushChunk, len(results))]
		done := b.keysOf(keys[:], chunk)
		b.pushChunk(keys[:len(chunk)], first, done)
	}
	b.waitList()
}

// keysOf fills in the host keys of a chunk: "" for a URL that is not to be
// queued, whose number it returns.
func (b *batch) keysOf(keys []string, chunk []Result) (done int) {
	for i := range chunk {
		r := &chunk[i]
		if _, follows := b.leaders[r.Index]; follows {
			keys[i] = ""
			done++
			continue
		}
		key, err := hostOf(r.URL)
		if err == nil {
			err = b.keepHost(key)
		}
		if err != nil {
			*r = failed(*r, err)
			key = ""
			done++
		}
		keys[i] = key
	}
	return done
}

func (b *batch) pushChunk(keys []string, first, done int) {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	b.left -= done
	for i, key := range keys {
		if key == "" {
			continue
		}
		switch err := b.refusalLocked(now, key); {
		case b.stopped:
		case err != nil:
			b.results[first+i] = failed(b.results[first+i], err)
			b.left--
		default:
			b.lane.Push(now, key, first+i)
		}
		e.releaseHostLocked(now, key)
	}
	b.settleLocked()
	e.kickLocked(now)
}

// waitList waits for the results of all that was pushed.
func (b *batch) waitList() {
	b.engine.mu.Lock()
	b.open = false
	b.settleLocked()
	b.engine.mu.Unlock()
	<-b.settled
}

// completeList closes the batch. URLs without a result get the error of the
// cancel, and those that equal another its result.
func (b *batch) completeList() {
	b.close()
	waited := time.Since(b.started)
	for i := range b.results {
		if r := &b.results[i]; r.Err == nil && r.StatusCode == 0 && b.leaders[i] == nil {
			*r = failed(*r, b.cancelled())
			r.Waited = waited
		}
	}
	for i, leader := range b.leaders {
		b.results[i] = sameResult(*leader, b.results[i])
	}
}

// leadersOf maps the index of each URL that an earlier one equals to the result of that.
func leadersOf(results []Result) map[int]*Result {
	leaders := map[int]*Result{}
	firsts := make(map[string]*Result, len(results))
	for i := range results {
		key := distinctKey(results[i].URL)
		if first := firsts[key]; first != nil {
			leaders[i] = first
		} else {
			firsts[key] = &results[i]
		}
	}
	return leaders
}

// sendList sends a list of requests, of which results gets the results.
func (e *engine) sendList(ctx context.Context, reqs []*http.Request, results []Result) {
	b := e.newBatch(ctx)
	b.results, b.left = results, len(results)
	b.start()
	defer b.completeList()
	for i, req := range reqs {
		j := &job{batch: b, id: i, result: &results[i], since: b.started}
		j.accept(req)
	}
	b.waitList()
}
