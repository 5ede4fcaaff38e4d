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

// A hostMemory is what the engine remembers of a host. It is guarded by engine.mu.
type hostMemory struct {
	budget   retry.Budget
	failures int // to connect, in a row
	refusals int // 503s in a row that asked for too long a pause
	// closed is the end of a pause longer than WithMaxRetryAfter.
	closed time.Time
}

// Matters reports whether forgetting it would give the host something that it has not earned.
func (m *hostMemory) Matters(now time.Time) bool {
	return !m.budget.Unspent() || m.failures > 0 || m.refusals > 0 || m.closed.After(now)
}

func memoryOf(h *sched.Host) *hostMemory {
	m, ok := h.Memory.(*hostMemory)
	if !ok {
		m = &hostMemory{}
		h.Memory = m
	}
	return m
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
type exhausted struct{ error }

func (e *exhausted) Error() string {
	return e.error.Error() + " (the host's retry budget is exhausted)"
}
func (e *exhausted) Unwrap() error { return e.error }

// givenUp reports whether the host has refused everything for too long.
func (w *worker) givenUp() bool {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return w.job.batch.givesUpLocked(time.Now(), w.task.Host())
}

func (b *batch) givesUpLocked(now time.Time, h *sched.Host) bool {
	refusing := h.Refusing()
	if refusing.IsZero() {
		return false
	}
	if refusing.Before(b.started) {
		refusing = b.started
	}
	return now.Sub(refusing) >= b.engine.config.patience()
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
	var record tls.RecordHeaderError
	var stream streamError
	switch {
	case isTLS(err), errors.As(err, &record), errors.Is(err, ErrBlocked):
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
	var dns *net.DNSError
	if isShortage(err) {
		return false
	}
	return cause == retry.NotSent || errors.As(err, &dns) || isTLS(err) || errors.Is(err, ErrTimeout)
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

// note counts an attempt's end.
func (m *hostMemory) note(r *Result, l *lesson) {
	if r.Attempts == 1 {
		m.budget.First()
	}
	switch {
	case l.down:
		m.failures++
	case l.answer:
		m.failures = 0
	}
	if l.outcome.Verdict == sched.Accepted {
		m.refusals = 0
		if r.Err == nil && !retry.Status(r.StatusCode) {
			m.budget.Success()
		}
	}
}

// An eviction has tasks that end without having been tried, or tried again. Until
// it is finished they count as in flight.
type eviction struct {
	batch *batch
	ids   []int
	err   error
}

func (b *batch) evictLocked(ids []int, err error) eviction {
	b.inFlight += len(ids)
	if !b.lazy { // only requests have contexts of their own
		for _, id := range ids {
			if j := b.jobs[id]; j != nil {
				j.evicted = true
			}
		}
	}
	return eviction{b, ids, err}
}

// evictPausedLocked ends the URLs that wait for a host whose pause is too
// long for them, or that has refused everything for too long.
func (e *engine) evictPausedLocked(now time.Time, h *sched.Host, l *lesson) (out []eviction) {
	until := h.PausedUntil()
	err := &HostPausedError{Host: h.Key(), Until: until}
	tooLong := l.pause > e.config.maxRetryAfter
	if tooLong {
		memoryOf(h).closed = until
	}
	for lane := range h.Lanes() {
		b := lane.Owner.(*batch)
		if tooLong || !b.fits(until) || b.givesUpLocked(now, h) {
			if ids := lane.Evict(now, h.Key()); len(ids) > 0 {
				out = append(out, b.evictLocked(ids, err))
			}
		}
	}
	return out
}

// evictDownLocked ends the batch's URLs of a host that cannot be connected to.
func (b *batch) evictDownLocked(now time.Time, h *sched.Host, last error) []eviction {
	err := &failure{ErrHostDown, lastCause(last)}
	if b.down == nil {
		b.down = map[string]error{}
	}
	b.down[h.Key()] = err
	ids := b.lane.Evict(now, h.Key())
	if len(ids) == 0 {
		return nil
	}
	return []eviction{b.evictLocked(ids, err)}
}

// lastCause returns the cause of an *Error, which has no prefix and no URL.
func lastCause(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

// refusalLocked returns the error of a URL that need not be queued, as its host is
// down or paused for too long, or nil.
func (b *batch) refusalLocked(now time.Time, key string) error {
	if err := b.down[key]; err != nil {
		return err
	}
	h := b.engine.sched.Host(key)
	if h == nil {
		return nil
	}
	until, closed := h.PausedUntil(), false
	if m, ok := h.Memory.(*hostMemory); ok {
		closed = m.closed.Sub(now) > b.engine.config.maxRetryAfter
	}
	if closed || until.After(now) && !b.fits(until) {
		return &HostPausedError{Host: key, Until: until}
	}
	return nil
}

// finish ends the tasks. It is called without the engine's lock.
func (v eviction) finish() {
	for _, id := range v.ids {
		v.batch.finishEvicted(id, v.err)
	}
}

func (b *batch) finishEvicted(id int, err error) {
	b.engine.mu.Lock()
	now := time.Now()
	j := b.jobs[id]
	delete(b.jobs, id)
	b.engine.mu.Unlock()
	if j == nil && b.lazy {
		j = &job{batch: b, id: id, result: &b.results[id], since: b.started}
	}
	if j != nil { // its own context has not ended it
		j.result.Waited += now.Sub(j.since)
		j.fail(err)
		b.finish(j)
	}
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.inFlight--
	b.settleLocked()
}
