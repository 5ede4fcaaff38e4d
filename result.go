package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/batchhttp/fetch/internal/attempt"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/target"
)

// A Result is the outcome of one URL. Every URL of a batch gets exactly one.
//
// Err is nil if and only if the response is complete: its head arrived, its
// body was read to the end that the protocol announces, decoded, and was
// within the limit. A status such as 404 is not an error (see [Result.OK] and
// [WithStatusErrors]). A body that HTTP/1 ends by closing the connection, with
// neither a length nor chunks, cannot be told from one that was cut short;
// it counts as complete.
type Result struct {
	// Index is the position of the URL in the input, from 0.
	Index int
	// URL is the URL as it was given.
	URL string
	// Request is the caller's own that was given to Do, DoAll or DoStream. It is nil for a URL.
	Request *http.Request
	// FinalURL is the last URL that a response came from, after redirects, as it was
	// sent: with its escapes (RFC 3986, section 2.1; see URLs in the package comment), and
	// without user information and fragment. It is empty when there was no response.
	FinalURL string

	// StatusCode, Proto and Header are those of the last response head that
	// the last attempt received, whatever Err is. They are zero without one.
	// Of a body that was decoded the Header has no Content-Length any more, and
	// Content-Encoding names the codings that are left, if any are.
	StatusCode int
	Proto      string // such as "HTTP/1.1" or "HTTP/2.0"
	Header     http.Header

	// Body is the whole body. It is nil when Err is not, unless that is
	// a [StatusError] under [WithStatusErrors], and when [WithBodyFunc] got the body.
	// With [WithDedup] equal URLs share one slice.
	//
	// It is decoded from gzip and deflate and the codings of [WithDecoder], from the
	// last on, as far as they are known: when Header has a Content-Encoding, the body is in that.
	// It is as the server sent it when the request had an Accept-Encoding or
	// Range of the caller's. Bytes behind the end of a coding are ignored, as in browsers.
	Body []byte
	// Err is nil or an [*Error].
	Err error

	// Attempts is how often the URL was tried from the start: 0 when it never
	// got a slot, more than 1 when it was retried. The redirects of an attempt
	// are part of it. An idempotent request that is sent again since a reused
	// connection had died ([RFC 9112], section 9.3.1) is not counted again.
	//
	// [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112
	Attempts int
	// Redirects is the number of redirects followed in the last attempt.
	Redirects int
	// Waited is the time spent in queues, limits, pauses and back-off.
	Waited time.Duration
	// Took is the time spent in attempts: connecting, sending, reading.
	Took time.Duration
	// Queued is when the URL was accepted, and Started when its first attempt began: zero when
	// there was none. With [WithDedup] equal URLs share both, and the times above.
	Queued, Started time.Time
	// History has every attempt, the oldest first. It is nil when there was
	// one attempt or none.
	History []Attempt
}

// An Attempt is one of several attempts at a URL.
type Attempt struct {
	// StatusCode is that of the last response head received, or 0.
	StatusCode int
	// Err says why no complete response came; nil when one did.
	Err error
	// Started is when the attempt began.
	Started time.Time
	// Took is how long the attempt lasted.
	Took time.Duration
	// RetryAfter is how long the response asked to wait, with Retry-After or, if it is a
	// refusal, by the reset of a quota; or 0.
	RetryAfter time.Duration
}

// OK reports whether the URL was fetched with a status from 200 to 299.
func (r Result) OK() bool {
	return r.Err == nil && target.StatusOK(r.StatusCode)
}

// JSON decodes the body into v, as [json.Unmarshal] does. A byte order mark before it
// is ignored. It returns r.Err
// when that is set, an [*Error] with a [*StatusError] for a status outside
// 200–299, and an [*Error] with the decoding error when the body does not fit v.
func (r Result) JSON(v any) error {
	if r.Err != nil {
		return r.Err
	}
	var err error
	if target.StatusOK(r.StatusCode) {
		err = json.Unmarshal(bytes.TrimPrefix(r.Body, byteOrderMark), v)
	} else {
		err = &StatusError{StatusCode: r.StatusCode}
	}
	if err == nil {
		return nil
	}
	return r.newError(err, r.Attempts, 0)
}

// byteOrderMark is that of UTF-8, which JSON must not begin with and may be read with (RFC
// 8259, section 8.1).
var byteOrderMark = []byte("\xef\xbb\xbf")

// LogValue makes a Result fit to be logged with [log/slog]: it has the method, the URLs without
// user information, query and fragment, the status, the bytes of the body, the times, the counts
// and the text of the error. No header and no byte of the body is in it.
func (r Result) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("method", r.method()), slog.String("url", target.Redact(r.URL))}
	if r.Redirects > 0 && r.FinalURL != "" {
		attrs = append(attrs, slog.String("final_url", target.Redact(r.FinalURL)), slog.Int("redirects", r.Redirects))
	}
	if r.StatusCode != 0 {
		attrs = append(attrs, slog.Int("status", r.StatusCode))
	}
	attrs = append(attrs,
		slog.Int("bytes", len(r.Body)), slog.Int("attempts", r.Attempts),
		slog.Duration("waited", r.Waited), slog.Duration("took", r.Took),
		slog.Time("queued", r.Queued))
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// newError returns the error of r after so many attempts, of so many that were allowed.
func (r *Result) newError(cause error, attempts, limit int) *Error {
	if paused, ok := cause.(*fault.HostPaused); ok {
		cause = &HostPausedError{Host: paused.Host, Until: paused.Until}
	}
	switch cause.(type) {
	case *HostPausedError, *StatusError:
	default: // which may have the words of others
		cause = target.Conceal(cause, r.URL)
	}
	return &Error{
		Method: r.method(), URL: target.Redact(r.URL), Attempts: attempts,
		Err: cause, attemptLimit: limit,
	}
}

// method returns that of the request.
func (r *Result) method() string {
	if r.Request == nil {
		return http.MethodGet
	}
	return target.Method(r.Request.Method)
}

// fail makes err the error of a URL that has not been attempted.
func (r *Result) fail(err error) { r.Err = r.newError(err, 0, 0) }

// newResult returns an exchange as a Result. limit is the number of attempts that were
// allowed.
func newResult(x *attempt.Exchange, tally job.Tally, limit int) Result {
	r := Result{
		Index: x.Index, URL: x.URL, Request: x.Request, FinalURL: x.FinalURL,
		StatusCode: x.StatusCode, Proto: x.Proto, Header: x.Header,
		Body: x.Body, Redirects: x.Redirects,
		Attempts: tally.Attempts, Waited: tally.Waited, Took: tally.Took,
		Queued: tally.Queued, Started: tally.Started,
	}
	switch cause := x.Cause(); {
	case cause != nil:
		r.Err = r.newError(cause, tally.Attempts, limit)
	case x.Refused && x.Exhausted:
		r.Err = r.newError(fault.Exhausted(&StatusError{x.StatusCode}), tally.Attempts, limit)
	case x.Refused:
		r.Err = r.newError(&StatusError{x.StatusCode}, tally.Attempts, limit)
	}
	if tally.Attempts < 2 {
		return r
	}
	for i, past := range x.History(tally) {
		a := Attempt{StatusCode: past.StatusCode, Started: past.Started, Took: past.Took, RetryAfter: past.RetryAfter}
		if past.Err != nil {
			a.Err = r.newError(past.Err, i+1, limit)
		}
		r.History = append(r.History, a)
	}
	return r
}

// JoinErrors returns nil when no result has an error. Otherwise its text says
// how many have one and gives the first few, and [errors.Is] and [errors.As]
// search them all.
func JoinErrors(results []Result) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, r.Err)
		}
	}
	if errs == nil {
		return nil
	}
	return &joinedError{errs: errs, of: len(results)}
}

type joinedError struct {
	errs []error
	of   int
}

// joinedErrorLines bounds the text: a batch of a million can fail a million times.
const joinedErrorLines = 10

func (e *joinedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fetch: %d of %d failed", len(e.errs), e.of)
	for _, err := range e.errs[:min(len(e.errs), joinedErrorLines)] {
		b.WriteString("\n" + err.Error())
	}
	if more := len(e.errs) - joinedErrorLines; more > 0 {
		fmt.Fprintf(&b, "\nand %d more", more)
	}
	return b.String()
}

func (e *joinedError) Unwrap() []error { return e.errs }

// Sentinel errors, to be matched with [errors.Is].
var (
	// ErrInvalidURL: the URL or request cannot be fetched; nothing was sent. Some requests
	// are found so by net/http only, in an attempt: fields that HTTP/2 does not have, for example.
	ErrInvalidURL = fault.ErrInvalidURL
	// ErrTimeout: an attempt, or a stage of it such as the dial or the TLS
	// handshake, took too long. [context.DeadlineExceeded] matches too. The
	// deadline of the caller's own context is not an ErrTimeout.
	ErrTimeout = fault.ErrTimeout
	// ErrBodyTooLarge: the decoded body is longer than [WithMaxBody] allows.
	ErrBodyTooLarge = fault.ErrBodyTooLarge
	// ErrTruncated: the body ended before the end that was announced, by the message
	// or by the coding that it is in.
	ErrTruncated = fault.ErrTruncated
	// ErrProtocol: the server did not speak HTTP as it must, or sent a body that is
	// not in the coding that it names. An error of a RoundTripper that is no error of
	// net/http does not match it.
	ErrProtocol = fault.ErrProtocol
	// ErrRedirect: a redirect that cannot or must not be followed. The Result
	// has its status and header.
	ErrRedirect = fault.ErrRedirect
	// ErrBlocked: the address is not a public one, under [WithPublicOnly].
	ErrBlocked = fault.ErrBlocked
	// ErrHostDown: the host failed [WithMaxHostFailures] times in a row, and
	// the rest of the batch's URLs of that host were not tried, or not again.
	ErrHostDown = fault.ErrHostDown
	// ErrHostPaused: the host asked not to be called for longer than can be
	// waited; see [HostPausedError].
	ErrHostPaused = fault.ErrHostPaused
)

// An Error says why a URL was not fetched. Every non-nil Result.Err is an *Error.
//
// [errors.Is] and [errors.As] reach the sentinel (such as [ErrTimeout]) and
// the cause (such as *net.OpError, *net.DNSError or
// *tls.CertificateVerificationError). When the batch was cancelled they find
// both the error and the [context.Cause] of the caller's context.
//
// Its text has no user information, query or fragment of the URLs that were requested,
// whoever wrote it, and no byte of a response's status line, header, trailer or chunk lines:
// errors of net/http that quote a server are shown in fixed words. Errors of the caller's own
// code are otherwise in its own words, made printable and cut short. The text of an error that
// [errors.As] finds within is as it was made.
//
// An error of a RoundTripper that is nothing known has no sentinel.
// A proxy that refuses a tunnel is a *net.OpError for "proxyconnect", and named with its
// status, as far as net/http tells it with [WithClient]. So is one that closes the connection
// or makes no sense, and the end of a tunnel before TLS is spoken in it.
type Error struct {
	// Method is that of the request as it was given, GET if it had none.
	Method string
	// URL has no user information, query or fragment. It is for people; the
	// URL as it was given is in the Result.
	URL string
	// Attempts is the number of attempts made, as in the Result.
	Attempts int
	// Err is the cause, with the sentinel that it counts as.
	Err error

	// attemptLimit is the number of attempts that were allowed.
	attemptLimit int
}

// Error returns "fetch: METHOD URL: cause", and which attempt it was when
// there could be more than one.
func (e *Error) Error() string {
	text := "fetch: " + e.Method + " " + e.URL + ": " + e.Err.Error()
	if e.Attempts > 0 && e.attemptLimit > 1 {
		text += fmt.Sprintf(" (attempt %d of %d)", e.Attempts, e.attemptLimit)
	}
	return text
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the error is a timeout, of an attempt or of the
// caller's context, as [net.Error] has it.
func (e *Error) Timeout() bool {
	return fault.IsTimeout(e.Err)
}

// A StatusError is a status outside 200–299. It is an error only under
// [WithStatusErrors], and from [Result.JSON].
type StatusError struct {
	StatusCode int
}

func (e *StatusError) Error() string {
	if text := http.StatusText(e.StatusCode); text != "" {
		return fmt.Sprintf("status %d %s", e.StatusCode, text)
	}
	return fmt.Sprintf("status %d", e.StatusCode)
}

// A HostPausedError ends the URLs of a host that refused and asked, with Retry-After or by the
// reset of its quota, not to be called before Until, when that is longer than
// [WithMaxRetryAfter] or the deadline allow, and those of a host that has refused
// everything for twice WithMaxRetryAfter, or twice the longest back-off if that
// is 0. The URLs can be fetched after that instant.
type HostPausedError struct {
	Host  string // as [WithHostLimits] describes it, or the name of a [WithHostGroup]
	Until time.Time
}

func (e *HostPausedError) Error() string {
	return fmt.Sprintf("host %s paused until %s", fault.Word(e.Host), e.Until.UTC().Format(time.RFC3339))
}

// Is makes errors.Is(err, ErrHostPaused) true.
func (e *HostPausedError) Is(target error) bool { return target == ErrHostPaused }

// An Info says whose request one is; see [InfoOf].
type Info struct {
	Index    int       // of the URL, as in its [Result]
	Attempt  int       // 1 is the first
	Redirect int       // how many were followed in this attempt so far
	URL      string    // as it was given
	Queued   time.Time // when the URL was accepted, as in its Result
	Started  time.Time // when the attempt began, as in [Attempt]
}

// InfoOf returns the Info of the request with the given context, or of one made of that, and
// whether there is one. It is for code that a Fetcher gives a request to, such as a RoundTripper of
// [WithTransport] or [WithClient], a [WithRequestFunc], and a [WithBodyFunc].
func InfoOf(ctx context.Context) (Info, bool) {
	i, ok := attempt.InfoOf(ctx)
	return Info(i), ok
}
