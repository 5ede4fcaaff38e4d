package netguard_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

// A nameServer answers every question over UDP on loopback with the same
// addresses: IPv4 ones to A, IPv6 ones to AAAA (RFC 1035, RFC 3596).
type nameServer struct {
	addrs atomic.Pointer[[]netip.Addr]
}

// answer replaces the addresses, also while the server runs.
func (s *nameServer) answer(texts ...string) *nameServer {
	addrs := make([]netip.Addr, len(texts))
	for i, text := range texts {
		addrs[i] = netip.MustParseAddr(text)
	}
	s.addrs.Store(&addrs)
	return s
}

// start serves until the test ends, and returns a resolver that asks no other
// server.
func (s *nameServer) start(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
		},
	}
}

func (s *nameServer) serve(conn net.PacketConn) {
	query := make([]byte, 1500)
	for {
		n, client, err := conn.ReadFrom(query)
		if err != nil {
			return
		}
		if reply := s.reply(query[:n]); reply != nil {
			conn.WriteTo(reply, client)
		}
	}
}

const (
	headerBytes = 12
	typeA       = 1
	typeAAAA    = 28
)

func (s *nameServer) reply(query []byte) []byte {
	end := questionEnd(query)
	if end > len(query) {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	var count uint16
	var records []byte
	for _, addr := range *s.addrs.Load() {
		if kind == typeA && addr.Is4() || kind == typeAAAA && addr.Is6() {
			count++
			records = appendRecord(records, kind, addr.AsSlice())
		}
	}

	reply := append([]byte(nil), query[:2]...)          // identifier
	reply = append(reply, 0x81, 0x80)                   // response, recursion desired and available
	reply = binary.BigEndian.AppendUint16(reply, 1)     // questions
	reply = binary.BigEndian.AppendUint16(reply, count) // answers
	reply = append(reply, 0, 0, 0, 0)                   // no authorities, nothing additional
	reply = append(reply, query[headerBytes:end]...)    // the question again
	return append(reply, records...)
}

// questionEnd returns the offset behind the labels, type and class of the
// first question.
func questionEnd(query []byte) int {
	i := headerBytes
	for i < len(query) && query[i] != 0 {
		i += 1 + int(query[i])
	}
	return i + 5
}

func appendRecord(b []byte, kind uint16, data []byte) []byte {
	b = append(b, 0xc0, headerBytes) // the name, as a pointer to the question
	b = binary.BigEndian.AppendUint16(b, kind)
	b = append(b, 0, 1)       // class IN
	b = append(b, 0, 0, 0, 0) // not to be cached
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}
