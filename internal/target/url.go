// Package target turns the text of a URL into what can be sent: it says whether a URL or a
// request can be fetched, which host its limits go by, which origin its secrets belong to,
// and what of it may be shown.
//
// Everything here is a function of its arguments and may be called from any goroutine.
package target

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
)

// Parse parses a URL that can be fetched. Its errors show nothing of the URL:
// those of url.Parse print user information and query.
func Parse(raw string) (*url.URL, error) {
	if strings.TrimSpace(raw) == "" {
		return nil, invalid("empty")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, invalid(parseFailure(raw))
	}
	return u, Check(u)
}

func invalid(why string) error { return fmt.Errorf("%w: %s", fault.ErrInvalidURL, why) }

// Reason returns the text of an error of Parse or Check without that of its sentinel.
func Reason(err error) string {
	return strings.TrimPrefix(err.Error(), fault.ErrInvalidURL.Error()+": ")
}

// parseFailure says what is wrong with a URL that url.Parse refused, without its words.
func parseFailure(raw string) string {
	if strings.ContainsFunc(raw, isControl) {
		return "control character"
	}
	return "cannot be parsed"
}

// Check reports why u cannot be fetched, or nil.
func Check(u *url.URL) error {
	switch {
	case u == nil:
		return invalid("nil URL")
	case u.Scheme == "" && u.Host != "":
		return invalid("no scheme")
	case u.Scheme == "":
		return invalid("not absolute")
	case u.Scheme != "http" && u.Scheme != "https":
		return invalid("scheme is not http or https")
	case strings.Trim(u.Hostname(), ".") == "":
		return invalid("no host")
	case strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "["):
		return invalid("IPv6 address without brackets")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return invalid("bad port")
		}
	}
	return nil
}

// Distinct returns what WithDedup compares: the URL without its fragment,
// and with scheme and host in lower case.
func Distinct(raw string) string {
	raw, _, _ = strings.Cut(raw, "#")
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	// User information, before the @, is case-sensitive.
	host := strings.LastIndexByte(rest[:end], '@') + 1
	return lower(scheme) + "://" + rest[:host] + lower(rest[host:end]) + rest[end:]
}

// lower turns ASCII letters into lower case and leaves all other bytes alone: the lower case
// of some letters is an ASCII one, and that would be another host.
func lower(s string) string {
	if strings.IndexFunc(s, isUpper) < 0 {
		return s
	}
	lowered := []byte(s)
	for i, c := range lowered {
		if isUpper(rune(c)) {
			lowered[i] += 'a' - 'A'
		}
	}
	return string(lowered)
}

func isUpper(r rune) bool { return 'A' <= r && r <= 'Z' }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Plain returns u without user information and fragment: as it is sent, and as a Referer
// may show it (RFC 9110, section 10.1.3).
func Plain(u *url.URL) string {
	plain := *u
	plain.User, plain.Fragment, plain.RawFragment = nil, "", ""
	return plain.String()
}
