package faults_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

var everywhere = []protocol{http1, http1TLS, http2}
var onTLS = []protocol{http1TLS, http2}

func TestFaultsOfLookupAndConnect(t *testing.T) {
	// What net keeps for all lookups must not be made in the virtual time of one.
	resolverOf(replying(dnsNoName)).LookupHost(t.Context(), "name.example")
	runFaults(t, connectFaults())
}

func connectFaults() []fault {
	return []fault{
		{number: 13, name: "nobody listens", on: everywhere, errs: []error{syscall.ECONNREFUSED}, cause: fetchtest.As[*net.OpError], again: anyMethod},
		{number: 14, name: "closed once a request has come", wire: func(*faultPeer) {}, errs: []error{io.EOF}, again: ifIdempotent},
		{number: 14, name: "closed once a request has come", frames: (*faultFrames).close, errs: []error{io.ErrUnexpectedEOF}, again: ifIdempotent},
		{number: 15, name: "reset once a request has come", wire: cutHard, errs: []error{syscall.ECONNRESET}, cause: fetchtest.As[*net.OpError], again: ifIdempotent},
		{number: 15, name: "reset once a request has come", frames: func(f *faultFrames) { cutHard(f.faultPeer) }, errs: []error{syscall.ECONNRESET}, cause: fetchtest.As[*net.OpError], again: ifIdempotent},

		{number: 17, name: "no such name", client: resolving(replying(dnsNoName)), target: named, cause: dnsError(net.DNSError{IsNotFound: true}), again: never},
		{number: 17, name: "a name without address", client: resolving(replying(dnsFine)), target: named, cause: dnsError(net.DNSError{IsNotFound: true}), again: never},
		{number: 18, name: "the name server fails", client: resolving(replying(dnsFailure)), target: named, cause: fetchtest.As[*net.DNSError], again: anyMethod},
		{number: 18, name: "the name server refuses", client: resolving(replying(dnsRefused)), target: named, cause: fetchtest.As[*net.DNSError], again: never},
		{number: 19, name: "the name server is silent", client: resolving(silentNameServer), target: named, virtual: true, opts: []fetch.Option{fetch.WithTimeout(0)},
			errs: []error{fetch.ErrTimeout, context.DeadlineExceeded}, cause: fetchtest.As[*net.DNSError], again: anyMethod},
		{number: 19, name: "the name server is silent for longer than the attempt", client: resolving(silentNameServer), target: named, virtual: true, opts: []fetch.Option{fetch.WithTimeout(time.Second)},
			errs: []error{fetch.ErrTimeout, context.DeadlineExceeded}, again: ifIdempotent},
		{number: 19, name: "the name server talks rubbish", client: resolving(rubbish), target: named, virtual: true,
			cause: fetchtest.As[*net.DNSError], again: never},
		{number: 20, name: "one of two addresses is dead", client: resolving(replying(dnsFine, net.IPv6loopback, net.IP{127, 0, 0, 1})), target: named,
			handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }, on: []protocol{http1}, body: "ok", code: 200},

		{number: 23, name: "an unknown authority", on: onTLS, handler: unused, tls: with(fetchtest.Certificates().Unknown), cause: certificateError[x509.UnknownAuthorityError], sent: none},
		{number: 23, name: "the certificate of another host", on: onTLS, handler: unused, tls: with(fetchtest.Certificates().Elsewhere), cause: certificateError[x509.HostnameError], sent: none},
		{number: 23, name: "an expired certificate", on: onTLS, handler: unused, tls: with(fetchtest.Certificates().Expired), cause: certificateError[x509.CertificateInvalidError], sent: none},
		{number: 24, name: "TLS 1.1 only", on: []protocol{http1TLS}, handler: unused, tls: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, cause: fetchtest.As[*net.OpError], sent: none},
		{number: 24, name: "a certificate of the client is wanted", on: []protocol{http1TLS}, accepted: demand(tls.VersionTLS13), cause: fetchtest.As[*net.OpError]},
		{number: 24, name: "a certificate of the client is wanted in TLS 1.2", on: onTLS, accepted: demand(tls.VersionTLS12), cause: fetchtest.As[*net.OpError]},
		{number: 25, name: "the handshake breaks off", on: onTLS, accepted: readRecord, errs: []error{io.EOF}, again: ifOwn(anyMethod, ifIdempotent)},
		{number: 25, name: "the handshake gets no answer", on: onTLS, accepted: hold, virtual: true, client: func(_ *faultServer, c *http.Transport) { c.TLSHandshakeTimeout = time.Second },
			errs: []error{fetch.ErrTimeout, context.DeadlineExceeded}, again: anyMethod},
		{number: 26, name: "https where http is spoken", on: onTLS, accepted: func(p *faultPeer) {
			readRecord(p)
			io.WriteString(p, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			hold(p)
		}, errs: []error{fetch.ErrProtocol}, cause: fetchtest.As[tls.RecordHeaderError]},
		{number: 26, name: "http where https is spoken", on: []protocol{http1TLS}, handler: unused, target: func(base string) string { return strings.Replace(base, "https", "http", 1) }, sent: none,
			code: 400, body: "Client sent an HTTP request to an HTTPS server.\n"},
		{number: 27, name: "HTTP/2 is agreed on and junk spoken", frames: func(f *faultFrames) {
			io.WriteString(f, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			hold(f.faultPeer)
		}, errs: []error{fetch.ErrProtocol}, again: garbled},

		{number: 28, name: "a proxy that does not run", on: everywhere, client: throughProxy, errs: []error{syscall.ECONNREFUSED}, again: anyMethod},
		{number: 28, name: "a proxy that wants a password", on: onTLS, client: throughProxy, proxy: answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"), cause: says("proxy refused: 407")},
		{number: 28, name: "a proxy that wants a password, for http", on: []protocol{http1}, client: throughProxy, proxy: answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"), code: 407},
		{number: 28, name: "a proxy whose answer does not end", on: onTLS, client: throughProxy, proxy: func(p *faultPeer) {
			io.WriteString(p, "HTTP/1.1 200 OK\r\n")
			flood("X: yyyyyyyyyyyyyy\r\n")(p)
		}, errs: []error{io.ErrUnexpectedEOF}, cause: proxyConnect, again: anyMethod},
		{number: 28, name: "a proxy that closes the connection", on: onTLS, client: throughProxy, proxy: func(p *faultPeer) { http.ReadRequest(bufio.NewReader(p)) },
			errs: []error{io.ErrUnexpectedEOF}, cause: proxyConnect, again: anyMethod},
		{number: 28, name: "a proxy that resets the connection", on: onTLS, client: throughProxy, proxy: func(p *faultPeer) {
			http.ReadRequest(bufio.NewReader(p))
			fetchtest.Reset(p.Conn)
		}, errs: []error{syscall.ECONNRESET}, cause: proxyConnect, again: anyMethod},
		{number: 28, name: "a proxy that answers with garbage", on: onTLS, client: throughProxy, proxy: answering(fetchtest.Canary + "\r\n\r\n"), cause: proxyConnect, again: anyMethod},
		{number: 28, name: "a tunnel that is closed in the handshake", on: onTLS, client: throughProxy, proxy: func(p *faultPeer) {
			http.ReadRequest(bufio.NewReader(p))
			io.WriteString(p, "HTTP/1.1 200 OK\r\n\r\n")
			readRecord(p)
		}, errs: []error{io.EOF}, cause: proxyConnect, again: anyMethod},
		{number: 28, name: "a tunnel to what is no TLS", on: onTLS, client: throughProxy, proxy: func(p *faultPeer) {
			http.ReadRequest(bufio.NewReader(p))
			io.WriteString(p, "HTTP/1.1 200 OK\r\n\r\n")
			readRecord(p)
			io.WriteString(p, fetchtest.Canary)
			hold(p)
		}, cause: proxyConnect, again: anyMethod},
	}
}

// proxyConnect reports whether an error is a failure to connect through a proxy.
func proxyConnect(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "proxyconnect"
}

// unused is the handler of a server that no request gets to.
func unused(http.ResponseWriter, *http.Request) {}

// with is a server with another certificate.
func with(certificate tls.Certificate) func(*tls.Config) {
	return func(c *tls.Config) { c.Certificates[0] = certificate }
}

// readRecord reads a record of TLS: to close a connection with something unread is a reset.
func readRecord(p *faultPeer) {
	head := make([]byte, 5)
	io.ReadFull(p, head)
	io.CopyN(io.Discard, p, int64(binary.BigEndian.Uint16(head[3:])))
}

// demand demands a certificate of the client, which has none, in TLS of a version up to the given one.
func demand(version uint16) func(*faultPeer) {
	return func(p *faultPeer) {
		config := p.server.tlsConfig()
		config.ClientAuth, config.MaxVersion = tls.RequireAnyClientCert, version
		tls.Server(p, config).Handshake()
		hold(p) // closing with something unread would be a reset, and the alert lost
	}
}

// A certificateError is one that shows which is wrong with the certificate.
func certificateError[T error](err error) bool {
	return fetchtest.As[*tls.CertificateVerificationError](err) && fetchtest.As[T](err)
}

func dnsError(want net.DNSError) func(error) bool {
	return func(err error) bool {
		got, ok := errors.AsType[*net.DNSError](err)
		return ok && got.IsNotFound == want.IsNotFound && got.IsTemporary == want.IsTemporary && got.IsTimeout == want.IsTimeout
	}
}

// named is a URL that has a name for the host.
func named(base string) string {
	host := "name.example"
	if _, port, ok := strings.Cut(strings.TrimPrefix(base, "http://"), ":"); ok {
		host += ":" + port
	}
	return "http://" + fetchtest.Canary + "@" + host + "/?" + fetchtest.Canary
}

// resolverOf returns a resolver that asks a name server which gives these
// answers; nil is none.
func resolverOf(answer func(query []byte) []byte) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := fetchtest.NewMemoryConns("nameserver")
		go func() {
			defer server.Close()
			for {
				var length [2]byte // which DNS has on a stream
				if _, err := io.ReadFull(server, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				if reply := answer(query); reply != nil {
					server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			}
		}()
		return client, nil
	}}
}

// resolving has the name looked up at such a name server.
func resolving(answer func(query []byte) []byte) func(*faultServer, *http.Transport) {
	resolver := resolverOf(answer)
	return func(_ *faultServer, transport *http.Transport) {
		direct, dialer := transport.DialContext, &net.Dialer{Resolver: resolver}
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if direct != nil && !strings.HasPrefix(address, "name.example") {
				return direct(ctx, network, address)
			}
			return dialer.DialContext(ctx, network, address)
		}
	}
}

// Replies of a name server (RFC 1035).
const (
	dnsFine    = 0
	dnsFailure = 2
	dnsNoName  = 3
	dnsRefused = 5
)

// replying gives these addresses in reply to questions for their kind.
func replying(code byte, addresses ...net.IP) func(query []byte) []byte {
	return func(query []byte) []byte {
		end := 12
		for query[end] != 0 {
			end += int(query[end]) + 1
		}
		end += 5
		kind := query[end-3]
		var records []byte
		var count byte
		for _, ip := range addresses {
			if (len(ip) == net.IPv4len) == (kind == 1) {
				count++
				records = append(records, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, byte(len(ip)))
				records = append(records, ip...)
			}
		}
		reply := append(query[:2:2], 0x81, 0x80|code, 0, 1, 0, count, 0, 0, 0, 0)
		reply = append(reply, query[12:end]...)
		return append(reply, records...)
	}
}

func silentNameServer([]byte) []byte { return nil }

func rubbish(query []byte) []byte { return append(query[:2:2], "rubbish"...) }

// throughProxy sends the requests for the server to the proxy.
func throughProxy(s *faultServer, transport *http.Transport) {
	transport.Proxy = func(req *http.Request) (*url.URL, error) {
		if req.URL.Host != s.host {
			return nil, nil
		}
		return url.Parse("http://user:" + fetchtest.Canary + "@" + s.proxyHost)
	}
}

// answering reads the head of a request, sends a reply and waits.
func answering(reply string) func(*faultPeer) {
	return func(p *faultPeer) {
		if _, err := http.ReadRequest(bufio.NewReader(p)); err == nil {
			io.WriteString(p, reply)
			hold(p)
		}
	}
}

// ifOwn is for what only the own client can tell: on TLS the others are injected.
func ifOwn(own, injected again) again {
	if ownTLS() {
		return own
	}
	return injected
}
