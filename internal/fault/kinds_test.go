package fault

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/retry"
)

var sentinels = []error{
	ErrInvalidURL, ErrTimeout, ErrBodyTooLarge, ErrTruncated, ErrProtocol, ErrRedirect, ErrBlocked, ErrHostDown, ErrHostPaused,
}

func dialed(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 80}, Err: err}
}

func read(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }

// http2 is an error as net/http has it for a stream that was reset.
func http2(code uint32) error { return fmt.Errorf("http2: %w", streamError{StreamID: 1, Code: code}) }

// timedOut is an error that says it is a timeout.
type timedOut struct{}

func (timedOut) Error() string { return "late" }
func (timedOut) Timeout() bool { return true }

// The kind of an error of a RoundTripper, the retry that it leaves open, and whether it counts
// against its host.
func TestErrorsOfSending(t *testing.T) {
	netHTTP := Way{NetHTTP: true, Connected: true}
	tunnelled := Way{NetHTTP: true, Tunnelled: true}
	for _, test := range []struct {
		name  string
		err   error
		way   Way
		kind  error
		cause retry.Cause
		down  bool
	}{
		{"refused dial", dialed(syscall.ECONNREFUSED), netHTTP, nil, retry.NotSent, true},
		{"dial of others", dialed(syscall.ECONNREFUSED), Way{}, nil, retry.NotSent, true},
		{"dial that timed out", dialed(os.ErrDeadlineExceeded), netHTTP, ErrTimeout, retry.NotSent, true},
		{"dial that a hook denied", dialed(errors.New("no")), netHTTP, nil, retry.Final, false},
		{"dial without descriptors", dialed(os.NewSyscallError("socket", syscall.EMFILE)), netHTTP, nil, retry.NotSent, false},
		{"no such host", &net.DNSError{Err: "no such host", IsNotFound: true}, netHTTP, nil, retry.Final, true},
		{"no such host in a dial", dialed(&net.DNSError{Err: "no such host", IsNotFound: true}), netHTTP, nil, retry.Final, true},
		{"lookup that may pass", &net.DNSError{Err: "server misbehaving", IsTemporary: true}, netHTTP, nil, retry.NotSent, true},
		{"lookup that timed out", &net.DNSError{Err: "i/o timeout", IsTimeout: true}, netHTTP, ErrTimeout, retry.NotSent, true},
		{"blocked address", dialed(fmt.Errorf("hook: %w", ErrBlocked)), netHTTP, ErrBlocked, retry.Final, false},
		{"certificate", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, netHTTP, nil, retry.Final, true},
		{"alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, netHTTP, nil, retry.Final, true},
		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, netHTTP, ErrProtocol, retry.Final, false},
		{"slow handshake", handshakeTimeout{}, netHTTP, ErrTimeout, retry.NotSent, true},
		{"reset", read(syscall.ECONNRESET), netHTTP, nil, retry.Interrupted, false},
		{"read that timed out", read(os.ErrDeadlineExceeded), netHTTP, ErrTimeout, retry.Interrupted, true},
		{"end", io.EOF, netHTTP, nil, retry.Interrupted, false},
		{"unexpected end", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), netHTTP, nil, retry.Interrupted, false},
		{"closed", net.ErrClosed, netHTTP, nil, retry.Interrupted, false},
		{"timeout of others", timedOut{}, Way{}, ErrTimeout, retry.Interrupted, true},
		{"deadline", context.DeadlineExceeded, netHTTP, ErrTimeout, retry.Interrupted, true},
		{"cancel", context.Canceled, netHTTP, nil, retry.Final, false},
		{"idle connection", errors.New("http: server closed idle connection"), netHTTP, nil, retry.Interrupted, false},
		{"GOAWAY", errors.New("http2: Transport received GOAWAY from server ErrCode:0"), netHTTP, nil, retry.NotSent, true},
		{"refused stream", http2(7), netHTTP, ErrProtocol, retry.NotSent, true},
		{"reset stream", http2(2), netHTTP, ErrProtocol, retry.Interrupted, false},
		{"protocol error of a stream", http2(1), netHTTP, ErrProtocol, retry.Final, false},
		{"garbled", errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "x"`), netHTTP, ErrProtocol, retry.Final, false},
		{"unknown words of net/http", errors.New("something new"), netHTTP, ErrProtocol, retry.Final, false},
		{"unknown words before a connection", errors.New("something new"), Way{NetHTTP: true}, nil, retry.Final, false},
		{"words of others", errors.New("something"), Way{Connected: true}, nil, retry.Final, false},
		{"words of a request's body", fmt.Errorf("x: %w", errBody), Way{NetHTTP: true, Connected: true, Body: errBody}, nil, retry.Final, false},
		{"proxy that refuses", errors.New("Forbidden"), Way{NetHTTP: true, Tunnelled: true}, nil, retry.Final, false},
		{"proxy that is busy", errors.New("Service Unavailable"), Way{NetHTTP: true, Tunnelled: true}, nil, retry.NotSent, false},
		{"proxy that closes", io.ErrUnexpectedEOF, tunnelled, nil, retry.NotSent, true},
		{"proxy that resets", read(syscall.ECONNRESET), tunnelled, nil, retry.NotSent, true},
		{"proxy with garbage", errors.New(`malformed HTTP response "x"`), tunnelled, nil, retry.NotSent, true},
		{"proxy that is silent", context.DeadlineExceeded, tunnelled, ErrTimeout, retry.NotSent, true},
		{"no TLS behind a proxy", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, tunnelled, nil, retry.NotSent, true},
		{"certificate behind a proxy", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, tunnelled, nil, retry.Final, true},
		{"cancel of a tunnel", context.Canceled, tunnelled, nil, retry.Final, false},
		{"bad request for a proxy", errors.New("net/http: invalid header field name"), Way{NetHTTP: true, Tunnelled: true}, ErrInvalidURL, retry.Final, false},
		{"end behind a tunnel", io.EOF, Way{NetHTTP: true, Tunnelled: true, Connected: true}, nil, retry.Interrupted, false},
		{"tunnel of the own client", ownTunnel{0, errors.New("something new")}, netHTTP, nil, retry.NotSent, true},
		{"tunnel of the own client that closes", ownTunnel{0, io.EOF}, netHTTP, nil, retry.NotSent, true},
		{"refusal to the own client", ownTunnel{403, nil}, netHTTP, nil, retry.Final, false},
		{"dial to a proxy of the own client", ownTunnel{0, dialed(syscall.ECONNREFUSED)}, netHTTP, nil, retry.NotSent, true},
	} {
		err := OfSend(test.err, test.way)
		checkKind(t, test.name, err, test.kind)
		cause := CauseOf(err)
		if cause != test.cause {
			t.Errorf("%s: cause %d, want %d", test.name, cause, test.cause)
		}
		if down := IsConnectFailure(err, cause); down != test.down {
			t.Errorf("%s: counts against its host: %v", test.name, down)
		}
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v does not wrap its cause", test.name, err)
		}
	}
}

var errBody = errors.New("body")

// An ownTunnel is a tunnelError.
type ownTunnel struct {
	status int
	cause  error
}

func (ownTunnel) Error() string      { return "tunnel" }
func (t ownTunnel) Unwrap() error    { return t.cause }
func (t ownTunnel) ProxyStatus() int { return t.status }

// handshakeTimeout is as net/http has it.
type handshakeTimeout struct{}

func (handshakeTimeout) Error() string { return "net/http: TLS handshake timeout" }
func (handshakeTimeout) Timeout() bool { return true }

// checkKind checks that an error is of one kind, or of none.
func checkKind(t *testing.T, name string, err, want error) {
	t.Helper()
	for _, kind := range sentinels {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("%s: %q is %v: %v", name, err, kind, kind != want)
		}
	}
	if timeout := want == ErrTimeout; errors.Is(err, ErrTimeout) != IsTimeout(err) || timeout && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %q: Timeout() is %v", name, err, IsTimeout(err))
	}
}

func TestErrorsOfReading(t *testing.T) {
	own := New(ErrBodyTooLarge, errors.New("more"))
	for _, test := range []struct {
		name  string
		err   error
		major int
		kind  error
		cause retry.Cause
	}{
		{"end", io.ErrUnexpectedEOF, 1, ErrTruncated, retry.Interrupted},
		{"reset", read(syscall.ECONNRESET), 1, ErrTruncated, retry.Interrupted},
		{"timeout", read(os.ErrDeadlineExceeded), 1, ErrTimeout, retry.Interrupted},
		{"reset stream", http2(2), 2, ErrTruncated, retry.Interrupted},
		{"refused stream", http2(7), 2, ErrTruncated, retry.NotSent},
		{"anything on HTTP/2", errors.New("x"), 2, ErrTruncated, retry.Interrupted},
		{"anything", errors.New("x"), 1, ErrTruncated, retry.Interrupted},
		{"chunks", errors.New("malformed chunked encoding"), 1, ErrProtocol, retry.Final},
		{"trailer", errors.New("http: unexpected EOF reading trailer"), 1, ErrTruncated, retry.Interrupted},
		{"lost connection", errors.New("http2: client connection lost"), 1, ErrTruncated, retry.Interrupted},
		{"gzip header", gzip.ErrHeader, 1, ErrProtocol, retry.Final},
		{"gzip checksum", gzip.ErrChecksum, 2, ErrProtocol, retry.Final},
		{"deflate", flate.CorruptInputError(1), 1, ErrProtocol, retry.Final},
		{"impossible count", ErrInvalidRead, 1, ErrProtocol, retry.Final},
		{"no progress", io.ErrNoProgress, 1, ErrProtocol, retry.Final},
		{"with a kind", own, 1, ErrBodyTooLarge, retry.Final},
	} {
		err := OfRead(test.err, test.major)
		checkKind(t, test.name, err, test.kind)
		if cause := CauseOf(err); cause != test.cause {
			t.Errorf("%s: cause %d, want %d", test.name, cause, test.cause)
		}
	}
}

// The unknown words of a reader are shown if it is not net/http's.
func TestErrorsOfReadingFromOthers(t *testing.T) {
	err := OfRead(errors.New("secret of a server"), 1)
	if got := err.Error(); got != "body truncated: reading failed" {
		t.Error(got)
	}
	if got := OfStranger(err).Error(); got != "body truncated: secret of a server" {
		t.Error(got)
	}
	if own := New(ErrTimeout, errBody); OfStranger(own) != own {
		t.Error("an error with a kind was changed")
	}
}

// An error of the caller's own code ends its URL, whatever it wraps.
func TestErrorsOfTheCaller(t *testing.T) {
	err := OfCaller(dialed(syscall.ECONNREFUSED))
	if cause := CauseOf(err); cause != retry.Final || IsConnectFailure(err, cause) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v: cause %d", err, cause)
	}
}

func TestTheCauseOfKinds(t *testing.T) {
	for _, kind := range []error{ErrBodyTooLarge, ErrRedirect, ErrInvalidURL, ErrBlocked, ErrHostDown, ErrHostPaused, ErrProtocol} {
		if cause := CauseOf(New(kind, nil)); cause != retry.Final {
			t.Errorf("%v: cause %d", kind, cause)
		}
	}
	for _, kind := range []error{ErrTimeout, ErrTruncated} {
		if cause := CauseOf(New(kind, nil)); cause != retry.Interrupted {
			t.Errorf("%v: cause %d", kind, cause)
		}
	}
	if CauseOf(AttemptTimeout) != retry.Interrupted {
		t.Error("the timeout of an attempt is not retried")
	}
}

func TestTheErrorOfACancel(t *testing.T) {
	plain, cancelPlain := context.WithCancel(context.Background())
	caused, cancelCaused := context.WithCancelCause(context.Background())
	late, cancelLate := context.WithTimeoutCause(context.Background(), 0, errBody)
	cancelPlain()
	cancelCaused(fmt.Errorf("stop: %w", errBody))
	defer cancelLate()
	for _, test := range []struct {
		ctx  context.Context
		text string
		is   []error
	}{
		{plain, "context canceled", []error{context.Canceled}},
		{caused, "context canceled: stop: body", []error{context.Canceled, errBody}},
		{late, "context deadline exceeded: body", []error{context.DeadlineExceeded, errBody}},
	} {
		err := Cancellation(test.ctx)
		for _, want := range test.is {
			if !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
		}
		if err.Error() != test.text || errors.Is(err, ErrTimeout) {
			t.Errorf("%v, want %q", err, test.text)
		}
	}
}

func TestTexts(t *testing.T) {
	for want, err := range map[string]error{
		"timed out":                                           New(ErrTimeout, nil),
		"timed out: attempt took too long":                    AttemptTimeout,
		"address blocked":                                     New(ErrBlocked, dialed(ErrBlocked)),
		"x (the host's retry budget is exhausted)":            Exhausted(New(nil, errors.New("x"))),
		"host down: dial tcp 10.1.2.3:80: connection refused": New(ErrHostDown, dialed(syscall.ECONNREFUSED)),
		"dial denied: no way to ...":                          New(nil, dialed(errors.New("no way to 10.1.2.3:80"))),
		"protocol error: the server does not speak TLS":       New(ErrProtocol, tls.RecordHeaderError{Msg: "secret"}),
		`"a\nb"`: New(nil, errors.New("a\nb")),
		"inner":  New(nil, &url.Error{Op: "Get", URL: "http://secret", Err: errors.New("inner")}),
		"host a.test paused until 2026-01-02T03:04:05Z":               &HostPaused{"a.test", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)},
		`host "a b" paused until 2026-01-02T03:04:05Z`:                &HostPaused{"a b", time.Date(2026, 1, 2, 4, 4, 5, 6, time.FixedZone("", 3600))},
		"proxy refused: 403 Forbidden":                                New(nil, newRefusal(403, errBody)),
		"proxy refused: 799":                                          New(nil, newRefusal(799, errBody)),
		"proxy refused the connection":                                New(nil, newRefusal(0, errBody)),
		"protocol error: malformed response":                          OfSend(errors.New("secret"), Way{NetHTTP: true, Connected: true}),
		"body too large: " + strings.Repeat("x", longestText) + "...": New(ErrBodyTooLarge, errors.New(strings.Repeat("x", 1000))),
		`protocol error: "` + strings.Repeat(`\u00e9`, 150) + `..."`:  New(ErrProtocol, errors.New(strings.Repeat("é", 1000))),
		"runtime.Goexit was called":                                   Exited,
		"code of the caller panicked":                                 Panicked,
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Secrets are cut out before a text is quoted and cut short.
func TestACutSeesTheWholeText(t *testing.T) {
	secret := strings.Repeat("s", longestText)
	cut := Cut(func(text string) string { return strings.ReplaceAll(text, secret, "[cut]") })
	err := Exhausted(New(ErrTimeout, OfCaller(errors.New("begin "+secret+" end"))))
	if got := Show(err, cut); got != "timed out: begin [cut] end (the host's retry budget is exhausted)" {
		t.Error(got)
	}
	if got := Show(errors.New(secret), cut); got != "[cut]" {
		t.Error(got)
	}
	if got := Show(errors.New("plain"), nil); got != "plain" {
		t.Error(got)
	}
}

// A Panic keeps its value and the stack of where it happened, however often it is raised.
func TestPanicsKeepTheirOrigin(t *testing.T) {
	first, returned := Contain(func() { panic(errBody) })
	if first == nil || returned || !errors.Is(first, errBody) || !strings.Contains(first.Error(), "kinds_test.go") {
		t.Errorf("%v, %v", first, returned)
	}
	if again := Catch(func() { panic(first) }); again != first {
		t.Errorf("%v", again)
	}
	if p := Catch(func() { panic("text") }); p == nil || p.Unwrap() != nil || !strings.Contains(p.Error(), "fetch: panic: text") {
		t.Errorf("%v", p)
	}
	if p, returned := Contain(func() {}); p != nil || !returned {
		t.Errorf("%v, %v", p, returned)
	}
}

// A shortage is one of this machine alone.
func TestShortages(t *testing.T) {
	shortages := []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS}
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS} {
		if got := IsShortage(New(nil, dialed(os.NewSyscallError("connect", errno)))); got != slices.Contains(shortages, errno) {
			t.Errorf("%v: %v", errno, got)
		}
	}
}
