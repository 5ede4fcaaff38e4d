package target

import (
	"net/url"
	"strings"

	"github.com/batchhttp/fetch/internal/fault"
)

// Redact returns a URL as errors show it: no user information, query or
// fragment, printable, and not too long.
func Redact(raw string) string {
	if _, ok := plainHost(raw); ok {
		if i := strings.IndexAny(raw, "?#"); i >= 0 {
			raw = raw[:i]
		}
		return fault.Word(raw)
	}
	if u, err := Parse(raw); err == nil {
		return redactURL(u)
	}
	return fault.Word(stripSecrets(raw))
}

func redactURL(u *url.URL) string {
	if u == nil {
		return `""`
	}
	// Opaque holds whatever follows "mailto:" and its like, secrets included.
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return fault.Word(shown.String())
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
