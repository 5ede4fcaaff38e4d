package fault

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
)

// opError returns the error of net in the chain of err that has one of the operations, or nil.
func opError(err error, ops ...string) *net.OpError {
	var op *net.OpError
	for errors.As(err, &op) {
		if slices.Contains(ops, op.Op) {
			return op
		}
		err = op.Err
	}
	return nil
}

// isFailedDial reports whether no connection came about, for a reason that may pass.
// "proxyconnect" is net/http's name for a dial to a proxy, and "socks connect" for one by it.
func isFailedDial(err error) bool {
	if opError(err, "socks connect") != nil {
		return true
	}
	op := opError(err, "dial", "proxyconnect")
	return op != nil && mayPass(op.Err)
}

// mayPass reports whether a dial failed for a reason of the network. Any other is that of a
// hook, such as net.Dialer.Control, which would say the same again.
func mayPass(err error) bool {
	return is[syscall.Errno](err) || is[*net.DNSError](err) || IsTimeout(err) || isTemporary(err) || isEOF(err) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}

// denial returns the words of a hook that did not let a dial be made, without the address,
// which would tell a stranger where a name leads; "" if err is another error.
func denial(err error) string {
	op := opError(err, "dial")
	if op == nil || op.Addr == nil || op.Err == nil || mayPass(op.Err) || isTLS(err) || is[*net.AddrError](err) {
		return ""
	}
	address := op.Addr.String()
	text := strings.ReplaceAll(op.Err.Error(), address, hidden)
	if host, _, err := net.SplitHostPort(address); err == nil {
		text = strings.ReplaceAll(text, host, hidden)
	}
	return "dial denied: " + text
}

const hidden = "..."
