// Package target turns the text of a URL into what can be sent: it says whether a URL or a
// request can be fetched, which host its limits go by, which origin its secrets belong to,
// and what of it may be shown.
//
// A text is read as a browser reads it (WHATWG URL), by Parse and Resolve, and escapes
// stay as they are, so that no server sees another path or query than was meant. Stricter
// than a browser are: control characters within, a scheme without its two slashes,
// a port 0, a backslash before an @, and a name beyond ASCII that net/http does not map (STD3
// rules of UTS 46), such as one with an underscore. These are errors. More lenient is a name that
// ends in a number.
//
// Everything here is a function of its arguments and may be called from any goroutine.
package target

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
)

// Parse parses a URL that can be fetched, without its fragment. Its errors show nothing of
// the URL, as url.Parse's would.
func Parse(raw string) (*url.URL, error) {
	u, _, err := Read(raw)
	return u, err
}

// Read is Parse, and reports whether the text is sent byte for byte.
func Read(raw string) (u *url.URL, asGiven bool, err error) {
	if p, ok := look(raw); ok {
		return p.parse(), p.whole, nil
	}
	text := strings.Trim(raw, blanks)
	if text == "" {
		return nil, false, invalid("empty")
	}
	p, err := split(text)
	if err != nil {
		return nil, false, err
	}
	u, err = p.parse()
	return u, false, err
}

// parts are cut out of a URL's text, as they are.
type parts struct {
	scheme, user, host, path, query string
	hasQuery                        bool
}

// split splits the text of a URL.
func split(text string) (p parts, err error) {
	text, _, _ = strings.Cut(text, "#")
	if strings.ContainsFunc(text, isControl) {
		return p, invalid("control character")
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if p.scheme = lower(scheme); !ok || p.scheme != "http" && p.scheme != "https" {
		return p, withoutScheme(text)
	}
	rest, p.query, p.hasQuery = strings.Cut(rest, "?")
	authority, _, _ := strings.Cut(rest, "/")
	if i := strings.IndexByte(authority, '\\'); i >= 0 {
		if strings.Contains(authority[i:], "@") {
			// To a browser the host is before it, to others after it.
			return p, invalid("backslash before an at sign")
		}
		authority = authority[:i]
	}
	p.path = rest[len(authority):]
	i := strings.LastIndexByte(authority, '@')
	p.user, p.host = authority[:max(i, 0)], authority[i+1:]
	return p, nil
}

// withoutScheme returns the error of a text that does not begin as a URL does.
func withoutScheme(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return invalid("cannot be parsed")
	case u.Scheme == "" && u.Host != "":
		return invalid("no scheme")
	case u.Scheme == "":
		return invalid("not absolute")
	case u.Scheme != "http" && u.Scheme != "https":
		return invalid("scheme is not http or https")
	}
	return invalid("no host")
}

// parse makes a URL of the parts, as they are sent.
func (p *parts) parse() (*url.URL, error) {
	host, err := decodeHost(p.host)
	if err == nil {
		host, err = spellHost(host)
	}
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: p.scheme, Host: host, RawQuery: spellQuery(p.query), ForceQuery: p.hasQuery && p.query == ""}
	setPath(u, spellPath(p.path))
	if name, password, _ := strings.Cut(p.user, ":"); password != "" {
		u.User = url.UserPassword(decoded(name), decoded(password))
	} else if name != "" { // an empty password is sent like none
		u.User = url.User(decoded(name))
	}
	return u, nil
}

// Clean returns a URL that was made elsewhere as it can be sent: u itself, which it does not
// change, or another that means the same. Its parts are spelled as Parse does; a path
// is not decoded where RawPath has another spelling of it. The path "*" is the target of OPTIONS; a
// request with another method asks for "/*", as the text of u says.
func Clean(u *url.URL, method string) (*url.URL, error) {
	switch {
	case u == nil:
		return nil, invalid("nil URL")
	case isPlain(u):
		return u, nil
	case u.Scheme == "" && u.Host != "":
		return nil, invalid("no scheme")
	case u.Scheme == "":
		return nil, invalid("not absolute")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("scheme is not http or https")
	}
	host, err := spellHost(u.Host)
	if err != nil {
		return nil, err
	}
	clean := *u
	clean.Host = host
	query := u.RawQuery
	if u.Fragment == "" {
		query = strings.TrimRight(query, blanks)
	}
	clean.RawQuery, clean.ForceQuery = spellQuery(query), u.ForceQuery || u.RawQuery != "" && query == ""
	setPath(&clean, cleanPath(u, method))
	if u.Opaque != "" && !isOpaque(&clean) {
		return nil, invalid("an opaque part that cannot be sent")
	}
	return &clean, nil
}

// cleanPath returns the path of u as it is sent.
func cleanPath(u *url.URL, method string) string {
	path := u.EscapedPath()
	if u.RawPath != "" && decoded(u.RawPath) == u.Path {
		path = u.RawPath
	}
	if u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" {
		path = strings.TrimRight(path, blanks) // at the end of a text; an escaped one stays
	}
	switch {
	case path == "" || path == "*" && method == http.MethodOptions && u.RawQuery == "" && !u.ForceQuery:
		return path
	case !isSlash(path[0]):
		path = "/" + path // as the text of u has it
	}
	return spellPath(path)
}

// isOpaque reports whether the opaque part of u can be sent. net/http leaves it as it is: it must not
// have user information or lack a host (RFC 9110, section 4.2), or have a fragment (RFC 9112, section 3.2),
// and its host must be one as it is sent.
func isOpaque(u *url.URL) bool {
	if strings.ContainsFunc(u.Opaque, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		return false
	}
	asked := u.RequestURI()
	sent, err := url.ParseRequestURI(asked)
	switch {
	case err != nil || sent.User != nil:
		return false
	case asked[0] == '/' || asked == "*":
		return true
	}
	host, err := spellHost(sent.Host)
	return err == nil && hostField(host) == host
}

// Credentials returns the name and password of a URL for Basic, if it has any.
func Credentials(u *url.URL) (name, password string, ok bool) {
	password, _ = u.User.Password()
	return u.User.Username(), password, u.User.Username() != "" || password != ""
}

func invalid(why string) error { return fmt.Errorf("%w: %s", fault.ErrInvalidURL, why) }

// Reason returns the text of an error of Parse or Clean without that of its sentinel.
func Reason(err error) string {
	return strings.TrimPrefix(err.Error(), fault.ErrInvalidURL.Error()+": ")
}

// Distinct returns the text that WithDedup compares: the URL as it is sent, with its user information,
// and its host as it is dialled, in lower case. A text that cannot be sent is returned as it is.
func Distinct(raw string) string {
	if p, ok := look(raw); ok && p.path != "" && len(p.key) == len(p.host) {
		raw, _, _ = strings.Cut(raw, "#")
		return raw
	}
	u, err := Parse(raw)
	if err != nil {
		return raw
	}
	if name := nameOf(u); isASCII(name) {
		u.Host = name + portOf(u)
	} else {
		u.Host = DialledName(u) + portOf(u)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
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
	if !isASCII(u.Host) {
		plain.Host = HostField(u)
	}
	switch {
	case strings.HasPrefix(u.Opaque, "//"):
	case strings.HasPrefix(u.Opaque, "/"):
		plain.Opaque = "//" + plain.Host + u.Opaque
	case u.Opaque == "*", u.Opaque == "" && u.Path == "*": // of OPTIONS (RFC 9112, section 3.3)
		plain.Opaque, plain.Path, plain.RawPath = "", "", ""
	case u.Opaque != "":
		return u.RequestURI()
	}
	return plain.String()
}
