package quota

import (
	"strings"
	"time"
)

// A member is one of a list of structured items (RFC 9651): a name with parameters.
type member struct {
	name   string
	params map[string]string // as they are spelled
}

// readStructured hands over the quotas of the fields RateLimit and RateLimit-Policy. As a field
// that is malformed is none (RFC 9651, section 4.2), a broken policy leaves the sizes unknown.
func readStructured(limits, policies string, take func(Quota)) {
	members, ok := list(limits)
	if !ok {
		readDictionary(limits, take)
		return
	}
	known, _ := list(policies)
	for _, m := range members {
		if q, ok := m.quota(known); ok {
			take(q)
		}
	}
}

// quota returns the quota of a member of RateLimit.
func (m member) quota(policies []member) (q Quota, ok bool) {
	left, ok := integer(m.params["r"])
	if !ok {
		return Quota{}, false
	}
	q.Left = count(left)
	if text, told := m.params["t"]; told {
		t, ok := integer(text)
		if !ok || t > int64(Longest/time.Second) {
			return Quota{}, false
		}
		q.Reset = time.Duration(t) * time.Second
	}
	for _, p := range policies {
		if p.name != m.name {
			continue
		}
		if w, ok := integer(p.params["w"]); ok && w > int64(Longest/time.Second) {
			return Quota{}, false
		}
		if unit, told := p.params["qu"]; told && unit != `"requests"` {
			return Quota{}, false // of bytes, for example
		}
		if size, ok := integer(p.params["q"]); ok {
			q.Size = count(size)
		}
	}
	return q, true
}

// readDictionary hands over the quota of a RateLimit of draft 7.
func readDictionary(text string, take func(Quota)) {
	values := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		if _, twice := values[key]; !ok || twice {
			return
		}
		values[key] = value
	}
	left, ok := integer(values["remaining"])
	if !ok {
		return
	}
	reset, ok := integer(values["reset"])
	if !ok || reset > int64(Longest/time.Second) {
		return
	}
	size, _ := integer(values["limit"])
	take(Quota{Left: count(left), Size: count(size), Reset: time.Duration(reset) * time.Second})
}

// integer reads an integer of RFC 9651 that is not negative.
func integer(text string) (n int64, ok bool) {
	if len(text) > 15 || !isDigits(text) {
		return 0, false
	}
	for i := range len(text) {
		n = 10*n + int64(text[i]-'0')
	}
	return n, true
}

// list reads a list of strings or tokens with parameters.
func list(text string) (members []member, ok bool) {
	r := reader{rest: strings.Trim(text, " ")}
	for r.rest != "" {
		m, ok := r.member()
		if !ok {
			return nil, false
		}
		members = append(members, m)
		r.skip(" \t")
		if r.rest == "" {
			break
		}
		if !r.take(',') {
			return nil, false
		}
		if r.skip(" \t"); r.rest == "" {
			return nil, false
		}
	}
	return members, true
}

// A reader reads structured fields from the front.
type reader struct{ rest string }

func (r *reader) skip(blanks string) { r.rest = strings.TrimLeft(r.rest, blanks) }

func (r *reader) take(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// while takes the bytes that match.
func (r *reader) while(match func(c byte) bool) string {
	i := 0
	for i < len(r.rest) && match(r.rest[i]) {
		i++
	}
	taken := r.rest[:i]
	r.rest = r.rest[i:]
	return taken
}

func (r *reader) member() (m member, ok bool) {
	if m.name, ok = r.item(); !ok || !isName(m.name) {
		return m, false
	}
	m.params = map[string]string{}
	for r.take(';') {
		r.skip(" ")
		key := r.while(isKeyByte)
		if key == "" {
			return m, false
		}
		value := "?1"
		if r.take('=') {
			if value, ok = r.item(); !ok {
				return m, false
			}
		}
		m.params[key] = value
	}
	return m, true
}

// item takes a bare item: a string, with its quotes, a byte sequence, or a word of any other
// type, which is not looked at.
func (r *reader) item() (string, bool) {
	start := r.rest
	switch {
	case r.take('"'):
		if !r.finishString() {
			return "", false
		}
	case r.take(':'):
		if r.while(func(c byte) bool { return c != ':' }); !r.take(':') {
			return "", false
		}
	default:
		if r.while(isWordByte) == "" {
			return "", false
		}
	}
	return start[:len(start)-len(r.rest)], true
}

func (r *reader) finishString() bool {
	for {
		r.while(func(c byte) bool { return c != '"' && c != '\\' && ' ' <= c && c < 0x7f })
		switch {
		case r.take('"'):
			return true
		case !r.take('\\') || !r.take('"') && !r.take('\\'):
			return false
		}
	}
}

// isName reports whether an item is a string or a token.
func isName(item string) bool {
	c := item[0]
	return c == '"' || c == '*' || isAlpha(c)
}

func isAlpha(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isKeyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_-.*", c) >= 0
}

func isWordByte(c byte) bool {
	return isAlpha(c) || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~:/?@", c) >= 0
}
