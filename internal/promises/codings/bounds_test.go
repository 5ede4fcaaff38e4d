package codings_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// flooding is a server that sends a body in a coding and then more of the same without end.
func flooding(t *testing.T, coding, first, more string) string {
	many := []byte(strings.Repeat(more, max(1, 64<<10/len(more))))
	return fetchtest.Listen(t, func(conn net.Conn, _ string) {
		_, err := io.WriteString(conn, fetchtest.StatusOK+"Content-Encoding: "+coding+"\r\n\r\n"+first)
		for err == nil {
			_, err = conn.Write(many)
		}
	})
}

func discard(_ context.Context, _ fetch.Result, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// Whatever comes without end ends, and takes no memory, although nothing of it is decoded.
func TestWhatIsBehindTheEndIsBounded(t *testing.T) {
	for _, test := range []struct{ name, coding, first, more string }{
		{"zeros", "gzip", zipped(text), "\x00"},
		{"junk", "gzip", zipped(text), "junk"},
		{"junk behind deflate", "deflate", zlibbed(text), "junk"},
		{"junk behind raw deflate", "deflate", flated(text), "junk"},
		{"junk behind a coding in gzip", "gzip, gzip", zipped(zipped(text)), "junk"},
		{"junk behind a coding of the caller's", "first", text, "junk"},
		{"members of nothing", "gzip", zipped(text), zipped("")},
	} {
		for name, opts := range map[string][]fetch.Option{
			"default":                nil,
			"a small limit":          limit(len(text)),
			"a BodyFunc and a limit": {fetch.WithMaxBody(1 << 10), fetch.WithBodyFunc(discard)},
			"a BodyFunc":             {fetch.WithBodyFunc(discard)},
		} {
			if test.name == "members of nothing" && (name == "a BodyFunc" || name == "default") {
				continue // without a limit only the timeout ends such a body, and 81 MiB take long
			}
			t.Run(test.name+"/"+name, func(t *testing.T) {
				rawURL := flooding(t, test.coding, test.first, test.more)
				var r fetch.Result
				got := fetchtest.Allocated(func() {
					r = fetchtest.GetOne(t, rawURL, append(opts, fetch.WithDecoder("first", func(r io.Reader) (io.Reader, error) {
						return io.LimitReader(r, int64(len(text))), nil
					}))...)
				})
				if !errors.Is(r.Err, fetch.ErrBodyTooLarge) || got > 4<<20 {
					t.Errorf("error %v, %d bytes allocated", r.Err, got)
				}
			})
		}
	}
}

// zippedFrom returns so much of r in gzip.
func zippedFrom(t *testing.T, r io.Reader, n int64) string {
	t.Helper()
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if _, err := io.CopyN(w, r, n); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.String()
}

// A repeated is a text without end, for readers with room for it.
type repeated string

func (s repeated) Read(p []byte) (n int, err error) {
	for n+len(s) <= len(p) {
		n += copy(p[n:], s)
	}
	return n, nil
}

// A layer can make much of little, and the next nothing of much: each has its limit.
func TestEveryLayerIsBounded(t *testing.T) {
	members := repeated(strings.Repeat(zipped(""), 100))
	const limit, much = 1 << 16, 16 << 20
	for _, test := range []struct{ name, coding, body string }{
		{"members of nothing", "gzip, gzip", zippedFrom(t, members, much/int64(len(members))*int64(len(members)))},
		{"zeros behind the end", "gzip, gzip", zippedFrom(t, io.MultiReader(strings.NewReader(zipped(text)), repeated("\x00")), much)},
		{"zeros", "gzip, gzip", zipped(zippedFrom(t, repeated("\x00"), much))},
		{"zeros, thrice", "gzip, gzip, gzip", zipped(zipped(zippedFrom(t, repeated("\x00"), much)))},
		{"zeros in deflate", "gzip, deflate", flated(zippedFrom(t, repeated("\x00"), much))},
		{"zeros for a coding of the caller's", "turn, gzip", zippedFrom(t, repeated("\x00"), much)},
	} {
		t.Run(test.name, func(t *testing.T) {
			rawURL, _ := answering(t, framings[0].send("Content-Encoding: "+test.coding+"\r\n", test.body))
			for _, way := range ways[:2] {
				var r fetch.Result
				got := fetchtest.Allocated(func() {
					r, _ = way.fetch(t, rawURL, fetch.WithMaxBody(limit), withTurn())
				})
				if !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
					t.Errorf("%s: error %v", way.name, r.Err)
				}
				if got > much/2 { // the decoder of the tests keeps what it reads
					t.Errorf("%s: %d bytes allocated", way.name, got)
				}
			}
		})
	}
}

// Without a limit a message of a moment would be decoded for minutes: the timeout ends that.
func TestTheTimeoutEndsTheDecodingOfAMessageThatHasCome(t *testing.T) {
	members := repeated(strings.Repeat(zipped(""), 100))
	many := zippedFrom(t, members, 1<<20*int64(len(members))/1000/int64(len(members))*int64(len(members)))
	for i := 0; i < 3; i++ {
		many = zippedFrom(t, repeated(many), 16*int64(len(many)))
	}
	for _, opts := range [][]fetch.Option{{fetch.WithMaxBody(0)}, {fetch.WithBodyFunc(discard)}} {
		start := time.Now()
		r := fetchtest.GetOne(t, "http://a.example/", append(opts, fetch.WithTimeout(200*time.Millisecond), overCoded("gzip, gzip, gzip, gzip, gzip", many))...)
		if !errors.Is(r.Err, fetch.ErrTimeout) || time.Since(start) > 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), r.Err)
		}
	}
}

// A server that flushes each byte sends several for one, and nothing of that is too much.
func TestTheLimitCountsDecodedBytesOnly(t *testing.T) {
	body := strings.Repeat("x", 64<<10)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i := range body {
		io.WriteString(w, body[i:i+1])
		w.Flush()
	}
	w.Close()
	for _, limit := range []int64{int64(len(body)), 1 << 20, 0} {
		r := fetchtest.GetOne(t, "http://a.example/", overCoded("gzip", b.String()), fetch.WithMaxBody(limit))
		if r.Err != nil || string(r.Body) != body {
			t.Errorf("limit %d: %d bytes for %d sent, %v", limit, len(r.Body), b.Len(), r.Err)
		}
	}
}

// A limit that nothing reaches is as good as none: no number that is worked out from it overflows.
func TestALimitMayBeAsGreatAsANumberCanBe(t *testing.T) {
	for _, limit := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 / 8, math.MaxInt64 / 16, math.MaxInt64/16 - 1} {
		for coding, body := range map[string]string{
			"identity": text, "gzip": zipped(text) + "\n", "deflate": zlibbed(text) + "junk", "gzip, gzip": zipped(zipped(text) + "junk"),
		} {
			for _, framing := range framings {
				rawURL, _ := answering(t, framing.send("Content-Encoding: "+coding+"\r\n", body))
				for _, way := range ways {
					if r, got := way.fetch(t, rawURL, fetch.WithMaxBody(limit)); r.Err != nil || got != text {
						t.Errorf("limit %d, %s, %s, %s: %q, %v", limit, coding, framing.name, way.name, got, r.Err)
					}
				}
			}
		}
	}
}

// What has been decoded is handed on before the message ends.
func TestABodyFuncGetsTheTextBeforeTheEndOfTheMessage(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate", "gzip, gzip"} {
		read := make(chan struct{})
		server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			io.WriteString(w, map[string]string{"gzip": zipped(text), "deflate": zlibbed(text), "gzip, gzip": zipped(zipped(text))}[coding])
			http.NewResponseController(w).Flush()
			select {
			case <-read:
			case <-time.After(10 * time.Second):
				t.Errorf("%s: nothing was decoded", coding)
			}
			io.WriteString(w, "\n")
		})
		r := fetchtest.GetOne(t, server.URL, fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
			got := make([]byte, len(text))
			if _, err := io.ReadFull(body, got); err != nil || string(got) != text {
				return fmt.Errorf("%q, %w", got, err)
			}
			close(read)
			_, err := body.Read(got)
			if err != io.EOF {
				return fmt.Errorf("no end: %w", err)
			}
			return nil
		}))
		if r.Err != nil {
			t.Errorf("%s: %v", coding, r.Err)
		}
	}
}

// The message is read to its end, so that its connection can be used again.
func TestAConnectionIsUsedAgainWhateverIsBehindTheEnd(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, zipped(text)+strings.Repeat("\x00", 20_000))
	})
	urls := fetchtest.Numbered(server.URL, 10)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1))
	fetchtest.MustAllBeFine(t, urls, results)
	if n := conns.Opened(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
