package target

import (
	"net/url"
	"strings"
)

// that the quick look leaves open are parsed. FuzzHostKey compares the two.
func Host(raw string) (key string, err error) {
	if key, ok := plainHost(raw); ok {
		return key, nil
	}
	u, err := Parse(raw)
	if err != nil {
		return "", err
	}
	return HostOf(u), nil
}

// plainHost is Host for a URL without surprises: a lower-case scheme and
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

// HostOf returns the key of u's host as WithHostLimits describes it. u has passed Check.
func HostOf(u *url.URL) string {
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

// SameOrigin reports whether a secret for a may be sent to b: scheme, host
// and port are the same (RFC 6454, section 4).
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && HostOf(a) == HostOf(b)
}

// IsUpgrade reports whether going from one URL to the other only turns http into https, on
// the default ports of the same host.
func IsUpgrade(from, to *url.URL) bool {
	return from.Scheme == "http" && (from.Port() == "" || from.Port() == "80") &&
		to.Scheme == "https" && (to.Port() == "" || to.Port() == "443") &&
		strings.EqualFold(strings.TrimSuffix(from.Hostname(), "."), strings.TrimSuffix(to.Hostname(), "."))
}
