package fetchtest

import (
	"errors"
	"net"
	"syscall"
)

// ErrLeft is the cause that the tests cancel with.
var ErrLeft = errors.New("the user left")

// ErrRefused is the error of net/http for a host that refuses connections, and ErrReset
// that for a connection that dies.
var (
	ErrRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	ErrReset   = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)
