package h1

import (
	"syscall"
	"unsafe"
)

var wsaPoll = syscall.NewLazyDLL("ws2_32.dll").NewProc("WSAPoll")

// A pollFD is WSAPOLLFD of winsock2.h.
type pollFD struct {
	socket  uintptr
	events  int16
	revents int16
}

// canLook reports whether isSilent works here.
func canLook() bool { return wsaPoll.Find() == nil }

// isSilent reports whether a read would have to wait.
func isSilent(fd uintptr) bool {
	const readable = 0x0100 | 0x0200 // POLLIN: POLLRDNORM, POLLRDBAND
	p := pollFD{socket: fd, events: readable}
	ready, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
	return int32(ready) == 0
}
