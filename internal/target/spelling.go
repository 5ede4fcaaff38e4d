package target

import (
	"bytes"
	"net/url"
	"strings"
)

// A class is a set of bytes.
type class uint8

const (
	inPath  class = 1 << iota // stands in a path as it is
	inQuery                   // in a query
	inName                    // in the name of a host
	bare                      // in a path that is its own decoded form to net/url
)

// classes has the classes of each byte. RFC 3986 (sections 3.2.2 to 3.4) decides, but for [ and ]:
// it does not have them in paths and queries, browsers and net/http send them, and servers
// know parameters named "a[]". A % in a path is looked at by itself.
var classes = func() (of [256]class) {
	add := func(c class, bytes string) {
		for i := range len(bytes) {
			of[bytes[i]] |= c
		}
	}
	for c := range 256 {
		if isAlphanumeric(byte(c)) {
			of[c] = inPath | inQuery | inName | bare
		}
	}
	add(inPath|inQuery|inName|bare, "-._~$&+,;=")
	add(inPath|inQuery|inName, "!'()*")
	add(inPath|inQuery|bare, ":@/")
	add(inPath|inQuery, "[]")
	add(inQuery, "?%")
	return of
}()

// blanks are dropped at both ends of a URL, which comes from a file or a page. Other control
// bytes are no mistake of an editor, and refused.
const blanks = " \t\n\f\r"

// spellPath returns the text of a path as it is sent: \ is /, dot segments are gone, and bytes
// that must not be there are escaped, as a browser does for http. Escapes stay byte for
// byte, so that nothing is decoded; a lone % becomes one.
func spellPath(path string) string {
	if path == "" {
		return ""
	}
	b := make([]byte, 0, len(path)+16)
	rest, last := path[1:], false
	for !last {
		end := strings.IndexAny(rest, `/\`)
		if last = end < 0; last {
			end = len(rest)
		}
		b = appendSegment(b, rest[:end], last)
		rest = rest[min(end+1, len(rest)):]
	}
	return string(b)
}

// appendSegment appends a segment to a path with the slash before it, or does as a dot segment
// says (RFC 3986, section 5.2.4). The path ends in a slash where the last one is a dot segment.
func appendSegment(path []byte, segment string, last bool) []byte {
	dots := dotsOf(segment)
	if dots == 0 {
		return appendSpelled(append(path, '/'), segment, inPath)
	}
	if dots == 2 {
		path = path[:max(bytes.LastIndexByte(path, '/'), 0)]
	}
	if last {
		path = append(path, '/')
	}
	return path
}

// dotsOf returns the number of dots of a dot segment, in any spelling, and 0 for others.
func dotsOf(segment string) int {
	dots := 0
	for ; segment != ""; dots++ {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case isEscapedDot(segment):
			segment = segment[3:]
		default:
			return 0
		}
	}
	if dots > 2 {
		return 0
	}
	return dots
}

// spellQuery returns the text of a query as it is sent. A lone % stays, as in browsers.
func spellQuery(query string) string {
	if plainQuery(query) == len(query) {
		return query
	}
	return string(appendSpelled(make([]byte, 0, len(query)+16), query, inQuery))
}

func appendSpelled(b []byte, text string, c class) []byte {
	for i := range len(text) {
		switch at := text[i]; {
		case classes[at]&c != 0, at == '%' && isEscape(text[i:]):
			b = append(b, at)
		default:
			b = append(b, '%', upperHex[at>>4], upperHex[at&15])
		}
	}
	return b
}

const upperHex = "0123456789ABCDEF"

// isEscape reports whether a text begins with an escape.
func isEscape(s string) bool { return len(s) > 2 && s[0] == '%' && isHex(s[1]) && isHex(s[2]) }

// hasLonePercent reports whether a % in a text begins no escape.
func hasLonePercent(s string) bool {
	for i := range len(s) {
		if s[i] == '%' && !isEscape(s[i:]) {
			return true
		}
	}
	return false
}

func isEscapedDot(s string) bool {
	return len(s) > 2 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e'
}

// decoded returns a text with its escapes undone, and with any lone % as it is.
func decoded(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if isEscape(s[i:]) {
			b = append(b, byteOf(s[i:]))
			i += 2
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// byteOf returns the byte of the escape that a text begins with.
func byteOf(s string) byte { return digitOf(s[1])<<4 | digitOf(s[2]) }

func digitOf(hex byte) byte {
	if hex <= '9' {
		return hex - '0'
	}
	return hex | 0x20 - 'a' + 10
}

// setPath gives u a path that has been spelled, for net/url to write it just so.
func setPath(u *url.URL, spelled string) {
	u.Path, u.RawPath = decoded(spelled), ""
	if u.EscapedPath() != spelled {
		u.RawPath = spelled
	}
}
