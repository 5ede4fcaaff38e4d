package redirect

import (
	"net/http"
	"slices"
	"strings"
)

// dropCookies takes those cookies out of the caller's Cookie field that a response
// has set anew: the jar has them now.
func dropCookies(h http.Header, set []*http.Cookie) {
	if h.Get("Cookie") == "" || len(set) == 0 {
		return
	}
	kept := (&http.Request{Header: http.Header{"Cookie": h["Cookie"]}}).Cookies()
	kept = slices.DeleteFunc(kept, func(c *http.Cookie) bool {
		return slices.ContainsFunc(set, func(s *http.Cookie) bool { return s.Name == c.Name })
	})
	h.Del("Cookie")
	for _, c := range kept {
		(&http.Request{Header: h}).AddCookie(c)
	}
}

func dropHeaders(h http.Header, drop func(key string) bool) {
	for key := range h {
		if drop(http.CanonicalHeaderKey(key)) {
			delete(h, key)
		}
	}
}

// IsSafe reports whether a header of the caller's may be sent to any origin.
func IsSafe(key string) bool { return isSafeHeader(http.CanonicalHeaderKey(key)) }

func isSafeHeader(key string) bool {
	// Content-* would be safe too, but belongs to a body, and none crosses.
	return strings.HasPrefix(key, "Accept") || key == "User-Agent" || key == "Range"
}

func isBodyHeader(key string) bool { return strings.HasPrefix(key, "Content-") }
