package fetch

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/sched"
)

// A lesson is what a request tells about its host, and whether its job is to
// be tried again. It is made while the request has its slot.
type lesson struct {
	outcome sched.Outcome
	asked   time.Duration // by Retry-After
	pause   time.Duration // asked, if that is heeded
	tooLong bool          // pause is more than the job can wait for
	forAll  bool          // and more than the batch can
	again   bool
	backoff time.Duration // before the job is queued again
	answer  bool          // a response head came
	down    bool          // the host could not be connected to

	exhausted bool // the host's budget, so that there is no other attempt
}

// hear takes down what a response says about its host. A 429, or a 503 with
// Retry-After, is a message about the host; a 503 without is a failure like any other.
func (w *worker) hear(resp *http.Response) {
	l := &w.job.lesson
	l.answer = true
	if resp.Header["Retry-After"] != nil {
		w.heed(resp)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		l.outcome = sched.Outcome{Verdict: sched.Throttled, Pause: l.pause}
	case http.StatusServiceUnavailable:
		if l.pause > 0 && !(l.forAll && w.forgives()) {
			l.outcome = sched.Outcome{Verdict: sched.Throttled, Pause: l.pause}
		}
	default:
		l.outcome.Verdict = sched.Accepted
	}
}

// heed reads how long a response asks to wait, and whether that fits.
func (w *worker) heed(resp *http.Response) {
	j, l, limit := w.job, &w.job.lesson, w.engine.config.maxRetryAfter
	now := time.Now()
	l.asked, _ = retry.After(resp.Header, now)
	if limit > 0 {
		l.pause = l.asked
		l.forAll = l.pause > limit || l.pause > 0 && !j.batch.fits(now.Add(l.pause))
		l.tooLong = l.forAll || l.pause > 0 && !j.fits(now.Add(l.pause))
	}
}

// forgives reports whether a 503 that asks for too long a pause is still taken as
// that of its URL: the third in a row is not.
func (w *worker) forgives() bool {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	m := memoryOf(w.task.Host())
	m.refusals++
	return m.refusals < 3
}

// fits reports whether t is before the deadlines of the job.
func (j *job) fits(t time.Time) bool {
	if !j.batch.fits(t) {
		return false
	}
	if j.request == nil {
		return true
	}
	deadline, ok := j.request.Context().Deadline()
	return !ok || t.Before(deadline)
}

func (b *batch) fits(t time.Time) bool {
	return b.deadline.IsZero() || t.Before(b.deadline)
}

// retryStatus decides about a response before its body is read: no body of
// a response that is not the last is wanted.
func (w *worker) retryStatus() bool {
	c := w.engine.config
	if c.retryIf != nil && c.bodyFunc == nil {
		return false // it sees the body
	}
	return w.tryAgain(retry.Response)
}

// retryFailure decides about an attempt that failed.
func (w *worker) retryFailure() {
	cause := causeOf(w.job.result.Err)
	w.job.lesson.down = !w.job.lesson.answer && isConnectFailure(w.job.result.Err, cause)
	w.tryAgain(cause)
}

// review decides, when an attempt is over, whether the job at hand gets another, unless
// that has been decided.
func (w *worker) review() {
	j, c := w.job, w.engine.config
	if j.next != nil {
		return
	}
	if !j.lesson.again && (c.retries > 0 || c.maxHostFailures > 0) {
		_, refused := errors.AsType[*StatusError](j.result.Err)
		switch {
		case j.result.Err != nil && !refused:
			w.retryFailure()
		case c.retryIf != nil && c.bodyFunc == nil:
			w.tryAgain(retry.Response)
		}
	}
	if j.lesson.again {
		j.result.Body = nil
		j.key = j.firstKey()
		if err := w.engine.keepHost(j.key); err != nil {
			j.lesson.again = false
			j.fail(err)
		}
	}
}

// firstKey returns the key of the host that an attempt starts with.
func (j *job) firstKey() string {
	if j.request != nil {
		return hostKey(j.request.URL)
	}
	key, _ := hostOf(j.result.URL)
	return key
}

// tryAgain decides whether the job at hand gets another attempt, and pays for it.
func (w *worker) tryAgain(cause retry.Cause) bool {
	j, c := w.job, w.engine.config
	r, l := j.result, &j.lesson
	switch {
	case r.Attempts > c.retries || !j.repeatable() || j.cancelled() != nil:
		return false
	case errors.Is(r.Err, ErrBlocked) || errors.Is(r.Err, ErrInvalidURL):
		return false
	case c.retryIf != nil && !c.retryIf(*r):
		return false
	case c.retryIf == nil && !retry.Allowed(cause, r.StatusCode, j.idempotent()):
		return false
	case l.tooLong:
		return false
	case l.outcome.Verdict == sched.Throttled:
		// The pause of the host is all that it waits for.
		l.again = !w.givenUp()
		return l.again
	}
	l.backoff = retry.Backoff(c.backoffBase, c.backoffMax, r.Attempts-1)
	j.due = time.Now().Add(l.backoff)
	// What this machine is short of is not the host's fault.
	l.again = j.fits(j.due) && (isShortage(r.Err) || w.pay())
	return l.again
}

// pay takes a retry from the host's budget.
func (w *worker) pay() bool {
	w.engine.mu.Lock()
	paid := memoryOf(w.task.Host()).budget.Retry()
	w.engine.mu.Unlock()
	w.job.lesson.exhausted = !paid
	if e, ok := w.job.result.Err.(*Error); ok && !paid {
		e.Err = &exhausted{e.Err}
	}
	return paid
}

// exhausted is an error that was not retried for want of budget.
type exhausted struct{ err error }

func (e *exhausted) Error() string {
	return e.err.Error() + " (the host's retry budget is exhausted)"
}
func (e *exhausted) Unwrap() error { return e.err }

// givenUp reports whether the host has refused everything for too long.
func (w *worker) givenUp() bool {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return w.job.batch.givesUpLocked(time.Now(), w.task.Host())
}

// repeatable reports whether the job's body can be sent again.
func (j *job) repeatable() bool {
	return j.request == nil || !hasBody(j.request) || j.request.GetBody != nil
}

func (j *job) idempotent() bool {
	if j.request == nil {
		return true
	}
	return retry.Idempotent(j.request.Method, j.request.Header) || retry.Idempotent(j.request.Method, j.batch.engine.header)
}

// causeOf says what an error leaves open to a retry.
func causeOf(err error) retry.Cause {
	var op *net.OpError
	var dns *net.DNSError
	var stream streamError
	switch {
	case is[*hookError](err), isTLS(err), is[tls.RecordHeaderError](err), errors.Is(err, ErrBlocked):
		return retry.Final
	case errors.As(err, &dns):
		if dns.IsTemporary || dns.IsTimeout {
			return retry.NotSent
		}
		return retry.Final
	// "proxyconnect" is net/http's name for a dial to a proxy.
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"), isHandshakeTimeout(err), isRefused(err):
		return retry.NotSent
	case errors.As(err, &stream):
		return stream.cause()
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrTruncated):
		return retry.Interrupted
	case errors.Is(err, ErrBodyTooLarge), errors.Is(err, ErrProtocol), errors.Is(err, ErrRedirect), errors.Is(err, ErrInvalidURL):
		return retry.Final
	case isEOF(err), errors.As(err, &op), isNetError(err):
		return retry.Interrupted
	}
	return retry.Final
}

// A streamError has the shape by which errors.As finds net/http's own for an
// HTTP/2 stream that was reset (RFC 9113, section 7).
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

func (e streamError) cause() retry.Cause {
	const protocolError, refusedStream = 0x1, 0x7
	switch e.Code {
	case protocolError:
		return retry.Final
	case refusedStream:
		return retry.NotSent
	}
	return retry.Interrupted
}

// isConnectFailure reports whether an attempt without an answer counts for WithMaxHostFailures.
func isConnectFailure(err error, cause retry.Cause) bool {
	if is[*hookError](err) || isShortage(err) {
		return false
	}
	return cause == retry.NotSent || is[*net.DNSError](err) || isTLS(err) || errors.Is(err, ErrTimeout)
}

// learnLocked passes on to the scheduler and to the host's memory what a request
// has told. It returns the tasks that end because of it.
func (w *worker) learnLocked(now time.Time, j *job, task sched.Task) []eviction {
	e, h, l := w.engine, task.Host(), &j.lesson
	c := e.config
	if c.retries > 0 || c.maxHostFailures > 0 || h.Memory != nil {
		memoryOf(h).note(j.result, l)
	}
	e.sched.Done(now, task, l.outcome)
	switch {
	case l.outcome.Verdict == sched.Throttled:
		return e.evictPausedLocked(now, h, l)
	case l.down && c.maxHostFailures > 0 && memoryOf(h).failures >= c.maxHostFailures:
		return j.batch.evictDownLocked(now, h, j.result.Err)
	}
	return nil
}
