package target

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spellHost returns a host, with its port if there is one, as it is sent: an address in its
// one spelling (RFC 5952), and without a colon that no port follows. A name stays as it is; its
// case means nothing to anybody.
func spellHost(host string) (string, error) {
	name, port, inBrackets, err := cutPort(host)
	if err != nil {
		return "", err
	}
	spell := spellName
	if inBrackets {
		spell = spellIPv6
	}
	name, err = spell(name)
	if err != nil || port == "" {
		return name, err
	}
	return name + ":" + port, nil
}

// cutPort cuts a host in two.
func cutPort(host string) (name, port string, inBrackets bool, err error) {
	end := strings.IndexByte(host, ':')
	if end < 0 {
		end = len(host)
	}
	name = host[:end]
	if inBrackets = strings.HasPrefix(host, "["); inBrackets {
		end = strings.LastIndexByte(host, ']') + 1
		name = host[1:max(end-1, 1)]
	}
	port, hasColon := strings.CutPrefix(host[end:], ":")
	switch {
	case inBrackets && end == 0, !hasColon && port != "":
		return "", "", false, invalid("cannot be parsed")
	case strings.Contains(port, ":"):
		return "", "", false, invalid("IPv6 address without brackets")
	case port != "" && !isPort(port):
		return "", "", false, invalid("bad port")
	}
	return name, port, inBrackets, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n != 0
}

// spellIPv6 returns an address in brackets, and an IPv4 address for one that is mapped.
func spellIPv6(text string) (string, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is6() || !isZone(addr.Zone()) {
		return "", invalid("no IPv6 address in the brackets")
	}
	if addr.Is4In6() {
		return addr.Unmap().String(), nil
	}
	return "[" + addr.String() + "]", nil
}

// isZone reports whether a zone can be written in a URL. It is not sent (RFC 6874, section 4).
func isZone(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r >= utf8.RuneSelf || classes[r]&inName == 0 && r != ' ' // as Windows has them
	})
}

// spellName returns the name of a host. One that ends in a number is an address if a browser
// takes it for one, such as 127.1 or 0x7f000001, and a name if not: resolvers differ about these.
// A name beyond ASCII stays as it is, unless it is dialled as an address.
func spellName(name string) (string, error) {
	dialled, ok := toASCII(name)
	if !ok {
		return "", errNotName
	}
	label := strings.TrimSuffix(dialled, ".")
	label = label[strings.LastIndexByte(label, '.')+1:]
	if label != "" && isDigit(label[0]) {
		if addr, ok := looseIPv4(strings.TrimSuffix(dialled, ".")); ok {
			return addr.String(), nil
		}
	}
	if strings.Trim(dialled, ".") == "" {
		return "", invalid("no host")
	}
	if !isName(dialled) {
		return "", errNotName
	}
	return name, nil
}

var errNotName = invalid("the host has a character that no name has")

// looseIPv4 reads one to four numbers, of which the last fills the bytes that are left, in
// decimal, octal or hexadecimal (WHATWG URL, IPv4 parser).
func looseIPv4(s string) (addr netip.Addr, ok bool) {
	numbers := strings.SplitN(s, ".", 5)
	if len(numbers) > 4 {
		return addr, false
	}
	var bytes [4]byte
	for i, number := range numbers {
		left := 1
		if i == len(numbers)-1 {
			left = 4 - i
		}
		n, err := looseNumber(number, 8*left)
		if err != nil {
			return addr, false
		}
		for ; left > 0; left-- {
			bytes[i+left-1] = byte(n)
			n >>= 8
		}
	}
	return netip.AddrFrom4(bytes), true
}

func looseNumber(s string, bits int) (uint64, error) {
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		if s = s[2:]; s == "" {
			return 0, nil
		}
		return strconv.ParseUint(s, 16, bits)
	case len(s) > 1 && s[0] == '0':
		return strconv.ParseUint(s, 8, bits)
	}
	return strconv.ParseUint(s, 10, bits)
}

// isName reports whether a name has only bytes that names have.
func isName(name string) bool {
	for i := range len(name) {
		if classes[name[i]]&inName == 0 {
			return false
		}
	}
	return true
}

// decodeHost undoes the escapes that the text of a URL may have in its host: of bytes beyond
// ASCII, and of a zone behind %25 (RFC 6874). Others stay, and are refused.
func decodeHost(text string) (string, error) {
	if strings.IndexByte(text, '%') < 0 {
		return text, nil
	}
	if strings.HasPrefix(text, "[") {
		address, zone, ok := strings.Cut(text, "%25")
		if !ok || strings.Contains(address, "%") {
			return "", invalid("no IPv6 address in the brackets")
		}
		return address + "%" + decoded(zone), nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if isEscape(text[i:]) && byteOf(text[i:]) >= utf8.RuneSelf {
			b.WriteByte(byteOf(text[i:]))
			i += 2
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String(), nil
}

// CleanHost returns the Host of a request as it is sent, with an address in its one spelling, or
// why it cannot be sent. It need not be the host of a URL: a server may know others.
func CleanHost(host string) (string, error) {
	if key, end := plainHostOf(host, false); key != "" && end == len(host) {
		return host, nil
	}
	if clean, err := spellHost(host); err == nil {
		return hostField(clean), nil
	}
	if !isName(colons.Replace(host)) {
		return "", invalid("the Host field has a character that no host has")
	}
	return host, nil
}

// colons takes the bytes out of a Host that no name has.
var colons = strings.NewReplacer(":", "", "[", "", "]", "")

// HostField returns the Host field of a request to u, which is from Parse, Resolve or Clean. It
// names the host that is dialled. net/http writes another name than it dials where letters are
// mapped, and no host at all if a zone has a blank.
func HostField(u *url.URL) string { return hostField(u.Host) }

// hostField returns a spelled host without its zone (RFC 6874, section 4), and in ASCII.
func hostField(host string) string {
	if isASCII(host) && strings.IndexByte(host, '%') < 0 {
		return host
	}
	u := url.URL{Host: host}
	name, port := DialledName(&u), ""
	if name, _, _ = strings.Cut(name, "%"); strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if port = u.Port(); port != "" {
		port = ":" + port
	}
	return name + port
}
