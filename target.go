package fetch

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// hostOf returns the host key of a URL, which limits, rates and pauses go by, or
// why the URL cannot be fetched. Most URLs need no parsing for that; those
// that the quick look leaves open are parsed. FuzzHostKey compares the two.
func hostOf(raw string) (key string, err error) {
	if key, ok := plainHost(raw); ok {
		return key, nil
	}
	u, err := parse(raw)
	if err != nil {
		return "", err
	}
	return hostKey(u), nil
}

// plainHost is hostOf for a URL without surprises: a lower-case scheme and
// host of ASCII letters, digits, dots and hyphens, no user information, and
// nothing that would need escaping.
func plainHost(raw string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(raw, "http")
	if !ok {
		return "", false
	}
	rest, secure := strings.CutPrefix(rest, "s")
	if rest, ok = strings.CutPrefix(rest, "://"); !ok {
		return "", false
	}
	end := 0
	for end < len(rest) && isPlainHostByte(rest[end]) {
		end++
	}
	if end == 0 || rest[0] == '.' {
		return "", false
	}
	key = strings.TrimSuffix(rest[:end], ".")
	if port := plainPort(rest[end:], secure); port > 0 && len(key) == end {
		end += port
		key = rest[:end]
	}
	return key, isPlainTail(rest[end:])
}

// plainPort returns the length of the :port that s begins with, or 0 if there is none that
// can be part of a key as it is.
func plainPort(s string, secure bool) int {
	if len(s) < 2 || s[0] != ':' || s[1] == '0' {
		return 0
	}
	end, n := 1, 0
	for end < len(s) && '0' <= s[end] && s[end] <= '9' && n <= 65535 {
		n = 10*n + int(s[end]-'0')
		end++
	}
	if n == 0 || n > 65535 || n == 80 && !secure || n == 443 && secure {
		return 0
	}
	return end
}

func isPlainHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-'
}

// isPlainTail reports whether s can follow the host of a plain URL: path,
// query and fragment in printable ASCII, with sound percent-encoding.
func isPlainTail(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != '/' && s[0] != '?' && s[0] != '#' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])):
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// parse parses a URL that can be fetched. Its errors show nothing of the URL:
// those of url.Parse print user information and query.
func parse(raw string) (*url.URL, error) {
	if strings.TrimSpace(raw) == "" {
		return nil, invalid("empty")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, invalid(parseFailure(raw))
	}
	return u, checkURL(u)
}

func invalid(why string) error { return fmt.Errorf("%w: %s", ErrInvalidURL, why) }

// parseFailure says what is wrong with a URL that url.Parse refused, without its words.
func parseFailure(raw string) string {
	if strings.ContainsFunc(raw, isControl) {
		return "control character"
	}
	return "cannot be parsed"
}

// checkURL reports why u cannot be fetched, or nil.
func checkURL(u *url.URL) error {
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

// checkRequest reports why a request cannot be sent, or nil. net/http finds
// most of it too, but only when a slot has been taken.
func checkRequest(req *http.Request) error {
	switch {
	case req == nil:
		return invalid("nil request")
	case req.RequestURI != "":
		return invalid("RequestURI is set, which is for servers")
	case !isToken(methodOf(req.Method)):
		return invalid("method is not a token")
	}
	for key, values := range req.Header {
		if !isToken(key) {
			return invalid(fmt.Sprintf("header field name %q", key))
		}
		for _, value := range values {
			if !isFieldValue(value) {
				return invalid(fmt.Sprintf("the value of header %q has a control character", key))
			}
		}
	}
	return checkURL(req.URL)
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s has no control character (RFC 9110, section 5.5).
func isFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// hostKey returns the key of u's host as WithHostLimits describes it. u has passed checkURL.
func hostKey(u *url.URL) string {
	host := lower(strings.TrimSuffix(u.Hostname(), "."))
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	port := strings.TrimLeft(u.Port(), "0")
	if port == "" || port == defaultPort(u.Scheme) {
		return host
	}
	return host + ":" + port
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// sameOrigin reports whether a secret for a may be sent to b: scheme, host
// and port are the same (RFC 6454, section 4).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostKey(a) == hostKey(b)
}

// distinctKey returns what WithDedup compares: the URL without its fragment,
// and with scheme and host in lower case.
func distinctKey(raw string) string {
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

// redact returns a URL as errors show it: no user information, query or
// fragment, printable, and not too long.
func redact(raw string) string {
	if _, ok := plainHost(raw); ok {
		if i := strings.IndexAny(raw, "?#"); i >= 0 {
			raw = raw[:i]
		}
		return quoteShort(raw)
	}
	if u, err := parse(raw); err == nil {
		return redactURL(u)
	}
	return quoteShort(stripSecrets(raw))
}

func redactURL(u *url.URL) string {
	if u == nil {
		return `""`
	}
	// Opaque holds whatever follows "mailto:" and its like, secrets included.
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return quoteShort(shown.String())
}

// stripSecrets cuts what may be secret out of a URL that cannot be parsed.
// Where the parts of such a URL begin is anybody's guess, so it cuts too much
// rather than too little: all from the first ?, # or control character, or
// nearly everything if an @ follows that, which may be the end of a password;
// then all up to the last @, and all from a colon that no port follows.
func stripSecrets(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !isScheme(scheme) {
		scheme, rest = "", raw
	} else {
		scheme += "://"
	}
	if i := strings.IndexFunc(rest, func(r rune) bool { return r == '?' || r == '#' || isControl(r) }); i >= 0 {
		if strings.Contains(rest[i:], "@") {
			return scheme + "..."
		}
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.IndexByte(rest, ':'); i >= 0 && !startsWithPort(rest[i+1:]) {
		rest = rest[:i]
	}
	return scheme + rest
}

func isScheme(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f || !isAlphanumeric(byte(r)) && !strings.ContainsRune("+-.", r) }) < 0
}

func startsWithPort(s string) bool {
	digits := strings.TrimLeft(s, "0123456789")
	return digits == "" || digits[0] == '/'
}

// quotedLength bounds what errors show of strings that came from elsewhere.
const quotedLength = 200

// quoteShort returns s for an error text: cut to quotedLength, and quoted if
// it has anything that is not printable ASCII, or is empty.
func quoteShort(s string) string {
	if len(s) > quotedLength {
		s = s[:quotedLength] + "..."
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return strconv.QuoteToASCII(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func methodOf(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}
