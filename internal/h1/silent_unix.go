//go:build unix

package h1

import "syscall"

// canLook reports whether isSilent works here.
func canLook() bool { return true }

// isSilent reports whether a read would have to wait. The sockets of package net never block.
func isSilent(fd uintptr) bool {
	var p [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		}
	}
}
