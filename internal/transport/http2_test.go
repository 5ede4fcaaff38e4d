package transport_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The types and flags of frames, and settings (RFC 9113, section 6), as far as the tests need them.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 0, 1, 3, 4, 6, 7
	flagEndStream, flagAck, flagEndHeaders                                     = 1, 1, 4
	settingMaxStreams                                                          = 3
)

// A framed is a connection of HTTP/2 to a raw server.
type framed struct {
	net.Conn
	number int // of the connection, from 1
	mu     sync.Mutex
}

func (f *framed) frame(kind, flags byte, stream uint32, payload ...byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = binary.BigEndian.AppendUint32(append(head, flags), stream)
	f.Write(append(head, payload...))
}

func (f *framed) settings(maxStreams uint32) {
	f.frame(frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, settingMaxStreams}, maxStreams)...)
}

func (f *framed) answer(stream uint32, body string) {
	f.frame(frameHeaders, flagEndHeaders, stream, 0x88) // :status 200
	f.frame(frameData, flagEndStream, stream, []byte(body)...)
}

func (f *framed) goAway(last uint32) {
	f.frame(frameGoAway, 0, 0, 0, 0, 0, byte(last), 0, 0, 0, 0)
}

// requests calls serve for each request, until the connection ends.
func (f *framed) requests(serve func(stream uint32)) {
	if _, err := io.CopyN(io.Discard, f, 24); err != nil { // the preface
		return
	}
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(f, head); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		if _, err := io.ReadFull(f, payload); err != nil {
			return
		}
		switch kind, flags := head[3], head[4]; {
		case kind == frameHeaders:
			serve(binary.BigEndian.Uint32(head[5:]))
		case kind == frameSettings && flags&flagAck == 0:
			f.frame(frameSettings, flagAck, 0)
		case kind == framePing && flags&flagAck == 0:
			f.frame(framePing, flagAck, 0, payload...)
		}
	}
}

// receiveFrames has serve run for each connection.
func receiveFrames(t *testing.T, serve func(f *framed)) (base string, conns *atomic.Int32) {
	conns = new(atomic.Int32)
	return "https://" + fetchtest.ListenRaw(t, func(conn net.Conn) {
		c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}, NextProtos: []string{"h2"}})
		if c.Handshake() != nil {
			return
		}
		defer c.Close()
		serve(&framed{Conn: c, number: int(conns.Add(1))})
	}), conns
}

// getMany gets so many URLs at a time, and returns the answers.
func getMany(t *testing.T, n int, get func(i int) answer) []answer {
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { answers[i] = get(i) })
	}
	all.Wait()
	return answers
}

func TestSettingsThatComeLate(t *testing.T) {
	base, conns := receiveFrames(t, func(f *framed) {
		time.AfterFunc(100*time.Millisecond, func() { f.settings(100) })
		f.requests(func(stream uint32) {
			time.AfterFunc(150*time.Millisecond, func() { f.answer(stream, "late") })
		})
	})
	c := newClient(t, 16)
	for i, a := range getMany(t, 16, func(int) answer { return get(t, c, base) }) {
		if a.err != nil || a.body != "late" {
			t.Errorf("%d: %q, %v", i, a.body, a.err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestSettingsThatNeverCome(t *testing.T) {
	base, _ := receiveFrames(t, func(f *framed) { f.requests(func(uint32) {}) })
	before := fetchtest.ResourcesInUse()
	c := newClient(t, 8)
	start := time.Now()
	for _, a := range getMany(t, 8, func(int) answer {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		return send(ctx, c, "GET", base)
	}) {
		if !errors.Is(a.err, context.DeadlineExceeded) {
			t.Error(a.err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	closeClient(t, c)
	before.Check(t)
}

// Where a connection takes one request at a time, nobody waits for a place that there is not.
func TestOneRequestAtATime(t *testing.T) {
	const together, takes = 16, 50 * time.Millisecond
	base, conns := receiveFrames(t, func(f *framed) {
		time.Sleep(takes)
		f.settings(1)
		f.requests(func(stream uint32) {
			time.AfterFunc(takes, func() { f.answer(stream, "one") })
		})
	})
	c := newClient(t, together)
	start := time.Now()
	for i, a := range getMany(t, 4*together, func(i int) answer {
		time.Sleep(time.Duration(i/together) * 2 * takes)
		return get(t, c, base)
	}) {
		if a.err != nil || a.body != "one" {
			t.Errorf("%d: %q, %v", i, a.body, a.err)
		}
	}
	// One after the other the handshakes alone would take 16 times as long as one.
	if took := time.Since(start); took > 16*takes {
		t.Errorf("took %v", took)
	}
	if n := conns.Load(); n > 4*together {
		t.Errorf("%d connections", n)
	}
}

func TestGoAwayMovesRequestsToAnotherConnection(t *testing.T) {
	base, conns := receiveFrames(t, func(f *framed) {
		f.settings(100)
		f.requests(func(stream uint32) {
			if f.number%2 == 1 && stream > 1 {
				f.goAway(stream - 2) // this one was not processed
				return
			}
			f.answer(stream, fmt.Sprint(f.number))
		})
	})
	c := newClient(t, 1)
	var got []string
	for range 4 {
		a := get(t, c, base)
		if a.err != nil {
			t.Error(a.err)
		}
		got = append(got, a.body)
	}
	if want := []string{"1", "2", "2", "2"}; !slices.Equal(got, want) || conns.Load() != 2 {
		t.Errorf("served by %v, want %v; %d connections", got, want, conns.Load())
	}
}

func TestAStreamThatIsRefusedIsSentAgain(t *testing.T) {
	var refused atomic.Int32
	base, conns := receiveFrames(t, func(f *framed) {
		f.settings(100)
		f.requests(func(stream uint32) {
			if refused.Add(1) == 1 {
				f.frame(frameReset, 0, stream, 0, 0, 0, 7) // REFUSED_STREAM
				return
			}
			f.answer(stream, "ok")
		})
	})
	c := newClient(t, 1)
	a := send(t.Context(), c, "POST", base, func(r *http.Request) {}) // of any method: nothing was done
	if a.err != nil || a.body != "ok" || refused.Load() != 2 || conns.Load() != 1 {
		t.Errorf("%q, %v, sent %d times over %d connections", a.body, a.err, refused.Load(), conns.Load())
	}
}

// A server that closes a connection of HTTP/2 while it is idle hurts no request.
func TestAnIdleConnectionOfHTTP2ThatEnds(t *testing.T) {
	base, conns := receiveFrames(t, func(f *framed) {
		f.settings(100)
		f.requests(func(stream uint32) {
			f.answer(stream, "ok")
			f.Close()
		})
	})
	c := newClient(t, 1)
	for range 5 {
		mustGet(t, c, base, "ok")
		for _, _, open := c.Counts(); open != 0; _, _, open = c.Counts() { // until the end was read
			time.Sleep(time.Millisecond)
		}
	}
	if n := conns.Load(); n != 5 {
		t.Errorf("%d connections", n)
	}
}

// A server may speak HTTP/2 on some connections, and HTTP/1 on others.
func TestAServerThatTurnsOutToSpeakHTTP1(t *testing.T) {
	for _, first := range []string{"h2", "http/1.1"} {
		t.Run("first "+first, func(t *testing.T) {
			var conns atomic.Int32
			base := "https://" + fetchtest.ListenRaw(t, func(conn net.Conn) {
				n := conns.Add(1)
				protocol := first
				if n%2 == 0 {
					protocol = map[string]string{"h2": "http/1.1", "http/1.1": "h2"}[first]
				}
				c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}, NextProtos: []string{protocol}})
				if c.Handshake() != nil {
					return
				}
				defer c.Close()
				if protocol == "h2" {
					f := &framed{Conn: c}
					f.settings(2)
					f.requests(func(stream uint32) { time.AfterFunc(2*time.Millisecond, func() { f.answer(stream, "ok") }) })
					return
				}
				for reader := newVisit(c); reader.next() != nil; {
					time.Sleep(2 * time.Millisecond)
					io.WriteString(c, fetchtest.WithLength("ok"))
				}
			})
			c := newClient(t, 8)
			for i, a := range getMany(t, 8, func(int) (a answer) {
				for range 20 {
					if a = get(t, c, base); a.err != nil || a.body != "ok" {
						return a
					}
				}
				return a
			}) {
				if a.err != nil || a.body != "ok" {
					t.Errorf("%d: %q, %v", i, a.body, a.err)
				}
			}
		})
	}
}

// A dial that hangs is given up for a connection that is free, also one that was free before
// anybody knew that the dial hangs.
func TestADialThatHangsIsGivenUpForAFreeConnection(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		base, _ := receive(t, secure, func(v *visit) {
			for req := v.next(); req != nil; req = v.next() {
				time.Sleep(100 * time.Millisecond)
				v.echo(req)
			}
		})
		c := newClient(t, 2)
		var dials atomic.Int32
		c.WrapDials(func(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
			if dials.Add(1) > 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial()
		})
		mustGet(t, c, base+"/first", "GET /first")
		start := time.Now()
		for _, a := range getMany(t, 2, func(int) answer {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return send(ctx, c, "GET", base+"/both")
		}) {
			if a.err != nil || a.body != "GET /both" {
				t.Errorf("%q, %v", a.body, a.err)
			}
		}
		if took := time.Since(start); took > 2*time.Second || dials.Load() < 2 {
			t.Errorf("took %v and %d dials", took, dials.Load())
		}
	})
}

func TestADialThatHangsIsGivenUpForAPlaceOnAConnection(t *testing.T) {
	base, _ := receiveFrames(t, func(f *framed) {
		f.settings(1)
		f.requests(func(stream uint32) { time.AfterFunc(100*time.Millisecond, func() { f.answer(stream, "ok") }) })
	})
	c := newClient(t, 2)
	var dials atomic.Int32
	c.WrapDials(func(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
		if dials.Add(1) > 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return dial()
	})
	mustGet(t, c, base, "ok")
	start := time.Now()
	for _, a := range getMany(t, 4, func(int) answer {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return send(ctx, c, "GET", base)
	}) {
		if a.err != nil || a.body != "ok" {
			t.Errorf("%q, %v", a.body, a.err)
		}
	}
	if took := time.Since(start); took > 3*time.Second || dials.Load() < 2 {
		t.Errorf("took %v and %d dials", took, dials.Load())
	}
}

// A stream ends with its context, and the connection goes on.
func TestARequestOverHTTP2EndsWithItsContext(t *testing.T) {
	for name, serve := range map[string]func(f *framed, stream uint32){
		"head": func(*framed, uint32) {},
		"body": func(f *framed, stream uint32) {
			f.frame(frameHeaders, flagEndHeaders, stream, 0x88)
			f.frame(frameData, 0, stream, 'h', 'e')
		},
	} {
		t.Run(name, func(t *testing.T) {
			base, conns := receiveFrames(t, func(f *framed) {
				f.settings(100)
				f.requests(func(stream uint32) {
					if stream == 3 {
						serve(f, stream)
						return
					}
					f.answer(stream, "ok")
				})
			})
			c := newClient(t, 1)
			mustGet(t, c, base, "ok")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			start := time.Now()
			if a := send(ctx, c, "GET", base); !errors.Is(a.err, context.DeadlineExceeded) {
				t.Error(a.err)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			mustGet(t, c, base, "ok")
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}
