package target

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// DialledName returns the name or address that net/http dials for u, without brackets: a name
// beyond ASCII in Punycode, with its letters as UTS 46 maps them. u is from Parse, Resolve or Clean.
func DialledName(u *url.URL) string {
	name, _ := toASCII(u.Hostname())
	return name
}

// longestName is how many bytes a name beyond ASCII may have: 253 letters (RFC 1035, section
// 2.3.4) of 4. The time that Punycode takes grows with the square, and a server may choose a name.
const longestName = 4 * 253

// toASCII returns a name as net/http dials it, and whether that is ASCII: net/http leaves a name
// that UTS 46 refuses as it is.
func toASCII(name string) (string, bool) {
	if isASCII(name) {
		return name, true
	}
	if len(name) > longestName || !utf8.ValidString(name) {
		return name, false
	}
	_, err := neverDials.RoundTrip(&http.Request{URL: &url.URL{Scheme: "http", Host: name}, Header: http.Header{}})
	address, ok := errors.AsType[notDialled](err)
	if !ok {
		return name, false
	}
	dialled, _, err := net.SplitHostPort(string(address))
	if err != nil || !isASCII(dialled) {
		return name, false
	}
	return dialled, true
}

// neverDials tells the address that it would dial. Of the standard library only net/http has the
// tables of UTS 46, and it shows a mapped name to dials only. neverDials keeps nothing of a host.
var neverDials = &http.Transport{
	DisableKeepAlives: true,
	DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		return nil, notDialled(address)
	},
}

// A notDialled is the error of a dial to the address.
type notDialled string

func (n notDialled) Error() string { return "not dialled" }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
