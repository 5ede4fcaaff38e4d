package watching_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// join joins the connection of a request with one to the address, until either ends.
func join(w http.ResponseWriter, address string) {
	out, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, "", http.StatusBadGateway)
		return
	}
	defer out.Close()
	w.WriteHeader(http.StatusOK)
	in, read, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(out, read); out.Close() }) // some may have been read already
	both.Go(func() { io.Copy(in, out); in.Close() })
	both.Wait()
}
