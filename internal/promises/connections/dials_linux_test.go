package connections_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Case 16. A queue of connections that is full does not answer any more.
func TestADialThatNobodyAnswers(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for full := false; !full; {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			defer conn.Close()
		}
	}
	urls := []string{"http://" + address, "https://" + address}
	t.Run("until the end of the attempt", func(t *testing.T) {
		before := fetchtest.ResourcesInUse()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(100*time.Millisecond), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			if !errors.Is(r.Err, fetch.ErrTimeout) || r.Attempts != 2 {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		before.Check(t)
	})
	t.Run("until the end of the dial, with a POST", func(t *testing.T) {
		before := fetchtest.ResourcesInUse()
		transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 100 * time.Millisecond}).DialContext}
		for _, target := range urls {
			r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "POST", target, strings.NewReader("body")), fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
			if !errors.Is(r.Err, fetch.ErrTimeout) || !fetchtest.As[*net.OpError](r.Err) || r.Attempts != 2 {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		transport.CloseIdleConnections()
		before.Check(t)
	})
}
