package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet/internal/store"
)

// newFleet returns a fleet with a broker of its own.
func newFleet(t *testing.T) *Fleet {
	t.Helper()
	f, err := Open(t.Context(), Config{Dir: t.TempDir(), Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// What a journal says is what was noted, whatever was written down when.
func TestAJournalTellsWhatIsDone(t *testing.T) {
	j := newJournal(nil, "w")
	pages := []*page{
		{seq: 7, host: "a.example", done: newBits(100), left: 100},
		{seq: 9, host: "b.example", done: newBits(3), left: 3},
	}
	l := legacy{}
	for i := range 100 {
		j.note(pages[0], i)
		j.note(pages[0], i) // once more says nothing
		if i < 3 && j.note(pages[1], i) != (i == 2) {
			t.Errorf("%d is the last, or is not", i)
		}
		if i%7 == 0 {
			entries, _ := j.entries(i%2 == 0)
			for _, entry := range entries {
				l.read(entry)
			}
		}
	}
	if got := l["b.example"][9]; got.left != 0 || got.done.count() != 3 {
		t.Errorf("b: %+v", got)
	}
	if got := l["a.example"][7]; got.left != 1 || got.done.count() != 99 || got.done.has(99) || !got.done.has(98) {
		t.Errorf("a: %d left, %d done", got.left, got.done.count())
	}
	if done, left := j.close(pages[1]); done.count() != 3 || left != 0 {
		t.Errorf("%d done, %d left", done.count(), left)
	}
	if entries, _ := j.entries(true); len(entries) == 0 {
		t.Error("the other page is gone too")
	}
}

func TestAJournalOfManyPagesIsWrittenInParts(t *testing.T) {
	j := newJournal(nil, "w")
	const pages = 10_000
	for i := range pages {
		j.note(&page{seq: uint64(i), host: strings.Repeat("h", 250), done: newBits(9), left: 9}, 8)
	}
	entries, _ := j.entries(false)
	l := legacy{}
	for _, entry := range entries {
		if len(entry) > store.MaxData {
			t.Errorf("an entry of %d bytes", len(entry))
		}
		l.read(entry)
	}
	for _, read := range l {
		if len(read) != pages {
			t.Errorf("%d pages", len(read))
		}
	}
}

// giveBackHost has a worker take the host of a new fleet, come to pages of which so much is done, and give it
// back. It returns what is stored of it then.
func giveBackHost(t *testing.T, pages ...bits) record {
	t.Helper()
	const host = "a.example"
	f, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	fetcher, err := fetch.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fetcher.Close)
	w := &worker{fleet: f, id: "w", fetcher: fetcher, journal: newJournal(f.store, "w"), ctx: t.Context(), runs: map[string]*run{}}
	r := newRun(w, takeToken(t, f, host), record{Owner: w.id})
	for i, done := range pages {
		r.pages[uint64(1_000_000+i)] = &page{host: host, done: done, left: 100 - done.count()}
	}
	r.giveBack()
	data, _, err := f.store.Record(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := readRecord(data)
	if err != nil || len(data) == 0 {
		t.Fatalf("a record of %d bytes, %v", len(data), err)
	}
	takeToken(t, f, host)
	return rec
}

// takeToken takes the token of a host that has one, or gets one.
func takeToken(t *testing.T, f *Fleet, host string) (token store.Token) {
	t.Helper()
	if err := f.store.AddToken(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Tokens(t.Context(), 1, 5*time.Second, func(got store.Token) { token = got }); err != nil {
		t.Fatal(err)
	}
	if token.Host != host {
		t.Fatal("the token does not come")
	}
	return token
}

// The record of a host has no room for as many pages as a host may have.
func TestAHostOfVeryManyPagesIsGivenBack(t *testing.T) {
	const pages = 60_000
	some := newBits(100)
	some.set(7)
	mostUntouched := slices.Repeat([]bits{newBits(100)}, pages)
	mostUntouched[9] = some
	if rec := giveBackHost(t, mostUntouched...); rec.Owner != "" || len(rec.Progress) != 1 || !rec.Progress[1_000_009].has(7) {
		t.Errorf("owner %q, %d pages", rec.Owner, len(rec.Progress))
	}
	if rec := giveBackHost(t, slices.Repeat([]bits{some}, pages)...); rec.Owner != "" || len(rec.Progress) != 0 {
		t.Errorf("owner %q, %d pages", rec.Owner, len(rec.Progress))
	}
}

// A read of large pages brings few of them, and a host that is closed until something is due must have nothing
// else to do.
func TestLargePagesAreReadToTheEnd(t *testing.T) {
	const host = "a.example"
	f := newFleet(t)
	all := []stored{{Request: Request{URL: "http://a.example/off"}, Deliveries: 1, NotBefore: time.Now().Add(time.Hour)}}
	for i := range 3 {
		all = append(all, stored{Request: Request{URL: fmt.Sprint("http://a.example/", i), Body: make([]byte, 500<<10)}})
	}
	var pages []store.NewPage
	for i, s := range all {
		var text pageText
		text.add(s)
		data, err := text.encode()
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, store.NewPage{Host: host, Count: 1, Data: data, ID: fmt.Sprint(i)})
	}
	if n, err := f.store.AddPages(t.Context(), pages); n != len(pages) || err != nil {
		t.Fatal(n, err)
	}
	r := newRun(&worker{fleet: f, ctx: t.Context()}, store.Token{Host: host}, record{})
	r.reader.unread = map[uint64]bits{4: newBits(1)}
	for i := range 3 {
		if task, err := r.reader.next(true); task == nil || err != nil {
			t.Fatalf("%d of 3, %v", i, err)
		}
		if ahead := r.reader.ahead(); i == 0 && len(ahead) != 1 {
			t.Errorf("what is done of a page that was not read is forgotten: %v", ahead)
		}
	}
	if task, err := r.reader.next(true); task != nil || err != nil {
		t.Errorf("%v, %v", task, err)
	}
}

// Of the tasks that are put off the first few are kept until they are due, and the instant of all.
func TestWhatIsPutOffIsDoneWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := reader{run: &run{}, looked: start}
		for i := range 2 * maxOff {
			r.tasks = append(r.tasks, &task{index: i, stored: stored{NotBefore: start.Add(time.Duration(1+i/4) * time.Second)}})
		}
		for second := range 1 + maxOff/4 {
			for i := range 4 {
				task, err := r.next(true)
				if second == 0 && task == nil {
					break
				}
				if err != nil || task == nil || task.index != 4*(second-1)+i {
					t.Fatalf("after %d s, task %d: %+v, %v", second, i, task, err)
				}
			}
			if task, _ := r.next(true); task != nil {
				t.Fatalf("task %d is early", task.index)
			}
			if due, want := earlier(r.due, r.late), start.Add(time.Duration(1+second)*time.Second); due != want {
				t.Fatalf("after %d s the next is due after %v, want %v", second, due.Sub(start), want.Sub(start))
			}
			time.Sleep(time.Second)
		}
	})
}

func FuzzJournal(f *testing.F) {
	j := newJournal(nil, "w")
	j.note(&page{seq: 300, host: "a.example", done: newBits(9), left: 9}, 8)
	entries, _ := j.entries(true)
	f.Add(entries[0])
	f.Fuzz(func(t *testing.T, text []byte) {
		l := legacy{}
		l.read(text)
		l.read(text)
		for host, pages := range l {
			for seq, p := range pages {
				if len(host)+len(p.done) > len(text) {
					t.Errorf("page %d of %q has more than there was", seq, host)
				}
			}
		}
	})
}

func TestASetOfNumbers(t *testing.T) {
	a, b := newBits(20), newBits(9)
	a.set(0)
	a.set(19)
	b.set(8)
	for _, all := range []bits{a.union(b), b.union(a)} {
		if all.count() != 3 || !all.has(0) || !all.has(8) || !all.has(19) || all.has(1) || all.has(1000) {
			t.Errorf("%v", all)
		}
	}
	if a.count() != 2 || b.count() != 1 {
		t.Error("a union changes its parts")
	}
}

func TestAURLIsSeenForAWindowAndNotForEver(t *testing.T) {
	now := time.Unix(1000, 0)
	f, waiting := fingerprintOf("http://h.example/"), fingerprintOf("http://h.example/waiting")
	s := newSeenSet(time.Minute, now, func(yield func(fingerprint) bool) { yield(waiting) })
	if f != fingerprintOf("HTTP://h.example:80/#top") || f == waiting {
		t.Error("equal is not what is sent equal")
	}
	for _, step := range []struct {
		after time.Duration
		f     fingerprint
		isNew bool
	}{
		{0, f, true}, {0, waiting, true}, {time.Second, f, false}, {61 * time.Second, f, false},
		{2 * time.Minute, waiting, false}, {3 * time.Minute, f, true}, {10 * time.Minute, waiting, false}, {11 * time.Minute, f, true},
	} {
		if got := s.add(step.f, now.Add(step.after)); got != step.isNew {
			t.Errorf("after %v: new is %v", step.after, got)
		}
	}
	s.done([]fingerprint{f})
	other := newSeenSet(time.Minute, now, s.waiting)
	other.read(encodeFingerprints([]fingerprint{f, waiting}), now)
	if other.add(f, now) || other.add(waiting, now) {
		t.Error("what was handed over is new")
	}
}

// A page keeps the order in which its requests count.
func TestAPageIsReadAsItWasWritten(t *testing.T) {
	var p pageText
	for i := range 5 {
		p.add(stored{Request: Request{URL: fmt.Sprint("u", i)}})
		p.add(stored{Request: Request{URL: fmt.Sprint("r", i), Method: "PUT", Body: []byte{0, 0xff}}, Deliveries: i, NotBefore: time.Unix(1, 0)})
	}
	data, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	all, err := readPage(data)
	if err != nil || len(all) != 10 || all[2].URL != "u2" || all[7].URL != "r2" || all[7].Deliveries != 2 || string(all[7].Body) != "\x00\xff" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := readPage([]byte("{")); err == nil {
		t.Error("half a page: no error")
	}
}

// A broker that is slow to read the signs of life makes the own sign look old.
func TestAWorkerCountsItselfHoweverSlowTheBrokerIs(t *testing.T) {
	f := newFleet(t)
	w := &worker{fleet: f, id: "w", runs: map[string]*run{}}
	w.ctx, w.stop = context.WithCancelCause(t.Context())
	w.journal = newJournal(f.store, w.id)
	l := newLease(w)
	defer l.end()
	if err := l.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.balance(t.Context(), l.renewed.Add(-600*time.Millisecond)) // as if the read had taken that long
	if peers := w.peers.Load(); peers != 1 {
		t.Errorf("it knows of %d workers", peers)
	}
}
