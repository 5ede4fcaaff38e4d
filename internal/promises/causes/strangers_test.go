package causes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A sayer is an error that says whether it may pass.
type sayer struct{ timeout, temporary bool }

func (s sayer) Error() string   { return "middleware: not now" }
func (s sayer) Timeout() bool   { return s.timeout }
func (s sayer) Temporary() bool { return s.temporary }

// An odd is an error of a type that nobody knows.
type odd struct{}

func (odd) Error() string { return "odd" }

func TestErrorsOfOthersHaveNoSentinel(t *testing.T) {
	for name, test := range map[string]struct {
		cause    error
		attempts int // of a GET with two retries
		post     int
		kind     error
	}{
		"circuit breaker":     {errors.New("circuit breaker is open"), 1, 1, nil},
		"oauth2":              {errors.New("oauth2: cannot fetch token: 400 Bad Request"), 1, 1, nil},
		"oauth2, by net/http": {&url.Error{Op: "Post", URL: "https://auth.example/token?" + fetchtest.Canary, Err: errors.New("oauth2: cannot fetch token")}, 1, 1, nil},
		"mock":                {fmt.Errorf("Get %q: %w", "http://a.example/", errors.New("no responder found")), 1, 1, nil},
		"a type nobody knows": {odd{}, 1, 1, nil},
		"joined":              {errors.Join(errors.New("one"), odd{}), 1, 1, nil},
		"neither":             {sayer{}, 1, 1, nil},
		"temporary":           {sayer{temporary: true}, 3, 1, nil},
		"timeout":             {sayer{timeout: true}, 3, 1, fetch.ErrTimeout},
		"temporary, wrapped":  {fmt.Errorf("x: %w", sayer{temporary: true}), 3, 1, nil},
		"HTTP/3 rejected":     {errors.New("H3_REQUEST_REJECTED (remote): " + fetchtest.Canary), 3, 3, nil},
		"HTTP/3 cancelled":    {errors.New("H3_REQUEST_CANCELLED"), 3, 1, nil},
		"HTTP/3 broken":       {errors.New("H3_FRAME_ERROR: " + fetchtest.Canary), 1, 1, fetch.ErrProtocol},
		"a reset":             {fmt.Errorf("x: %w", syscall.ECONNRESET), 3, 1, nil},
		"a closed pipe":       {io.ErrClosedPipe, 3, 1, nil},
		"a malformed answer":  {errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "` + fetchtest.Canary + `"`), 1, 1, fetch.ErrProtocol},
	} {
		for method, attempts := range map[string]int{"GET": test.attempts, "POST": test.post} {
			t.Run(name+"/"+method, func(t *testing.T) {
				req := fetchtest.NewRequest(t, method, "http://a.example/", strings.NewReader("body"))
				r := fetchtest.SendOne(t, req, fetchtest.Over(fetchtest.Failing(test.cause)), fetch.WithRetries(2), fetchtest.WithoutBackOff)
				if r.Attempts != attempts || !errors.Is(r.Err, test.cause) {
					t.Errorf("%d attempts, want %d: %v", r.Attempts, attempts, r.Err)
				}
				for _, sentinel := range fetchtest.Sentinels {
					if errors.Is(r.Err, sentinel) != (sentinel == test.kind) {
						t.Errorf("%v: is %v", r.Err, sentinel)
					}
				}
				fetchtest.CheckNoSecret(t, []fetch.Result{r})
			})
		}
	}
}

func TestRetryIfMayRetryAnErrorOfOthers(t *testing.T) {
	open := errors.New("circuit breaker is open")
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(fetchtest.Failing(open)), fetch.WithRetries(2), fetchtest.WithoutBackOff,
		fetch.WithRetryIf(func(r fetch.Result) bool { return errors.Is(r.Err, open) }))
	if r.Attempts != 3 || !strings.Contains(r.Err.Error(), "circuit breaker is open") {
		t.Errorf("%d attempts: %v", r.Attempts, r.Err)
	}
}

func TestABodyThatOthersCutIsTruncated(t *testing.T) {
	for _, proto := range []int{0, 1, 2, 3} {
		for name, cause := range map[string]error{"text": errors.New("stream 4 canceled by remote"), "type": odd{}, "H3": errors.New("H3_INTERNAL_ERROR")} {
			r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				resp := fetchtest.Respond(req, 200, "")
				resp.ProtoMajor, resp.ContentLength = proto, 100
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("start"), fetchtest.ReaderFunc(func([]byte) (int, error) { return 0, cause })))
				return resp, nil
			}), fetch.WithRetries(1), fetchtest.WithoutBackOff)
			if !errors.Is(r.Err, fetch.ErrTruncated) || !errors.Is(r.Err, cause) || r.Attempts != 2 || !strings.Contains(r.Err.Error(), cause.Error()) {
				t.Errorf("%s, HTTP/%d: %d attempts: %v", name, proto, r.Attempts, r.Err)
			}
		}
	}
}

// net.Dialer.Control and ControlContext, as those who keep programs from inner addresses use them.
func TestADialThatAHookDeniesIsMadeOnce(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(http.ResponseWriter, *http.Request) {})
	address := server.Listener.Addr().String()
	var asked atomic.Int32
	deny := func(_, address string, _ syscall.RawConn) error {
		asked.Add(1)
		return fmt.Errorf("prohibited: %s is not public", address)
	}
	for name, dialer := range map[string]*net.Dialer{
		"Control": {Control: deny},
		"ControlContext": {ControlContext: func(_ context.Context, network, address string, c syscall.RawConn) error {
			return deny(network, address, c)
		}},
	} {
		asked.Store(0)
		transport := &http.Transport{DialContext: dialer.DialContext}
		_, port, _ := net.SplitHostPort(address)
		r := fetchtest.GetOne(t, "http://localhost:"+port+"/", fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithRetries(2), fetchtest.WithoutBackOff)
		if r.Attempts != 1 || asked.Load() > 2 || conns.Opened() != 0 { // localhost has an address of each kind
			t.Errorf("%s: %d attempts, asked %d times", name, r.Attempts, asked.Load())
		}
		if text := r.Err.Error(); strings.Contains(text, "127.0.0.1") || strings.Contains(text, "::1") || !strings.Contains(text, "prohibited") {
			t.Errorf("%s: %v", name, r.Err)
		}
		if op, ok := errors.AsType[*net.OpError](r.Err); !ok || op.Op != "dial" || errors.Is(r.Err, fetch.ErrProtocol) {
			t.Errorf("%s: the cause is not in %v", name, r.Err)
		}
	}
}

// Hooks of a Transport are the caller's code as well.
func TestErrorsOfATransportsHooksAreTheCallersWords(t *testing.T) {
	cause := errors.New("no route in the mesh")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, cause }
	for name, transport := range map[string]*http.Transport{
		"DialContext":    {DialContext: dial},
		"DialTLSContext": {DialTLSContext: dial},
		"Proxy":          {Proxy: func(*http.Request) (*url.URL, error) { return nil, cause }},
	} {
		r := fetchtest.GetOne(t, "https://a.example/", fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithRetries(1), fetchtest.WithoutBackOff)
		if r.Attempts != 1 || !errors.Is(r.Err, cause) || errors.Is(r.Err, fetch.ErrProtocol) || !strings.Contains(r.Err.Error(), "mesh") {
			t.Errorf("%s: %d attempts: %v", name, r.Attempts, r.Err)
		}
	}
}

// A body that the caller sends fails with the caller's words.
func TestTheErrorOfARequestBodyIsNoProtocolError(t *testing.T) {
	cause := errors.New("the disk is gone")
	target := fetchtest.Listen(t, func(conn net.Conn, _ string) { fetchtest.UntilClosed(conn) })
	for name, client := range plainAndWrapped(t) {
		req := fetchtest.NewRequest(t, "POST", target, fetchtest.ReaderFunc(func([]byte) (int, error) { return 0, cause }))
		r := fetchtest.SendOne(t, req, fetch.WithClient(client))
		if errors.Is(r.Err, fetch.ErrProtocol) || !strings.Contains(r.Err.Error(), "the disk is gone") {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
}
