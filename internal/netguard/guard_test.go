package netguard_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/netguard"
)

func Example() {
	guard, err := netguard.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	dialer := &net.Dialer{ControlContext: guard.ControlContext}
	_, err = dialer.Dial("tcp", "127.0.0.1:80")
	fmt.Println(errors.Is(err, netguard.ErrBlocked))
	// Output: true
}

func TestGuardPermitsPublicAddressesOnAnyPort(t *testing.T) {
	guard := newGuard(t)
	for _, address := range []string{
		"8.8.8.8:80", "8.8.8.8:22", "8.8.8.8:0", "1.1.1.1:65535",
		"[2606:4700::1111]:443", "[::ffff:8.8.8.8]:443", "[64:ff9b::8.8.8.8]:443",
	} {
		for _, network := range []string{"tcp4", "tcp6"} {
			if err := guard.ControlContext(t.Context(), network, address, nil); err != nil {
				t.Errorf("%s %s: %v", network, address, err)
			}
		}
	}
}

func TestZeroGuardPermitsPublicAddressesOnly(t *testing.T) {
	var guard netguard.Guard
	if err := guard.ControlContext(t.Context(), "tcp4", "8.8.8.8:80", nil); err != nil {
		t.Error(err)
	}
	checkBlocked(t, guard.ControlContext(t.Context(), "tcp4", "127.0.0.1:80", nil))
}

func TestGuardFailsClosed(t *testing.T) {
	everything := newGuard(t, "0.0.0.0/0", "::/0")
	for _, network := range []string{"", "tcp", "TCP4", "udp4", "udp6", "ip4:1", "unix", "unixpacket"} {
		t.Run("network "+network, func(t *testing.T) {
			checkBlocked(t, everything.ControlContext(t.Context(), network, "8.8.8.8:80", nil))
		})
	}
	for _, address := range []string{
		"", ":80", "8.8.8.8", "8.8.8.8:", "8.8.8.8:http", "8.8.8.8:65536", "8.8.8.8:-1", " 8.8.8.8:80",
		"8.8.8.8:80 ", "[8.8.8.8]:80", "8.8.8:80", "008.8.8.8:80", "0x8.8.8.8:80", "134744072:80",
		"2606:4700::1111:443:443:443:443:443", "[2606:4700::1111%]:443", "example.com:80", "/socket",
	} {
		t.Run("address "+address, func(t *testing.T) {
			checkBlocked(t, everything.ControlContext(t.Context(), "tcp4", address, nil))
		})
	}
}

func TestErrorsDoNotShowTheAddress(t *testing.T) {
	guard := newGuard(t)
	for _, address := range []string{"10.11.12.13:80", "10.11.12.13:http", "10.11.12.13"} {
		err := guard.ControlContext(t.Context(), "tcp4", address, nil)
		checkBlocked(t, err)
		if text := err.Error(); !strings.Contains(text, "blocked") || strings.Contains(text, "10.11") {
			t.Errorf("%s: error reads %q", address, text)
		}
	}
}

func TestAllowedPrefixes(t *testing.T) {
	for _, row := range []struct {
		name    string
		allow   []string
		address string
		want    bool
	}{
		{"inside", []string{"10.0.0.0/8"}, "10.1.2.3:80", true},
		{"outside", []string{"10.0.0.0/8"}, "11.1.2.3:80", true}, // public
		{"outside and private", []string{"10.0.0.0/8"}, "192.168.0.1:80", false},
		{"second of two", []string{"10.0.0.0/8", "fd00::/8"}, "[fd00::1]:80", true},
		{"not masked", []string{"10.1.2.3/8"}, "10.255.0.1:80", true},
		{"single address", []string{"127.0.0.1/32"}, "127.0.0.1:80", true},
		{"next to it", []string{"127.0.0.1/32"}, "127.0.0.2:80", false},
		{"mapped address", []string{"10.0.0.0/8"}, "[::ffff:10.1.2.3]:80", true},
		{"mapped prefix", []string{"::ffff:10.0.0.0/104"}, "10.1.2.3:80", true},
		{"mapped prefix and address", []string{"::ffff:10.0.0.0/104"}, "[::ffff:10.1.2.3]:80", true},
		{"outside mapped prefix", []string{"::ffff:10.0.0.0/104"}, "192.168.0.1:80", false},
		{"all that is mapped", []string{"::ffff:0:0/96"}, "192.168.0.1:80", true},
		{"too short to be mapped", []string{"::ffff:0:0/95"}, "192.168.0.1:80", false},
		{"too short but for IPv6", []string{"::ffff:0:0/95"}, "[::fffe:0:1]:80", true},
		{"IPv6 does not cover IPv4", []string{"::/0"}, "192.168.0.1:80", false},
		{"IPv6 does not cover mapped", []string{"::/0"}, "[::ffff:192.168.0.1]:80", false},
		{"IPv4 does not cover IPv6", []string{"0.0.0.0/0"}, "[::1]:80", false},
		{"NAT64 by its own prefix", []string{"64:ff9b::/96"}, "[64:ff9b::10.0.0.1]:80", true},
		{"NAT64 by its IPv4 prefix", []string{"10.0.0.0/8"}, "[64:ff9b::10.0.0.1]:80", false},
		{"zone", []string{"fe80::/10"}, "[fe80::1%eth0]:80", true},
		{"zone outside", []string{"fd00::/8"}, "[fe80::1%eth0]:80", false},
		{"zone on public", []string{"fe80::/10"}, "[2606:4700::1111%eth0]:80", false},
		{"zone on mapped", []string{"10.0.0.0/8"}, "[::ffff:10.0.0.1%eth0]:80", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := newGuard(t, row.allow...).ControlContext(t.Context(), "tcp6", row.address, nil)
			if row.want && err != nil {
				t.Error(err)
			}
			if !row.want {
				checkBlocked(t, err)
			}
		})
	}
}

func TestNewNamesTheInvalidPrefix(t *testing.T) {
	valid := netip.MustParsePrefix("10.0.0.0/8")
	for _, row := range []struct {
		invalid netip.Prefix
		address string
	}{
		{netip.PrefixFrom(netip.MustParseAddr("192.168.0.1"), 33), "192.168.0.1"},
		{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), -1), "::ffff:10.0.0.1"},
		{netip.Prefix{}, "invalid IP"},
	} {
		guard, err := netguard.New(valid, row.invalid)
		if guard != nil || err == nil {
			t.Fatalf("New(%v, %v) = %v, %v, want an error", valid, row.invalid, guard, err)
		}
		for _, want := range []string{"allow[1]", row.address} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not contain %q", err, want)
			}
		}
	}
}

func TestNewNeitherKeepsNorChangesTheSlice(t *testing.T) {
	loopback := netip.MustParsePrefix("127.0.0.1/8")
	allow := []netip.Prefix{loopback}
	guard, err := netguard.New(allow...)
	if err != nil {
		t.Fatal(err)
	}
	if allow[0] != loopback {
		t.Errorf("New changed the prefix to %v", allow[0])
	}
	allow[0] = netip.MustParsePrefix("10.0.0.0/8")
	if err := guard.ControlContext(t.Context(), "tcp4", "127.0.0.1:80", nil); err != nil {
		t.Error("prefix of New lost:", err)
	}
	checkBlocked(t, guard.ControlContext(t.Context(), "tcp4", "10.0.0.1:80", nil))
}

func TestHostileSpellingsNeverReachTheListener(t *testing.T) {
	for _, row := range []struct{ name, listen, host string }{
		{"plain", "127.0.0.1", "127.0.0.1"},
		{"mapped", "127.0.0.1", "[::ffff:127.0.0.1]"},
		{"mapped, hexadecimal", "127.0.0.1", "[::ffff:7f00:1]"},
		{"mapped, with zone", "127.0.0.1", "[::ffff:127.0.0.1%" + loopbackName(t) + "]"},
		{"unspecified", "127.0.0.1", "0.0.0.0"},
		{"unspecified, mapped", "127.0.0.1", "[::ffff:0.0.0.0]"},
		{"unspecified IPv6", "::1", "[::]"},
		{"empty", "127.0.0.1", ""},
		{"IPv6", "::1", "[::1]"},
		{"IPv6 in full", "::1", "[0:0:0:0:0:0:0:1]"},
		{"IPv6 with zone", "::1", "[::1%" + loopbackName(t) + "]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			listener := listen(t, row.listen)
			address := row.host + ":" + port(listener)
			dialer := &net.Dialer{ControlContext: newGuard(t).ControlContext}
			checkBlocked(t, dial(t, dialer, "tcp", address))
			checkUntouched(t, listener, address)
		})
	}
}

func TestAllowedAddressIsReached(t *testing.T) {
	listener := listen(t, "127.0.0.1")
	dialer := &net.Dialer{ControlContext: newGuard(t, "127.0.0.0/8").ControlContext}
	if err := dial(t, dialer, "tcp", listener.Addr().String()); err != nil {
		t.Error(err)
	}
}

func TestOtherNetworksAreBlocked(t *testing.T) {
	everything := newGuard(t, "0.0.0.0/0", "::/0")
	dialer := &net.Dialer{ControlContext: everything.ControlContext}
	checkBlocked(t, dial(t, dialer, "udp", "127.0.0.1:9"))

	// Names of sockets must be short, and those of t.TempDir are not.
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Skip("no Unix sockets:", err)
	}
	defer listener.Close()
	checkBlocked(t, dial(t, dialer, "unix", listener.Addr().String()))
}

func TestEveryAnswerIsCheckedAndOnlyPublicOnesPass(t *testing.T) {
	for _, row := range []struct {
		listen, public string
		hostile        []string
	}{
		{"127.0.0.1", "8.8.8.8", []string{
			"127.0.0.1", "0.0.0.0", "10.0.0.1", "100.100.100.200", "169.254.169.254", "192.0.0.192",
			"::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
		}},
		{"::1", "2606:4700::1111", []string{
			"::1", "::", "::7f00:1", "64:ff9b::7f00:1", "2001::1", "2002:7f00:1::1", "fd00:ec2::254",
		}},
	} {
		t.Run(row.listen, func(t *testing.T) {
			listener := listen(t, row.listen)
			var record recorder
			dialer := &net.Dialer{
				Resolver:       new(nameServer).answer(append(row.hostile, row.public)...).start(t),
				ControlContext: record.watch(newGuard(t)),
			}
			if err := dial(t, dialer, "tcp", "mixed.test.:"+port(listener)); err == nil {
				t.Error("connected")
			}
			checkUntouched(t, listener, listener.Addr().String())
			if got, want := record.permitted(), []string{net.JoinHostPort(row.public, port(listener))}; !slices.Equal(got, want) {
				t.Errorf("permitted %v, want %v", got, want)
			}
		})
	}
}

func TestAllowedAnswerIsUsedAndBlockedOnesAreNot(t *testing.T) {
	safe := listen(t, "127.0.0.1")
	unsafe, err := net.Listen("tcp", "[::1]:"+port(safe))
	if err != nil {
		t.Skip("no second listener on the same port:", err)
	}
	defer unsafe.Close()
	dialer := &net.Dialer{
		Resolver:       new(nameServer).answer("::1", "127.0.0.2", "127.0.0.1", "10.0.0.1").start(t),
		ControlContext: newGuard(t, "127.0.0.1/32").ControlContext,
	}
	if err := dial(t, dialer, "tcp", "mixed.test.:"+port(safe)); err != nil {
		t.Error(err)
	}
	checkUntouched(t, unsafe, unsafe.Addr().String())
}

func TestReboundNameIsCheckedAgain(t *testing.T) {
	listener := listen(t, "127.0.0.1")
	address := "rebound.test.:" + port(listener)
	server := new(nameServer).answer("8.8.8.8")
	var record recorder
	dialer := &net.Dialer{Resolver: server.start(t), ControlContext: record.watch(newGuard(t))}

	if err := dial(t, dialer, "tcp4", address); !errors.Is(err, errHeld) {
		t.Errorf("public address: %v, want it permitted", err)
	}
	server.answer("127.0.0.1")
	checkBlocked(t, dial(t, dialer, "tcp4", address))
	checkUntouched(t, listener, listener.Addr().String())
	if got, want := record.permitted(), []string{"8.8.8.8:" + port(listener)}; !slices.Equal(got, want) {
		t.Errorf("permitted %v, want %v", got, want)
	}
}

func TestNumericNamesNeverReachTheListener(t *testing.T) {
	listener := listen(t, "127.0.0.1")
	dialer := &net.Dialer{
		Resolver:       new(nameServer).answer("127.0.0.1").start(t),
		ControlContext: newGuard(t).ControlContext,
	}
	// Resolvers differ: that of Go takes 0x7f.1 for a name and refuses the
	// other numbers, that of the C library makes 127.0.0.1 of all of them.
	for _, host := range []string{"127.1.", "0177.0.0.1.", "2130706433.", "0x7f.1.", "localhost.test."} {
		if err := dial(t, dialer, "tcp4", host+":"+port(listener)); err == nil {
			t.Errorf("connected to %s", host)
		}
	}
	checkUntouched(t, listener, listener.Addr().String())
}

// errHeld stops connects that the guard permitted, so that the tests send
// nothing to the public addresses in them.
var errHeld = errors.New("permitted, but held back by the test")

// A recorder keeps the addresses that a guard permitted.
type recorder struct {
	mu        sync.Mutex // dialers connect to IPv4 and IPv6 at the same time
	addresses []string
}

func (r *recorder) watch(guard *netguard.Guard) func(context.Context, string, string, syscall.RawConn) error {
	return func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := guard.ControlContext(ctx, network, address, c); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.addresses = append(r.addresses, address)
		return errHeld
	}
}

// permitted returns each permitted address once, in order.
func (r *recorder) permitted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(r.addresses)))
}

func newGuard(t *testing.T, allow ...string) *netguard.Guard {
	t.Helper()
	prefixes := make([]netip.Prefix, len(allow))
	for i, text := range allow {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	guard, err := netguard.New(prefixes...)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

func listen(t *testing.T, host string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip("cannot listen:", err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func port(listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func loopbackName(t *testing.T) string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(interfaces, func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 })
	if i < 0 {
		t.Skip("no loopback interface")
	}
	return interfaces[i].Name
}

func dial(t *testing.T, dialer *net.Dialer, network, address string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil {
		conn.Close()
	}
	return err
}

func checkBlocked(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, netguard.ErrBlocked) {
		t.Errorf("got error %v, want ErrBlocked", err)
	}
}

// checkUntouched reports whether anything connected to listener before now. It
// connects to address itself, without a guard: connections are accepted in
// their order, so that one has to come out first. That it comes out at all
// shows that address leads to the listener.
func checkUntouched(t *testing.T, listener net.Listener, address string) {
	t.Helper()
	probe, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal("cannot probe the listener:", err)
	}
	defer probe.Close()
	first, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if port := func(a net.Addr) int { return a.(*net.TCPAddr).Port }; port(first.RemoteAddr()) != port(probe.LocalAddr()) {
		t.Errorf("%v had reached the listener before", first.RemoteAddr())
	}
}
