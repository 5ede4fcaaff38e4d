// Package retry decides which attempts may be made again and how long to wait
// before they are: the default policy, the back-off, the Retry-After field and
// the budget of a host.
//
// It keeps no time of its own and starts nothing: the present comes in as a
// value, and waiting is left to the caller.
package retry

import "net/http"

// A Cause says how an attempt ended, as far as that decides whether another
// one may follow.
type Cause uint8

const (
	// Response: a whole response came, and its status decides.
	Response Cause = iota

	// NotSent: the attempt failed before any byte of the request left: the
	// dial, a temporary failure of the name lookup, a TLS handshake that broke
	// off. The server cannot have acted on it.
	NotSent

	// Interrupted: the attempt failed at a point where the server may have
	// acted on it: a lost connection, the end of the attempt's time, a
	// truncated body.
	Interrupted

	// Final: another attempt would fail the same way, or must not be made: a
	// bad URL, a blocked address, a certificate, a body that is too large, a
	// redirect that cannot be followed.
	Final
)

// Allowed reports whether the default policy lets an attempt that ended with
// cause be followed by another one. The response's status and hint, see [Status],
// count only if the cause is [Response]; idempotent is the answer of [Idempotent] for
// the request.
func Allowed(cause Cause, status int, hint Hint, idempotent bool) bool {
	switch cause {
	case NotSent:
		return true
	case Interrupted:
		return idempotent
	case Response:
		return idempotent && Status(status, hint)
	default:
		return false
	}
}

// Idempotent reports whether sending a request twice is meant to have the
// effect of sending it once: by its method ([RFC 9110], section 9.2.2; the
// empty method is GET), or because its header names an Idempotency-Key or
// X-Idempotency-Key. As in net/http the presence of the name is enough, so that
// a caller can vouch for a request without sending a key. Methods are
// case-sensitive.
//
// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
func Idempotent(method string, header http.Header) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete:
		return true
	}
	return has(header, "Idempotency-Key") || has(header, "X-Idempotency-Key")
}

func has(header http.Header, name string) bool {
	_, ok := header[name]
	return ok
}

// Status codes that net/http has no name for.
const (
	statusEnhanceYourCalm  = 420 // once of Twitter: too many requests
	statusWebServerDown    = 521 // of Cloudflare, for the connection to the origin server
	statusConnectTimeout   = 522 // likewise
	statusOriginTimeout    = 524 // likewise
	statusSiteIsOverloaded = 529 // of several services; as 503
)

// A Hint is the header's statement about when a failure passes.
type Hint uint8

const (
	NoHint Hint = iota
	UsedUp      // a quota with nothing left
	Asked       // a Retry-After that counts
)

// Status reports whether a response with this status code and hint is a failure that may
// pass. The other codes say something about the request, which does not change between
// attempts. WithRetries of the root has the set with its sources.
func Status(code int, hint Hint) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		statusWebServerDown, statusConnectTimeout, statusOriginTimeout, statusSiteIsOverloaded:
		return true
	case http.StatusRequestEntityTooLarge:
		return hint == Asked
	}
	return Message(code, hint) == Refusal
}

// A Statement is the meaning of a status for the other requests to its host.
type Statement uint8

const (
	Answer   Statement = iota // the host took the request
	Silence                   // it says nothing about others
	Refusal                   // the host takes no more requests for now
	Overload                  // likewise, but perhaps it is about one resource only
)

// Message returns the meaning of a response with this status code and hint for its host.
// Without a hint a 503 or 529 is a failure like any other, and a 403 is about the request.
func Message(code int, hint Hint) Statement {
	switch code {
	case http.StatusTooManyRequests:
		return Refusal
	case http.StatusForbidden, statusEnhanceYourCalm:
		if hint != NoHint {
			return Refusal
		}
	case http.StatusServiceUnavailable, statusSiteIsOverloaded:
		if hint == Asked {
			return Overload
		}
		return Silence
	}
	return Answer
}
