package target

import (
	"cmp"
	"net/url"
	"strings"
)

// Resolve returns the URL that a reference leads to from base (RFC 3986, section 5.2), and
// whether the reference has a scheme of its own. The texts are put together before either
// is read, so that nothing is lost on the way. The URL has no user information.
func Resolve(base *url.URL, reference string) (u *url.URL, isAbsolute bool, err error) {
	text := strings.Trim(reference, blanks)
	if isAbsolute = hasScheme(text); !isAbsolute {
		if text, err = join(base, text); err != nil {
			return nil, false, err
		}
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
func join(base *url.URL, reference string) (string, error) {
	reference, _, _ = strings.Cut(reference, "#")
	if n := slashes(reference); n == 2 {
		switch rest := reference[2:]; {
		case rest == "":
			reference = ""
		case rest[0] == '?':
			reference = rest
		default:
			return base.Scheme + "://" + rest, nil
		}
	}
	origin := (&url.URL{Scheme: base.Scheme, Host: base.Host}).String()
	path, query, err := askedFor(base)
	switch {
	case err != nil:
		return "", err
	case reference == "":
		return origin + path + query, nil
	case reference[0] == '?':
		return origin + path + reference, nil
	case isSlash(reference[0]):
		return origin + reference, nil
	}
	return origin + path[:max(strings.LastIndexByte(path, '/'), 0)] + "/" + reference, nil
}

// askedFor returns the path and the query, with its question mark, that a request to u asks for
// (RFC 9112, section 3.3). An opaque part has them if there is one; the * of OPTIONS has neither.
func askedFor(u *url.URL) (path, query string, err error) {
	asked := u.RequestURI()
	switch {
	case u.Opaque == "":
		path = u.EscapedPath()
		query = asked[len(cmp.Or(path, "/")):]
	case asked[0] == '/':
		path, _, _ = strings.Cut(asked, "?")
		query = asked[len(path):]
	case asked != "*":
		absolute, err := Parse(asked)
		if err != nil || !SameOrigin(absolute, u) {
			return "", "", invalid("relative, after a request for a URL of another host")
		}
		return askedFor(absolute)
	}
	if path == "*" {
		path = ""
	}
	return strings.ReplaceAll(path, `\`, "%5C"), query, nil
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
