package guard_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The name changes between two dials, but not for a connection that is open already.
func TestGuardChecksANameAtEachDial(t *testing.T) {
	names := answerNames(t, map[string][]string{"rebound.test": {"127.0.0.1"}})
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	wire := newTripwire(t, "127.0.0.2:"+port)
	f := fetchtest.NewFetcher(t, fetch.WithPublicOnly(loopback))
	urls := []string{"http://rebound.test:" + port + "/"}
	fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))

	names.answer("rebound.test", "127.0.0.2")
	fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	if _, _, total := conns.Counts(); total != 1 {
		t.Errorf("%d connections, want the one that was checked", total)
	}
	f.Close()
	results := f.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	checkIsBlocked(t, results[0], "127.0.0.2")
	wire.check(t)
}

// Of several answers the allowed ones are used, whatever their order.
func TestGuardTakesTheAllowedOfSeveralAnswers(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	four, six := newTripwire(t, "127.0.0.2:"+port), newTripwire(t, "[::1]:"+port)
	answerNames(t, map[string][]string{
		"last.test":  {"::1", "127.0.0.2", "10.0.0.1", "127.0.0.1"},
		"first.test": {"127.0.0.1", "127.0.0.2", "::1"},
	})
	urls := []string{"http://last.test:" + port + "/", "http://first.test:" + port + "/"}
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithPublicOnly(loopback)))
	four.check(t)
	six.check(t)
}

// fakeNames answers lookups of Go's own resolver in memory.
type fakeNames struct {
	asked atomic.Int32
	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

// answerNames has names, without a trailing dot, resolve to addresses until the test ends. There are no others.
func answerNames(t testing.TB, names map[string][]string) *fakeNames {
	f := &fakeNames{addrs: map[string][]netip.Addr{}}
	for name, addrs := range names {
		f.answer(name, addrs...)
	}
	namesOfTest.Store(f)
	t.Cleanup(func() { namesOfTest.Store(nil) })
	return f
}

// namesOfTest are those of the test that runs, or nil.
var namesOfTest atomic.Pointer[fakeNames]

// The library's dialer has no Resolver of its own, so that net.DefaultResolver is the place to put
// one. It is never changed again: a dial that a test has abandoned may still look at it.
func init() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, server string) (net.Conn, error) {
		f := namesOfTest.Load()
		if f == nil {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
		client, here := net.Pipe()
		go f.serve(here)
		return client, nil
	}}
}

func (f *fakeNames) answer(name string, addrs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[name] = nil
	for _, addr := range addrs {
		f.addrs[name] = append(f.addrs[name], netip.MustParseAddr(addr))
	}
}

// serve answers on a connection that is no packet connection: as over TCP, each
// message has its length in front (RFC 1035, section 4.2.2).
func (f *fakeNames) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		reply := f.reply(query)
		binary.BigEndian.PutUint16(length[:], uint16(len(reply)))
		if _, err := conn.Write(append(length[:], reply...)); err != nil {
			return
		}
	}
}

// reply answers the one question of a query with A or AAAA records.
func (f *fakeNames) reply(query []byte) []byte {
	f.asked.Add(1)
	const head, a, aaaa = 12, 1, 28
	var labels []string
	end := head
	for query[end] != 0 {
		length := int(query[end])
		labels = append(labels, strings.ToLower(string(query[end+1:end+1+length])))
		end += 1 + length
	}
	end += 5 // the root, type and class
	kind := binary.BigEndian.Uint16(query[end-4:])
	f.mu.Lock()
	addrs, known := f.addrs[strings.Join(labels, ".")]
	f.mu.Unlock()

	var count uint16
	var records []byte
	for _, addr := range addrs {
		if kind == a && addr.Is4() || kind == aaaa && addr.Is6() {
			count++
			records = append(records, 0xc0, head) // the name: that of the question
			records = binary.BigEndian.AppendUint16(records, kind)
			records = append(records, 0, 1, 0, 0, 0, 0) // class IN, not to be kept
			records = binary.BigEndian.AppendUint16(records, uint16(len(addr.AsSlice())))
			records = append(records, addr.AsSlice()...)
		}
	}
	code := byte(0)
	if !known {
		code = 3 // no such name
	}
	reply := append([]byte(nil), query[:2]...)
	reply = append(reply, 0x81, 0x80|code, 0, 1) // a response to one question
	reply = binary.BigEndian.AppendUint16(reply, count)
	reply = append(reply, 0, 0, 0, 0) // no authorities, nothing more
	reply = append(reply, query[head:end]...)
	return append(reply, records...)
}
