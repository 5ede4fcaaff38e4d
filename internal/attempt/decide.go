package attempt

import (
	"errors"
	"net/http"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/target"
)

// A wait is what a response asks for with Retry-After.
type wait struct {
	asked   time.Duration // 0: nothing
	pause   time.Duration // asked, if that is heeded
	tooLong bool          // pause is more than the exchange can wait for
	forAll  bool          // and more than its batch can
}

// readAnswer reports what a response says about its host. A 429, or a 503 with
// Retry-After, is a message about the host; a 503 without is a failure like any other.
func (x *Exchange) readAnswer(resp *http.Response) {
	if resp.Header["Retry-After"] != nil {
		x.readRetryAfter(resp)
	}
	r := x.report
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		r.Answer, r.Pause = job.Throttled, x.wait.pause
	case resp.StatusCode != http.StatusServiceUnavailable:
		r.Answer = job.Accepted
	case x.wait.pause > 0:
		r.Answer, r.Pause, r.Doubtful = job.Throttled, x.wait.pause, x.wait.forAll
	default:
		r.Answer = job.Neutral
	}
}

// readRetryAfter reads how long a response asks to wait, and whether that fits.
func (x *Exchange) readRetryAfter(resp *http.Response) {
	limit, now := x.client.config.MaxRetryAfter, time.Now()
	asked, _ := retry.After(resp.Header, now)
	x.wait = wait{asked: asked}
	if limit == 0 || asked == 0 {
		return
	}
	until := now.Add(asked)
	x.wait.pause = asked
	x.wait.forAll = asked > limit || !x.turn.Fits(until)
	x.wait.tooLong = x.wait.forAll || !x.fits(until)
}

// fits reports whether t is before the deadlines of the exchange.
func (x *Exchange) fits(t time.Time) bool {
	if !x.turn.Fits(t) {
		return false
	}
	if x.Request == nil {
		return true
	}
	deadline, ok := x.Request.Context().Deadline()
	return !ok || t.Before(deadline)
}

// retriesStatus decides about a response before its body is read: no body of
// a response that is not the last is wanted.
func (x *Exchange) retriesStatus() bool {
	c := &x.client.config
	if c.RetryIf != nil && c.BodyFunc == nil {
		return false // it sees the body
	}
	return x.triesAgain(retry.Response)
}

// review decides, when an attempt is over, whether the exchange gets another, unless
// that has been decided, and reports it.
func (x *Exchange) review() {
	c := &x.client.config
	if x.report.Next != job.Again && (c.Retries > 0 || c.Failures) {
		switch {
		case x.Err != nil:
			x.reviewFailure()
		case c.RetryIf != nil && c.BodyFunc == nil:
			x.triesAgain(retry.Response)
		}
	}
	if x.report.Next == job.Again {
		x.record()
		x.Body = nil
	}
}

// reviewFailure decides about an attempt that failed.
func (x *Exchange) reviewFailure() {
	cause := fault.CauseOf(x.Err)
	down := x.report.Answer == job.None && fault.IsConnectFailure(x.Err, cause)
	x.triesAgain(cause)
	if down {
		x.report.Down = x.Cause()
	}
}

// triesAgain decides whether the exchange gets another attempt, and pays for it.
func (x *Exchange) triesAgain(cause retry.Cause) bool {
	if !x.mayTryAgain(cause) {
		return false
	}
	if x.report.Answer == job.Throttled {
		// The pause of the host is all that it waits for.
		if !x.turn.GivenUp() {
			x.report.Next = job.Again
		}
		return x.report.Next == job.Again
	}
	c := &x.client.config
	after := retry.Backoff(c.Backoff, c.MaxBackoff, x.turn.Tally().Attempts-1)
	if !x.fits(time.Now().Add(after)) {
		return false
	}
	// A shortage on this machine is not the host's fault.
	if !fault.IsShortage(x.Err) && !x.turn.Pay() {
		x.Exhausted = true
		return false
	}
	x.report.Next, x.report.After = job.Again, after
	return true
}

// mayTryAgain reports whether everything but the host allows another attempt.
func (x *Exchange) mayTryAgain(cause retry.Cause) bool {
	c, tally := &x.client.config, x.turn.Tally()
	switch {
	case tally.Attempts > c.Retries || !x.repeatable() || x.cancelled() != nil:
		return false
	case errors.Is(x.Err, fault.ErrBlocked) || errors.Is(x.Err, fault.ErrInvalidURL):
		return false
	case c.RetryIf != nil && !c.RetryIf(x, tally):
		return false
	case c.RetryIf == nil && !retry.Allowed(cause, x.StatusCode, x.idempotent()):
		return false
	}
	return !x.wait.tooLong
}

// repeatable reports whether the body can be sent again.
func (x *Exchange) repeatable() bool {
	return x.Request == nil || !target.HasBody(x.Request) || x.Request.GetBody != nil
}

func (x *Exchange) idempotent() bool {
	if x.Request == nil {
		return true
	}
	return retry.Idempotent(x.Request.Method, x.Request.Header) || retry.Idempotent(x.Request.Method, x.client.header)
}
