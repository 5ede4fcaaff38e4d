package target

import (
	"net/url"
	"strings"
)

// Host returns the key of a URL's host, or why the URL cannot be sent. Only URLs
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

// HostOf returns the key of u's host as WithHostLimits describes it. u is from Parse, Resolve
// or Clean, so that an address has one spelling.
func HostOf(u *url.URL) string {
	return strings.TrimSuffix(nameOf(u), ".") + portOf(u)
}

// nameOf returns u's host as everybody may spell it.
func nameOf(u *url.URL) string {
	name := u.Hostname()
	if strings.Contains(name, ":") {
		return "[" + name + "]" // in which a zone has cases
	}
	return lower(name)
}

// portOf returns the :port of u that is not the default one, or "".
func portOf(u *url.URL) string {
	port := strings.TrimLeft(u.Port(), "0")
	if port == "" || port == defaultPort(u.Scheme) {
		return ""
	}
	return ":" + port
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
	return from.Scheme == "http" && to.Scheme == "https" &&
		portOf(from) == "" && portOf(to) == "" && HostOf(from) == HostOf(to)
}
