package h1

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

func TestASocketIsQuietUntilSomethingComes(t *testing.T) {
	for name, test := range map[string]struct {
		do    func(server *net.TCPConn)
		quiet bool
	}{
		"nothing":      {func(*net.TCPConn) {}, true},
		"a byte":       {func(server *net.TCPConn) { io.WriteString(server, "x") }, false},
		"the end":      {func(server *net.TCPConn) { server.Close() }, false},
		"half the end": {func(server *net.TCPConn) { server.CloseWrite() }, false},
		"a reset": {func(server *net.TCPConn) {
			server.SetLinger(0)
			server.Close()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := sockets(t)
			s := NewSocket(client, nothing)
			if !s.Quiet() {
				t.Error("not quiet before anything came")
			}
			test.do(server)
			checkQuiet(t, s.Quiet, test.quiet)
		})
	}
}

// checkQuiet checks what something comes to be.
func checkQuiet(t *testing.T, quiet func() bool, want bool) {
	t.Helper()
	if want {
		time.Sleep(20 * time.Millisecond)
	}
	if !eventually(func() bool { return quiet() == want }) {
		t.Errorf("quiet is not %v", want)
	}
}

func TestASocketThatIsClosedIsNotQuiet(t *testing.T) {
	client, _ := sockets(t)
	closed := 0
	s := NewSocket(client, func(*Socket) { closed++ })
	s.Close()
	s.Close()
	if s.Quiet() || closed != 1 {
		t.Errorf("quiet, or closed %d times", closed)
	}
}

// What a socket takes from the wire is looked at, and stays there.
func TestALookTakesNothing(t *testing.T) {
	client, server := sockets(t)
	s := NewSocket(client, nothing)
	io.WriteString(server, "hello")
	checkQuiet(t, s.Quiet, false)
	p := make([]byte, 5)
	if _, err := io.ReadFull(s, p); string(p) != "hello" {
		t.Errorf("%q, %v", p, err)
	}
	checkQuiet(t, s.Quiet, true)
}

// A connection that cannot be asked is not quiet, and nobody waits for it.
func TestAConnectionThatCannotBeAskedIsNotQuiet(t *testing.T) {
	tcp, server := sockets(t)
	client := struct{ net.Conn }{tcp} // without its methods
	if NewSocket(client, nothing).Quiet() {
		t.Error("quiet")
	}
	records := NewRecords(NewSocket(client, nothing))
	secured := shakeHands(t, records, server, tls.VersionTLS13, nil)
	done := make(chan bool)
	go func() { done <- NewTLSConn(secured.client, records, new(overs)).Quiet() }()
	select {
	case quiet := <-done:
		if quiet {
			t.Error("quiet over TLS")
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	client.Close()
}

// An encrypted connection, with both its ends.
type encrypted struct {
	client, server *tls.Conn
}

func shakeHands(t *testing.T, client, server net.Conn, version uint16, change func(*tls.Config)) encrypted {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version}
	if change != nil {
		change(config)
	}
	e := encrypted{tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(0)}), tls.Server(server, config)}
	shaken := make(chan error)
	go func() { shaken <- e.server.Handshake() }()
	if err := e.client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return e
}

// A relay stands between the server and its socket, and can hold bytes back.
type relay struct {
	*net.TCPConn
	held []byte
	hold bool
}

func (r *relay) Write(p []byte) (int, error) {
	if r.hold {
		r.held = append(r.held, p...)
		return len(p), nil
	}
	return r.TCPConn.Write(p)
}

func TestAnEncryptedConnectionIsQuietUntilSomethingComes(t *testing.T) {
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		for _, test := range []struct {
			name  string
			do    func(e encrypted, server *relay)
			quiet bool
		}{
			{"nothing", func(encrypted, *relay) {}, true}, // but the tickets of TLS 1.3
			{"a byte", func(e encrypted, _ *relay) { io.WriteString(e.server, "x") }, false},
			{"an empty record", func(e encrypted, _ *relay) { e.server.Write(nil) }, true},
			{"close_notify", func(e encrypted, _ *relay) { e.server.CloseWrite() }, false},
			{"the end", func(e encrypted, _ *relay) { e.server.Close() }, false},
			{"the end, without close_notify", func(_ encrypted, server *relay) { server.Close() }, false},
			{"a reset", func(_ encrypted, server *relay) {
				server.SetLinger(0)
				server.Close()
			}, false},
			{"no TLS", func(_ encrypted, server *relay) { io.WriteString(server, "HTTP/1.1 408 Request Timeout\r\n\r\n") }, false},
			{"a part of a header", func(_ encrypted, server *relay) { server.Write([]byte{23, 3, 3}) }, false},
			{"a header", func(_ encrypted, server *relay) { server.Write([]byte{23, 3, 3, 0, 50}) }, false},
			{"a part of a record", func(e encrypted, server *relay) {
				server.hold = true
				io.WriteString(e.server, "hello")
				server.TCPConn.Write(server.held[:len(server.held)-1])
			}, false},
			{"a whole record and a part of one", func(e encrypted, server *relay) {
				server.hold = true
				io.WriteString(e.server, "hello")
				n := len(server.held)
				io.WriteString(e.server, "world")
				server.TCPConn.Write(server.held[:n+7])
			}, false},
			{"an alert", func(_ encrypted, server *relay) { server.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, false},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				client, server := sockets(t)
				records := NewRecords(NewSocket(client, nothing))
				r := &relay{TCPConn: server}
				e := shakeHands(t, records, r, version, nil)
				c := NewTLSConn(e.client, records, new(overs))
				checkQuiet(t, c.Quiet, true)
				test.do(e, r)
				checkQuiet(t, c.Quiet, test.quiet)
				if !test.quiet {
					return
				}
				// A look breaks nothing.
				go io.WriteString(e.server, "hello")
				p := make([]byte, 5)
				if _, err := io.ReadFull(e.client, p); string(p) != "hello" {
					t.Errorf("%q, %v", p, err)
				}
				checkQuiet(t, c.Quiet, true)
			})
		}
	}
}

// A message of a handshake in the clear, such as one to negotiate anew, is refused.
func TestAHandshakeInTheClearIsRefused(t *testing.T) {
	client, server := sockets(t)
	records := NewRecords(NewSocket(client, nothing))
	e := shakeHands(t, records, server, tls.VersionTLS12, nil)
	c := NewTLSConn(e.client, records, new(overs))
	// A HelloRequest.
	server.Write([]byte{22, 3, 3, 0, 4, 0, 0, 0, 0})
	checkQuiet(t, c.Quiet, false)
}

// Records are followed wherever the wire cuts them.
func TestRecordsAreFollowedByteForByte(t *testing.T) {
	wire := []byte{22, 3, 3, 0, 3, 'a', 'b', 'c', 23, 3, 3, 1, 0}
	wire = append(wire, make([]byte, 256)...)
	wire = append(wire, 21, 3, 3, 0, 0)
	ends := map[int]bool{0: true, 8: true, 8 + 5 + 256: true, len(wire): true}
	for size := 1; size < 20; size++ {
		r := NewRecords(nil)
		for at := 0; at < len(wire); {
			n := min(size, len(wire)-at)
			r.follow(wire[at : at+n])
			at += n
			if r.whole() != ends[at] {
				t.Fatalf("%d at a time: whole is %v at %d", size, r.whole(), at)
			}
		}
	}
}

// The alert that ends TLS may find no room, when a server reads nothing.
func TestCloseDoesNotWaitForAServerThatReadsNothing(t *testing.T) {
	client, server := sockets(t)
	records := NewRecords(NewSocket(client, nothing))
	e := shakeHands(t, records, server, tls.VersionTLS13, nil)
	c := NewTLSConn(e.client, records, new(overs))
	for p, n := make([]byte, 1<<20), 1; n > 0; { // until there is no room for a byte
		client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, _ = client.Write(p)
	}
	client.SetWriteDeadline(time.Time{})
	start := time.Now()
	c.Close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestCloseTellsTheServerSo(t *testing.T) {
	client, server := sockets(t)
	records := NewRecords(NewSocket(client, nothing))
	e := shakeHands(t, records, server, tls.VersionTLS13, nil)
	NewTLSConn(e.client, records, new(overs)).Close()
	// Without the alert it would be the end of the connection as well: the alert makes a record.
	wire, err := io.ReadAll(server) // a reset, as the tickets were not read
	if len(wire) < recordHeaderLen || wire[0] != 23 {
		t.Errorf("%x, %v", wire, err)
	}
}
