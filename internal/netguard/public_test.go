package netguard_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/netguard"
)

// One row for each row of the registries, and for the space they do not
// mention. Both ends of the prefix must be denied; below and above tell
// whether the neighbours of the prefix are public.
var registry = []struct {
	name         string
	prefix       string
	below, above bool
}{
	{"this network", "0.0.0.0/8", false, true},
	{"private, class A", "10.0.0.0/8", true, true},
	{"private, class B", "172.16.0.0/12", true, true},
	{"private, class C", "192.168.0.0/16", true, true},
	{"carrier-grade NAT", "100.64.0.0/10", true, true},
	{"metadata inside carrier-grade NAT", "100.100.100.200/32", false, false},
	{"loopback", "127.0.0.0/8", true, true},
	{"link-local", "169.254.0.0/16", true, true},
	{"metadata inside link-local", "169.254.169.254/32", false, false},
	{"protocol assignments", "192.0.0.0/24", true, true},
	{"service continuity", "192.0.0.0/29", true, false},
	{"dummy address", "192.0.0.8/32", false, false},
	{"port control anycast", "192.0.0.9/32", false, false},
	{"TURN anycast", "192.0.0.10/32", false, false},
	{"NAT64 discovery", "192.0.0.170/31", false, false},
	{"metadata inside protocol assignments", "192.0.0.192/32", false, false},
	{"documentation 1", "192.0.2.0/24", true, true},
	{"documentation 2", "198.51.100.0/24", true, true},
	{"documentation 3", "203.0.113.0/24", true, true},
	{"AS112, by DNAME", "192.31.196.0/24", true, true},
	{"AS112, direct", "192.175.48.0/24", true, true},
	{"multicast tunnels", "192.52.193.0/24", true, true},
	{"6to4 relays", "192.88.99.0/24", true, true},
	{"6a44 relay", "192.88.99.2/32", false, false},
	{"benchmarks", "198.18.0.0/15", true, true},
	{"multicast", "224.0.0.0/4", true, false},
	{"reserved", "240.0.0.0/4", false, false},
	{"broadcast", "255.255.255.255/32", false, false},

	{"unspecified", "::/128", false, false},
	{"loopback", "::1/128", false, false},
	{"IPv4-compatible", "::/96", false, false},
	{"IPv4-translated", "::ffff:0:0:0/96", false, false},
	{"IPv4-mapped", "::ffff:0:0/96", false, false},
	{"NAT64", "64:ff9b::/96", false, false},
	{"NAT64, local", "64:ff9b:1::/48", false, false},
	{"discard", "100::/64", false, false},
	{"dummy prefix", "100:0:0:1::/64", false, false},
	{"protocol assignments", "2001::/23", true, true},
	{"Teredo", "2001::/32", true, false},
	{"port control anycast", "2001:1::1/128", false, false},
	{"TURN anycast", "2001:1::2/128", false, false},
	{"service registration anycast", "2001:1::3/128", false, false},
	{"benchmarks", "2001:2::/48", false, false},
	{"multicast tunnels", "2001:3::/32", false, false},
	{"AS112, by DNAME", "2001:4:112::/48", false, false},
	{"ORCHID", "2001:10::/28", false, false},
	{"ORCHID 2", "2001:20::/28", false, false},
	{"remote identification", "2001:30::/28", false, false},
	{"documentation", "2001:db8::/32", true, true},
	{"documentation, large", "3fff::/20", true, true},
	{"6to4", "2002::/16", true, true},
	{"AS112, direct", "2620:4f:8000::/48", true, true},
	{"segment routing", "5f00::/16", false, false},
	{"unique local", "fc00::/7", false, false},
	{"metadata inside unique local", "fd00:ec2::254/128", false, false},
	{"link-local", "fe80::/10", false, false},
	{"site-local", "fec0::/10", false, false},
	{"multicast", "ff00::/8", false, false},
	{"everything before global unicast", "::/3", false, true},
	{"the quarter after global unicast", "4000::/2", true, false},
	{"the upper half", "8000::/1", false, false},
}

func TestPublicFollowsTheRegistries(t *testing.T) {
	for _, row := range registry {
		t.Run(row.name+" "+row.prefix, func(t *testing.T) {
			prefix := netip.MustParsePrefix(row.prefix)
			first, last := prefix.Addr(), lastAddr(prefix)
			checkPublic(t, first, false)
			checkPublic(t, last, false)
			checkPublic(t, first.Prev(), row.below)
			checkPublic(t, last.Next(), row.above)
		})
	}
}

func TestPublicLetsTheInternetThrough(t *testing.T) {
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.9.9.9", "100.128.0.1", "151.101.1.69", "172.32.0.1",
		"185.199.108.153", "192.0.1.1", "192.169.0.1", "198.20.0.1", "223.255.255.254",
		"2001:200::1", "2001:4860:4860::8888", "2003::1", "2400:cb00::1", "2600::",
		"2606:4700::1111", "2620:fe::fe", "2803:f800::1", "2a00:1450::1", "2c0f:f248::1",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::101:101",
	} {
		checkPublic(t, netip.MustParseAddr(text), true)
	}
}

func TestPublicSeesThroughDisguises(t *testing.T) {
	for name, text := range map[string]string{
		"mapped loopback":              "::ffff:127.0.0.1",
		"mapped private":               "::ffff:10.0.0.1",
		"mapped metadata, hexadecimal": "::ffff:a9fe:a9fe",
		"compatible loopback":          "::127.0.0.1",
		"compatible public":            "::8.8.8.8",
		"translated public":            "::ffff:0:808:808",
		"NAT64 of loopback":            "64:ff9b::127.0.0.1",
		"NAT64 of private":             "64:ff9b::192.168.0.1",
		"NAT64 of metadata":            "64:ff9b::a9fe:a9fe",
		"local NAT64 of public":        "64:ff9b:1::8.8.8.8",
		"public beside NAT64":          "64:ff9b::1:808:808",
		"public beside mapped":         "::fffe:808:808",
		"6to4 of loopback":             "2002:7f00:1::",
		"6to4 of public":               "2002:808:808::1",
		"Teredo":                       "2001:0:808:808::f7f7:f7f7",
		"zone on link-local":           "fe80::1%eth0",
		"zone on public":               "2606:4700::1111%eth0",
		"zone on mapped public":        "::ffff:8.8.8.8%eth0",
		"zone on NAT64 of public":      "64:ff9b::8.8.8.8%eth0",
	} {
		t.Run(name, func(t *testing.T) { checkPublic(t, netip.MustParseAddr(text), false) })
	}
	t.Run("no address", func(t *testing.T) { checkPublic(t, netip.Addr{}, false) })
}

func TestRegistryDateIsADay(t *testing.T) {
	if _, err := time.Parse(time.DateOnly, netguard.RegistryDate); err != nil {
		t.Error(err)
	}
}

func checkPublic(t *testing.T, addr netip.Addr, want bool) {
	t.Helper()
	if got := netguard.Public(addr); got != want {
		t.Errorf("Public(%v) = %t, want %t", addr, got, want)
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
