package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/netguard"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/rs/dnscache"
	"golang.org/x/net/proxy"
)

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

// newHTTP3 returns a server for HTTP/3 with the certificate of another, and a client that trusts it.
func newHTTP3(t *testing.T, handler http.HandlerFunc) (url string, transport *http3.Transport) {
	t.Helper()
	other := newTLSServer(t, hello)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	server := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: other.TLS.Certificates})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(conn)
	}()
	transport = &http3.Transport{TLSClientConfig: trusting(other)}
	t.Cleanup(func() {
		transport.Close()
		server.Close()
		conn.Close()
		<-served
	})
	return "https://" + conn.LocalAddr().String(), transport
}

// With quic-go a batch speaks HTTP/3. A body that is cut is truncated, and a request that the server
// did not process is retried, of whatever method.
func TestHTTP3(t *testing.T) {
	var rejected, cut atomic.Int64
	url, transport := newHTTP3(t, func(w http.ResponseWriter, r *http.Request) {
		reset := func(code http3.ErrCode) {
			stream, err := w.(http3.HTTPStreamer).HTTPStream()
			if err != nil {
				panic(err)
			}
			if w.Header().Get("Content-Length") != "" { // its head has been sent
				io.WriteString(stream, "begin")
				time.Sleep(20 * time.Millisecond) // or that is lost with the stream
			}
			stream.CancelWrite(quic.StreamErrorCode(code))
			stream.CancelRead(quic.StreamErrorCode(code))
		}
		switch {
		case r.URL.Path == "/rejected" && rejected.Add(1) < 3:
			reset(http3.ErrCodeRequestRejected)
		case r.URL.Path == "/internal":
			reset(http3.ErrCodeInternalError)
		case r.URL.Path == "/cut" && cut.Add(1) < 2, r.URL.Path == "/always-cut":
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
			reset(http3.ErrCodeInternalError)
		default:
			fmt.Fprint(w, r.Proto)
		}
	})
	client := fetch.WithClient(&http.Client{Transport: transport})
	for _, r := range get(t, numbered(url, 20), client) {
		if r.Proto != "HTTP/3.0" || string(r.Body) != "HTTP/3.0" {
			t.Errorf("%s: %q %q, %v", r.URL, r.Proto, r.Body, r.Err)
		}
	}
	retries := []fetch.Option{client, fetch.WithRetries(3), fetch.WithBackoff(0, 0)}
	f, err := fetch.New(retries...)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url+"/rejected", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	// quic-go sends it once more itself, which fetch does not see.
	if r := f.Do(t.Context(), req); !r.OK() || r.Attempts < 2 {
		t.Errorf("rejected: %d, %v after %d attempts", r.StatusCode, r.Err, r.Attempts)
	}
	if r := getOne(t, url+"/cut", retries...); !r.OK() || r.Attempts != 2 {
		t.Errorf("cut: %d, %v after %d attempts", r.StatusCode, r.Err, r.Attempts)
	}
	if r := getOne(t, url+"/always-cut", client); !errors.Is(r.Err, fetch.ErrTruncated) {
		t.Errorf("always cut: %v", r.Err)
	}
	if r := getOne(t, url+"/internal", client); r.Err == nil || errors.Is(r.Err, fetch.ErrTruncated) {
		t.Errorf("internal: %v", r.Err)
	}
}

// A dead SOCKS5 proxy of x/net/proxy is a failure to connect: it is retried and counts against its host.
func TestSOCKS5(t *testing.T) {
	s := newServer(t, hello)
	through := func(address string) fetch.Option {
		dialer, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DialContext: dialer.(proxy.ContextDialer).DialContext, MaxIdleConnsPerHost: 4}
		t.Cleanup(transport.CloseIdleConnections)
		return fetch.WithClient(&http.Client{Transport: transport})
	}
	socks := newSOCKS5(t, 0)
	mustBeFine(t, get(t, numbered(s.URL, 20), through(socks.Addr().String()), fetch.WithConcurrency(4)), "hello")

	refusing := newSOCKS5(t, 5)
	results := get(t, numbered(s.URL, 20), through(refusing.Addr().String()), fetch.WithConcurrency(1), fetch.WithMaxHostFailures(3))
	down := 0
	for _, r := range results {
		if errors.Is(r.Err, fetch.ErrHostDown) {
			down++
		}
		if r.Err == nil || errors.Is(r.Err, fetch.ErrProtocol) {
			t.Errorf("%v", r.Err)
		}
	}
	if down != 17 {
		t.Errorf("%d URLs were given up", down)
	}
	if r := getOne(t, s.URL, through(refusing.Addr().String()), fetch.WithRetries(2), fetch.WithBackoff(0, 0)); r.Attempts != 3 {
		t.Errorf("%v after %d attempts", r.Err, r.Attempts)
	}
}

// newSOCKS5 is a proxy that connects, or refuses with a code of RFC 1928, section 6.
func newSOCKS5(t *testing.T, code byte) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveSOCKS5(conn, code)
		}
	}()
	return l
}

func serveSOCKS5(conn net.Conn, code byte) {
	defer conn.Close()
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	io.ReadFull(conn, make([]byte, head[1])) // the methods
	conn.Write([]byte{5, 0})
	request := make([]byte, 10) // of an IPv4 address
	if _, err := io.ReadFull(conn, request); err != nil {
		return
	}
	conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
	if code != 0 {
		return
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte(request[4:8])), uint16(request[8])<<8|uint16(request[9]))
	out, err := net.Dial("tcp", address.String())
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		io.Copy(out, conn)
		out.Close()
	}()
	io.Copy(conn, out)
}

// dnscache looks a name up once for all URLs of many batches.
func TestDnscache(t *testing.T) {
	s := newServer(t, hello)
	lookups := &countingResolver{}
	resolver := &dnscache.Resolver{Resolver: lookups}
	transport := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		addresses, err := resolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(addresses[0], port))
	}}
	defer transport.CloseIdleConnections()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	client := fetch.WithClient(&http.Client{Transport: transport})
	for _, n := range []int{1, 100} { // of several lookups at once it may do more than one
		mustBeFine(t, get(t, numbered("http://cached.example:"+port, n), client), "hello")
	}
	if n := lookups.n.Load(); n != 1 {
		t.Errorf("%d lookups", n)
	}
}

type countingResolver struct{ n atomic.Int64 }

func (r *countingResolver) LookupHost(context.Context, string) ([]string, error) {
	r.n.Add(1)
	time.Sleep(time.Millisecond)
	return []string{"127.0.0.1"}, nil
}

func (r *countingResolver) LookupAddr(context.Context, string) ([]string, error) { return nil, nil }

// The guard of code.dny.dev/ssrf as a Control of one's own client: its denial is final, and shows no address.
func TestSSRFAsControl(t *testing.T) {
	s := newServer(t, hello)
	transport := &http.Transport{DialContext: (&net.Dialer{Control: ssrf.New(ssrf.WithAnyPort()).Safe}).DialContext}
	r := getOne(t, s.URL, fetch.WithClient(&http.Client{Transport: transport}), fetch.WithRetries(3))
	if !errors.Is(r.Err, ssrf.ErrProhibitedIP) || r.Attempts != 1 || s.opened() != 0 {
		t.Errorf("%v after %d attempts, %d connections", r.Err, r.Attempts, s.opened())
	}
	if text := strings.ReplaceAll(r.Err.Error(), s.URL, ""); strings.Contains(text, "127.0.0.1") {
		t.Errorf("the address shows in %q", text)
	}
	if r := getOne(t, s.URL, fetch.WithPublicOnly(), fetch.WithRetries(3)); !errors.Is(r.Err, fetch.ErrBlocked) || r.Attempts != 1 {
		t.Errorf("the guard of fetch: %v after %d attempts", r.Err, r.Attempts)
	}
}

// The tables of netguard and of code.dny.dev/ssrf have been made by others from the same registries.
// They agree on a dense sample of addresses: both ends of each prefix, and one of every
// 65,536 of IPv4, and of IPv6 within each /16 of the space that is assigned.
func TestNetguardAgreesWithSSRF(t *testing.T) {
	guardian := ssrf.New(ssrf.WithAnyPort())
	n := 0
	check := func(addr netip.Addr) {
		if !addr.IsValid() {
			return
		}
		n++
		want := guardian.SafeAddr(addr) == nil
		if ssrf.IPv6NAT64Prefix.Contains(addr) { // netguard looks at the address inside
			inside := addr.As16()
			want = guardian.SafeAddr(netip.AddrFrom4([4]byte(inside[12:]))) == nil
		}
		if got := netguard.Public(addr); got != want {
			t.Errorf("%v: public %v, by ssrf %v", addr, got, want)
		}
	}
	for _, prefixes := range [][]netip.Prefix{ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes, {ssrf.IPv6GlobalUnicast, ssrf.IPv6NAT64Prefix}} {
		for _, p := range prefixes {
			last := lastOf(p)
			for _, addr := range []netip.Addr{p.Addr(), p.Addr().Prev(), p.Addr().Next(), last, last.Next(), last.Prev()} {
				check(addr)
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range uint32(1 << 16) {
		low := random.Uint32()
		check(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), byte(low >> 8), byte(low)}))
		v6 := [16]byte{byte(i >> 8), byte(i)}
		for j := 2; j < 16; j++ {
			v6[j] = byte(random.Uint32())
		}
		check(netip.AddrFrom16(v6))
		v6[0], v6[1] = 0x20, 0x01 // where the registry has most
		v6[2], v6[3] = byte(i>>8), byte(i)
		check(netip.AddrFrom16(v6))
		nat64 := ssrf.IPv6NAT64Prefix.Addr().As16()
		nat64[12], nat64[13], nat64[14], nat64[15] = byte(i>>8), byte(i), byte(low>>8), byte(low)
		check(netip.AddrFrom16(nat64))
	}
	t.Logf("%d addresses", n)
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}
