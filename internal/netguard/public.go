package netguard

import (
	"net/netip"
	"slices"
)

// RegistryDate is the date of the IANA special-purpose address registries that
// [Public] goes by.
const RegistryDate = "2026-07-18"

// Public reports whether addr is a unicast address of the public Internet,
// going by the IANA special-purpose address registries of [RegistryDate].
//
// An IPv4-mapped address, and one in the NAT64 prefix 64:ff9b::/96, is as
// public as the IPv4 address inside. Everything else in IPv6 has to be within
// 2000::/3, so that space assigned later is not public until listed here. The
// invalid address and addresses with a zone are not public.
//
// Some addresses are private without being listed anywhere, and pass: public
// ones of the caller's own network, those that a cloud provider routes to its
// control plane, and the NAT64 prefixes that a network chooses for itself.
func Public(addr netip.Addr) bool {
	// Unmap drops the zone, so this comes first.
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		return !contains(reserved4, addr)
	case nat64.Contains(addr):
		return Public(embedded4(addr))
	default:
		return global6.Contains(addr) && !contains(reserved6, addr)
	}
}

var (
	// nat64 is translated to IPv4 on the way (RFC 6052). Networks without
	// IPv4 reach most of the Web through it, so it cannot simply be denied.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")

	// global6 is the only space from which global unicast addresses have
	// been assigned (RFC 3587).
	global6 = netip.MustParsePrefix("2000::/3")
)

// reserved4 is the IPv4 part of the special-purpose registry, and multicast.
// The rows that the registry calls globally reachable are here too: they are for
// name servers, tunnels and NAT traversal, never for HTTP.
var reserved4 = parsePrefixes(
	"0.0.0.0/8",       // this network; many systems connect to themselves (RFC 1122)
	"10.0.0.0/8",      // private (RFC 1918)
	"100.64.0.0/10",   // behind a provider's NAT (RFC 6598)
	"127.0.0.0/8",     // loopback (RFC 1122)
	"169.254.0.0/16",  // link-local, cloud metadata (RFC 3927)
	"172.16.0.0/12",   // private (RFC 1918)
	"192.0.0.0/24",    // protocol assignments (RFC 6890)
	"192.0.2.0/24",    // documentation (RFC 5737)
	"192.31.196.0/24", // AS112 (RFC 7535)
	"192.52.193.0/24", // multicast tunnels (RFC 7450)
	"192.88.99.0/24",  // 6to4 relays, retired (RFC 7526)
	"192.168.0.0/16",  // private (RFC 1918)
	"192.175.48.0/24", // AS112 (RFC 7534)
	"198.18.0.0/15",   // benchmarks (RFC 2544)
	"198.51.100.0/24", // documentation (RFC 5737)
	"203.0.113.0/24",  // documentation (RFC 5737)
	"224.0.0.0/4",     // multicast (RFC 5771)
	"240.0.0.0/4",     // reserved, and broadcast (RFC 1112, RFC 919)
)

// reserved6 is what the special-purpose registry takes out of global6.
var reserved6 = parsePrefixes(
	"2001::/23",         // protocol assignments, among them Teredo (RFC 2928, RFC 4380)
	"2001:db8::/32",     // documentation (RFC 3849)
	"2002::/16",         // 6to4, which carries any IPv4 address (RFC 3056)
	"2620:4f:8000::/48", // AS112 (RFC 7534)
	"3fff::/20",         // documentation (RFC 9637)
)

// embedded4 returns the last 32 bits of addr, where a 96-bit NAT64 prefix
// leaves the IPv4 address (RFC 6052, section 2.2).
func embedded4(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	return prefixes
}
