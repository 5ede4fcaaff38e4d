package attempt

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/quota"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/target"
)

// A turn is one request of an exchange, and decides about the next step.
type turn struct {
	job.Turn
	x      *Exchange
	config *Config
	report *job.Report
	sent   *url.URL // of the request; nil: none was sent
	reused bool     // the watched connection of the request had served before
	// The wait that the response asks for, if that is heeded:
	pause   time.Duration
	tooLong bool // pause is more than the exchange can wait for
	forAll  bool // and more than its batch can
	hint    retry.Hint
}

// failUnlessDone fails the exchange with err, unless its context explains it.
func (t *turn) failUnlessDone(ctx context.Context, err error) {
	if done := t.done(ctx); done != nil {
		err = done
	}
	t.fail(err)
}

// fail fails the exchange with err, which is not to show the secrets of the request that was
// sent either, where its URL is not the one that was given.
func (t *turn) fail(err error) {
	if t.sent != nil && (t.x.Redirects > 0 || t.config.RequestFunc != nil) {
		err = target.Conceal(err, t.sent.String())
	}
	t.x.fail(err)
}

// done returns the error of a request whose context has ended, or nil. Contexts
// decide it, not the error that came back: net/http returns the cause of a cancel,
// which may be anything, and its own timeouts match context.DeadlineExceeded too.
func (t *turn) done(ctx context.Context) error {
	ended := ctx.Err() != nil // looked at first, as it ends with the callers' contexts
	if !ended && t.Context.Err() == nil {
		return nil
	}
	if err := t.cancelled(); err != nil {
		return err
	}
	if ended {
		return fault.AttemptTimeout
	}
	return nil
}

// cancelled returns the error of an exchange whose callers' contexts have ended, or nil.
func (t *turn) cancelled() error {
	if t.Context.Err() != nil {
		if err := t.Cancelled(); err != nil {
			return err
		}
	}
	if req := t.x.Request; req != nil && req.Context().Err() != nil {
		return fault.Cancellation(req.Context())
	}
	return nil
}

// readAnswer reports the message of a response about its host.
func (t *turn) readAnswer(resp *http.Response) {
	if resp.Header["Retry-After"] != nil {
		t.readRetryAfter(resp)
	}
	if t.config.MaxRetryAfter > 0 && quota.Told(resp.Header) {
		t.readQuota(resp)
	}
	r := t.report
	switch retry.Message(resp.StatusCode, t.hint) {
	case retry.Answer:
		r.Answer = job.Accepted
	case retry.Silence:
		r.Answer = job.Neutral
	case retry.Refusal:
		r.Answer, r.Pause = job.Throttled, t.pause
	case retry.Overload:
		r.Answer, r.Pause, r.Doubtful = job.Throttled, t.pause, t.forAll
	}
}

// readRetryAfter reads how long a response asks to wait, and whether that fits.
func (t *turn) readRetryAfter(resp *http.Response) {
	limit, now := t.config.MaxRetryAfter, time.Now()
	asked, _ := retry.After(resp.Header, now)
	t.x.RetryAfter = asked
	if limit > 0 && asked > 0 {
		t.hint = retry.Asked
		t.wait(now, asked)
	}
}

// readQuota reads how many requests the host still takes. A refusal for a quota that is used
// up asks to wait for the reset, unless it has a Retry-After, which then counts for the quota
// too.
func (t *turn) readQuota(resp *http.Response) {
	now, limit := time.Now(), t.config.MaxRetryAfter
	q, ok := quota.Read(resp.Header, now)
	if !ok {
		return
	}
	if over := q.Reset - limit; over > 0 && over <= time.Second {
		q.Reset = limit // the Date has whole seconds only
	}
	switch {
	case q.Left > 0:
	case t.hint == retry.Asked:
		q.Reset = min(t.pause, quota.Longest)
	default:
		t.hint = retry.UsedUp
		if q.Reset > 0 && retry.Message(resp.StatusCode, t.hint) == retry.Refusal {
			t.x.RetryAfter = q.Reset
			t.wait(now, q.Reset)
		}
	}
	t.report.Quota = job.Quota(q)
}

// wait takes note of a wait that the response asks for.
func (t *turn) wait(now time.Time, asked time.Duration) {
	until := now.Add(asked)
	t.pause = asked
	t.forAll = asked > t.config.MaxRetryAfter || !t.Fits(until)
	t.tooLong = t.forAll || !t.fits(until)
}

// fits reports whether the instant is before the deadlines of the exchange.
func (t *turn) fits(at time.Time) bool {
	if !t.Fits(at) {
		return false
	}
	if t.x.Request == nil {
		return true
	}
	deadline, ok := t.x.Request.Context().Deadline()
	return !ok || at.Before(deadline)
}

// retriesStatus decides about a response before its body is read: no body of
// a response that is not the last is wanted.
func (t *turn) retriesStatus() bool {
	c := t.config
	if c.RetryIf != nil && c.BodyFunc == nil {
		return false // it sees the body
	}
	return t.triesAgain(retry.Response)
}

// review decides, when an attempt is over, whether the exchange gets another, unless
// that has been decided, and reports it.
func (t *turn) review() {
	c := t.config
	if t.report.Next != job.Again && (c.Retries > 0 || c.Failures) {
		switch {
		case t.x.Err != nil:
			t.reviewFailure()
		case c.RetryIf != nil && c.BodyFunc == nil:
			t.triesAgain(retry.Response)
		}
	}
	if t.report.Next == job.Again {
		t.x.Body = nil
	}
}

// reviewFailure decides about an attempt that failed.
func (t *turn) reviewFailure() {
	cause := fault.CauseOf(t.x.Err)
	if cause == retry.Final && (t.reused || fault.IsReused(t.x.Err)) && fault.IsGarbled(t.x.Err) {
		cause = retry.Interrupted // by what came behind the answer before, perhaps
	}
	down := t.report.Answer == job.None && fault.IsConnectFailure(t.x.Err, cause)
	t.triesAgain(cause)
	if down {
		t.report.Down = target.Conceal(t.x.Cause(), t.x.URL) // for the URLs of others
	}
}

// triesAgain decides whether the exchange gets another attempt, and pays for it.
func (t *turn) triesAgain(cause retry.Cause) bool {
	if !t.mayTryAgain(cause) {
		return false
	}
	if t.report.Answer == job.Throttled {
		// The pause of the host is all that it waits for.
		if !t.GivenUp() {
			t.report.Next = job.Again
		}
		return t.report.Next == job.Again
	}
	c := t.config
	after := max(t.pause, retry.Backoff(c.Backoff, c.MaxBackoff, t.Tally.Attempts-1))
	if !t.fits(time.Now().Add(after)) {
		return false
	}
	// A shortage on this machine is not the host's fault.
	if !fault.IsShortage(t.x.Err) && !t.Pay() {
		t.x.Exhausted = true
		return false
	}
	t.report.Next, t.report.After = job.Again, after
	return true
}

// mayTryAgain reports whether everything but the host allows another attempt.
func (t *turn) mayTryAgain(cause retry.Cause) bool {
	c, tally := t.config, t.Tally
	switch {
	case tally.Attempts > c.Retries || !t.repeatable() || t.cancelled() != nil:
		return false
	case errors.Is(t.x.Err, fault.ErrBlocked) || errors.Is(t.x.Err, fault.ErrInvalidURL):
		return false
	case c.RetryIf != nil && !c.RetryIf(t.x, tally):
		return false
	case c.RetryIf == nil && !retry.Allowed(cause, t.x.StatusCode, t.hint, t.idempotent()):
		return false
	}
	return !t.tooLong
}

// repeatable reports whether the body can be sent again.
func (t *turn) repeatable() bool {
	return t.x.Request == nil || !target.HasBody(t.x.Request) || t.x.Request.GetBody != nil
}

func (t *turn) idempotent() bool {
	if t.x.Request == nil {
		return true
	}
	return retry.Idempotent(t.x.Request.Method, t.x.Request.Header) || retry.Idempotent(t.x.Request.Method, t.x.client.header)
}
