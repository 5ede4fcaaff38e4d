package target

import (
	"net/netip"
	"net/url"
	"strings"
)

// A plainURL is a URL that is sent byte for byte, as most are: a lower-case scheme and host
// of ASCII letters, digits, dots and hyphens, no user information, and nothing to
// spell otherwise. It is found in one look and costs no memory. FuzzHostKey and FuzzSpelling
// compare the look with Parse.
type plainURL struct {
	scheme, host, key string
	path, query       string
	hasQuery          bool
	bare              bool // the path
	whole             bool // has no fragment
}

// look returns raw as a plainURL if it is one.
func look(raw string) (p plainURL, ok bool) {
	rest, ok := strings.CutPrefix(raw, "http")
	if !ok {
		return p, false
	}
	rest, secure := strings.CutPrefix(rest, "s")
	p.scheme = raw[:len(raw)-len(rest)]
	if rest, ok = strings.CutPrefix(rest, "://"); !ok {
		return p, false
	}
	end := 0
	p.key, end = plainHostOf(rest, secure)
	p.host = rest[:end]
	return p, p.key != "" && p.lookAtTail(rest[end:])
}

// plainHost returns the host key of raw if that is plain.
func plainHost(raw string) (key string, ok bool) {
	p, ok := look(raw)
	return p.key, ok
}

// plainHostOf returns the key of the host and port that s begins with, and their length. The
// key is empty unless they are plain.
func plainHostOf(s string, secure bool) (key string, end int) {
	for end < len(s) && isPlainHostByte(s[end]) {
		end++
	}
	if end == 0 || s[0] == '.' {
		return "", 0
	}
	key = strings.TrimSuffix(s[:end], ".")
	if last := key[strings.LastIndexByte(key, '.')+1:]; last == "" || isDigit(last[0]) && !isIPv4(s[:end]) {
		return "", 0
	}
	if port := plainPort(s[end:], secure); port > 0 && len(key) == end {
		end += port
		key = s[:end]
	}
	return key, end
}

// isIPv4 reports whether s is an IPv4 address as a key has it.
func isIPv4(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is4()
}

// plainPort returns the length of the :port that s begins with, or 0 if there is none that
// can be part of a key as it is.
func plainPort(s string, secure bool) int {
	if len(s) < 2 || s[0] != ':' || s[1] == '0' {
		return 0
	}
	end, n := 1, 0
	for end < len(s) && isDigit(s[end]) && n <= 65535 {
		n = 10*n + int(s[end]-'0')
		end++
	}
	if n == 0 || n > 65535 || n == 80 && !secure || n == 443 && secure {
		return 0
	}
	return end
}

// lookAtTail takes in all that follows the host, and reports whether it is plain.
func (p *plainURL) lookAtTail(s string) bool {
	if s != "" && s[0] != '/' && s[0] != '?' && s[0] != '#' {
		return false
	}
	end, ok := 0, true
	if end, p.bare, ok = plainPath(s); !ok {
		return false
	}
	p.path, s = s[:end], s[end:]
	if p.hasQuery = s != "" && s[0] == '?'; p.hasQuery {
		end = 1 + plainQuery(s[1:])
		p.query, s = s[1:end], s[end:]
	}
	p.whole = s == ""
	return p.whole || s[0] == '#'
}

// plainPath returns the length of the path that s begins with, and whether it is bare and plain.
func plainPath(s string) (end int, isBare, ok bool) {
	isBare = true
	for ; end < len(s); end++ {
		switch c := s[end]; {
		case c == '.':
			if end > 0 && s[end-1] == '/' && beginsWithDots(s[end:]) {
				return 0, false, false
			}
		case classes[c]&bare != 0:
		case classes[c]&inPath != 0:
			isBare = false
		case c == '%':
			if !isEscape(s[end:]) || isEscapedDot(s[end:]) {
				return 0, false, false
			}
			isBare = false
		default:
			return end, isBare, c == '?' || c == '#'
		}
	}
	return end, isBare, true
}

// beginsWithDots reports whether s begins with a dot segment.
func beginsWithDots(s string) bool {
	rest := strings.TrimPrefix(s[1:], ".")
	return rest == "" || classes[rest[0]]&inPath == 0 && rest[0] != '%' || rest[0] == '/'
}

// plainQuery returns the length of the query that s begins with, as far as it is plain.
func plainQuery(s string) int {
	for i := range len(s) {
		if classes[s[i]]&inQuery == 0 {
			return i
		}
	}
	return len(s)
}

// parse returns the URL as url.Parse would, without its repeated looks at each byte.
func (p *plainURL) parse() *url.URL {
	u := &url.URL{Scheme: p.scheme, Host: p.host, Path: p.path, RawQuery: p.query, ForceQuery: p.hasQuery && p.query == ""}
	if !p.bare {
		setPath(u, p.path)
	}
	return u
}

// isPlain reports whether a URL that was made elsewhere can be sent as it is.
func isPlain(u *url.URL) bool {
	if u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || u.RawPath != "" {
		return false
	}
	if key, end := plainHostOf(u.Host, u.Scheme == "https"); key == "" || end != len(u.Host) {
		return false
	}
	end, isBare, ok := plainPath(u.Path)
	if !ok || !isBare || end != len(u.Path) || end > 0 && u.Path[0] != '/' {
		return false
	}
	return plainQuery(u.RawQuery) == len(u.RawQuery)
}

func isPlainHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || isDigit(c) || c == '.' || c == '-'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}
