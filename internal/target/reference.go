package target

import (
	"net/url"
	"strings"
)

// Resolve returns the URL that a reference leads to from base (RFC 3986, section 5.2), and
// whether the reference has a scheme of its own. The texts are put together before either
// is read, so that nothing is lost on the way. The URL has no user information.
func Resolve(base *url.URL, reference string) (u *url.URL, isAbsolute bool, err error) {
	text := strings.Trim(reference, blanks)
	if isAbsolute = hasScheme(text); !isAbsolute {
		text = join(base, text)
	}
	p, err := split(text)
	if err != nil {
		return nil, false, err
	}
	if hasLonePercent(p.user) { // a server has no secrets to give that must be guessed at
		return nil, false, invalid("bad escape in user information")
	}
	if u, err = p.parse(); err != nil {
		return nil, false, err
	}
	u.User = nil
	return u, isAbsolute, nil
}

// hasScheme reports whether a reference begins with a scheme, or with the colon behind it.
func hasScheme(reference string) bool {
	scheme, _, ok := strings.Cut(reference, ":")
	return ok && isScheme(scheme) && (scheme == "" || !isDigit(scheme[0]))
}

// join returns the text of an absolute URL for a reference without scheme. As in net/http an
// empty authority is none: "//" leads to base, and "///x" to a path.
func join(base *url.URL, reference string) string {
	reference, _, _ = strings.Cut(reference, "#")
	path := base.EscapedPath()
	origin := (&url.URL{Scheme: base.Scheme, Host: base.Host}).String()
	if n := slashes(reference); n == 2 {
		switch rest := reference[2:]; {
		case rest == "":
			reference = ""
		case rest[0] == '?':
			reference = rest
		default:
			return base.Scheme + "://" + rest
		}
	}
	switch {
	case reference == "" && base.RawQuery == "":
		return origin + path
	case reference == "":
		return origin + path + "?" + base.RawQuery
	case reference[0] == '?':
		return origin + path + reference
	case isSlash(reference[0]):
		return origin + reference
	}
	return origin + path[:max(strings.LastIndexByte(path, '/'), 0)] + "/" + reference
}

// slashes returns how many slashes, of either kind, a text begins with.
func slashes(s string) int {
	n := 0
	for n < len(s) && isSlash(s[n]) {
		n++
	}
	return n
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }
