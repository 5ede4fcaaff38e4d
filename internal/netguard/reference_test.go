package netguard_test

import (
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The reference turns everything around: it lists what is public, as ranges of
// numbers, and knows neither prefixes nor netip.
type span struct{ first, last *big.Int }

var public4 = spans(
	"1.0.0.0", "9.255.255.255",
	"11.0.0.0", "100.63.255.255",
	"100.128.0.0", "126.255.255.255",
	"128.0.0.0", "169.253.255.255",
	"169.255.0.0", "172.15.255.255",
	"172.32.0.0", "191.255.255.255",
	"192.0.1.0", "192.0.1.255",
	"192.0.3.0", "192.31.195.255",
	"192.31.197.0", "192.52.192.255",
	"192.52.194.0", "192.88.98.255",
	"192.88.100.0", "192.167.255.255",
	"192.169.0.0", "192.175.47.255",
	"192.175.49.0", "198.17.255.255",
	"198.20.0.0", "198.51.99.255",
	"198.51.101.0", "203.0.112.255",
	"203.0.114.0", "223.255.255.255",
)

var public6 = spans(
	"2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
	"2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"2003::", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
	"2620:4f:8001::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)

// Each of these is followed by 2^32 addresses that stand for IPv4.
var wrappers = []string{"::ffff:0:0", "64:ff9b::"}

// FuzzPublic compares Public with the reference. IPv4 addresses are also
// tried in each of their IPv6 wrappings.
func FuzzPublic(f *testing.F) {
	for _, s := range slices.Concat(public4, public6) {
		for _, edge := range []*big.Int{s.first, s.last} {
			for step := int64(-1); step <= 1; step++ {
				f.Add(addrBytes(new(big.Int).Add(edge, big.NewInt(step))), "")
			}
		}
	}
	f.Add(addrBytes(number("fe80::1")), "eth0")
	f.Add(addrBytes(number("2606:4700::1111")), "1")
	f.Add(addrBytes(number("::ffff:8.8.8.8")), "0")
	f.Add(addrBytes(number("64:ff9b::808:808")), "lo")
	f.Add([]byte{}, "")

	f.Fuzz(func(t *testing.T, raw []byte, zone string) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		checkPublic(t, addr.WithZone(zone), referencePublic(raw) && (addr.Is4() || zone == ""))
		if addr.Is4() {
			for _, base := range wrappers {
				wrapped := append(net.ParseIP(base).To16()[:12:12], raw...)
				checkPublic(t, netip.AddrFrom16([16]byte(wrapped)), referencePublic(raw))
			}
		}
	})
}

func referencePublic(raw []byte) bool {
	n := new(big.Int).SetBytes(raw)
	if len(raw) == net.IPv4len {
		return inSpans(public4, n)
	}
	for _, base := range wrappers {
		if low := new(big.Int).Sub(n, number(base)); low.Sign() >= 0 && low.BitLen() <= 32 {
			return inSpans(public4, low)
		}
	}
	return inSpans(public6, n)
}

func inSpans(list []span, n *big.Int) bool {
	return slices.ContainsFunc(list, func(s span) bool {
		return s.first.Cmp(n) <= 0 && n.Cmp(s.last) <= 0
	})
}

func spans(edges ...string) []span {
	var list []span
	for pair := range slices.Chunk(edges, 2) {
		list = append(list, span{number(pair[0]), number(pair[1])})
	}
	return list
}

func number(text string) *big.Int {
	ip := net.ParseIP(text)
	if !strings.Contains(text, ":") {
		ip = ip.To4()
	}
	return new(big.Int).SetBytes(ip)
}

// addrBytes gives four bytes for what fits into them.
func addrBytes(n *big.Int) []byte {
	if n.BitLen() <= 32 {
		return n.FillBytes(make([]byte, net.IPv4len))
	}
	return n.FillBytes(make([]byte, net.IPv6len))
}
