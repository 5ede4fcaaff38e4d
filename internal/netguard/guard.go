// Package netguard decides which addresses belong to the public Internet, and
// keeps a [net.Dialer] away from all others, so that a URL from a stranger
// cannot reach the services behind the caller's own firewall.
//
// The decision is taken on the address of each single connect, after names
// have been looked up: neither an odd spelling of a host nor a name that
// changes its address between two lookups gets around it.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrBlocked is wrapped by every error of [Guard.ControlContext]: the
// connection was refused on this side, before any packet left for the address.
var ErrBlocked = errors.New("address blocked")

// A Guard permits connections to public addresses and to the prefixes given to
// [New]. It never changes and is safe for concurrent use. The zero Guard
// permits public addresses only.
//
// A Guard sees connects and nothing else: not the requests that go over a
// connection already open, not the destinations behind a proxy, and not the
// queries that look a name up.
type Guard struct {
	allow []netip.Prefix // valid, and none of 96 bits or more IPv4-mapped
}

// New returns a Guard that permits, besides public addresses, those in allow.
// It keeps no reference to allow.
//
// The host bits of a prefix do not matter. An IPv4-mapped prefix of 96 bits or
// more stands for the IPv4 prefix inside it; any other IPv6 prefix, ::/0
// included, covers no IPv4 address. An address in the NAT64 prefix
// 64:ff9b::/96 is allowed by a prefix that holds the IPv6 address, not by one
// that holds the IPv4 address within. A prefix allows its addresses in every
// zone. One that is not valid is an error, which tells its index.
func New(allow ...netip.Prefix) (*Guard, error) {
	prefixes := make([]netip.Prefix, len(allow))
	for i, p := range allow {
		if !p.IsValid() {
			return nil, fmt.Errorf("allow[%d]: invalid prefix (address %v)", i, p.Addr())
		}
		prefixes[i] = unmapPrefix(p)
	}
	return &Guard{allow: prefixes}, nil
}

// ControlContext refuses the connection if the Guard does not permit its
// address. It is made for the field of that name in [net.Dialer], which calls
// it for each address it is about to connect to, and then ignores its field
// Control.
//
// It fails closed: the network must be tcp4 or tcp6, and the address an IP
// address with a port, which may be any. All errors wrap [ErrBlocked], and
// none shows the address, which would tell a stranger how names resolve on the
// inside. The [net.OpError] that the dialer wraps around them does show it.
func (g *Guard) ControlContext(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %q is neither tcp4 nor tcp6", ErrBlocked, network)
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		// The parser's own error quotes the address, so it is dropped.
		return fmt.Errorf("%w: not an IP address with a port", ErrBlocked)
	}
	if !g.permits(target.Addr()) {
		return fmt.Errorf("%w: not public", ErrBlocked)
	}
	return nil
}

func (g *Guard) permits(addr netip.Addr) bool {
	if Public(addr) {
		return true
	}
	// A zoned address is in no prefix. Link-local addresses need their zone,
	// so it is taken off here, lest fe80::/10 could never be allowed.
	addr = addr.WithZone("").Unmap()
	return contains(g.allow, addr)
}

// unmapPrefix does for a prefix what [netip.Addr.Unmap] does for an address,
// because netip finds no IPv4 address in an IPv4-mapped prefix.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	const mappedBits = 96
	if !p.Addr().Is4In6() || p.Bits() < mappedBits {
		return p
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
}
