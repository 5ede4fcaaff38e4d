package target

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/fault"
)

var hostKeys = []struct{ name, raw, key string }{
	{"a plain host", "http://example.com/", "example.com"},
	{"no path", "https://example.com", "example.com"},
	{"a query without a path", "http://example.com?q", "example.com"},
	{"a fragment without a path", "http://example.com#f", "example.com"},
	{"capitals", "HTTP://EXAMPLE.Com/A", "example.com"},
	{"a trailing dot", "http://example.com./", "example.com"},
	{"a trailing dot and a port", "http://example.com.:8080/", "example.com:8080"},
	{"two trailing dots are not one", "http://example.com../", "example.com."},
	{"the default port of http", "http://example.com:80/", "example.com"},
	{"the default port of https", "https://example.com:443/", "example.com"},
	{"443 is not the default of http", "http://example.com:443/", "example.com:443"},
	{"80 is not the default of https", "https://example.com:80/", "example.com:80"},
	{"another port", "http://example.com:8080/", "example.com:8080"},
	{"a colon without a port", "http://example.com:/", "example.com"},
	{"leading zeros", "http://example.com:0080/", "example.com"},
	{"leading zeros of another port", "http://example.com:008080/", "example.com:8080"},
	{"user information", "http://user:pass@Example.com/", "example.com"},
	{"user information with an at sign", "http://a@b@example.com:81/", "example.com:81"},
	{"IPv4", "http://192.0.2.1:8080/", "192.0.2.1:8080"},
	{"IPv6", "http://[2001:DB8::1]/", "[2001:db8::1]"},
	{"IPv6 with the default port", "https://[2001:db8::1]:443/", "[2001:db8::1]"},
	{"IPv6 with a port", "http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"},
	{"an underscore", "http://a_b.example/", "a_b.example"},
	{"a percent sign in the path", "http://example.com/%2F", "example.com"},
	{"a space in the path", "http://example.com/a b", "example.com"},
	{"a non-ASCII host", "http://bücher.example/", "bücher.example"},
	// Its lower case is an ASCII letter to unicode.ToLower, though to the name
	// service it is another host.
	{"a capital with a dot above is no i", "http://İ.example/", "İ.example"},
}

func TestAHostKeyIsTheLowerCaseHostAndAnUnusualPort(t *testing.T) {
	for _, test := range hostKeys {
		t.Run(test.name, func(t *testing.T) {
			key, err := Host(test.raw)
			if err != nil || key != test.key {
				t.Errorf("Host(%q) = %q, %v; want %q", test.raw, key, err, test.key)
			}
		})
	}
}

func TestAURLThatCannotBeFetchedHasNoHostKey(t *testing.T) {
	for name, raw := range map[string]string{
		"empty":                      "",
		"blank":                      " \t",
		"relative":                   "/path",
		"no scheme":                  "//host/path",
		"a host and port only":       "localhost:8080/x",
		"another scheme":             "ftp://host/",
		"a scheme that begins alike": "httpx://host/",
		"no slashes":                 "http:host/",
		"no host":                    "http://",
		"an empty host":              "http:///path",
		"a port only":                "http://:80/",
		"a dot only":                 "http://./",
		"user information only":      "http://user@/",
		"port zero":                  "http://host:0/",
		"a port too large":           "http://host:65536/",
		"a port of letters":          "http://host:http/",
		"a negative port":            "http://host:-1/",
		"a space in the host":        "http://a b/",
		"a control character":        "http://host/\x00",
		"a line break":               "http://host/\r\nX: y",
		"bad percent-encoding":       "http://host%zz/",
		"cut percent-encoding":       "http://host%2/",
		"an open bracket":            "http://[::1/",
		"brackets around a name":     "http://[127.0.0.1]x/",
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := Host(raw); !errors.Is(err, fault.ErrInvalidURL) || key != "" {
				t.Errorf("Host(%q) = %q, %v; want fault.ErrInvalidURL", raw, key, err)
			}
		})
	}
}

func FuzzHostKey(f *testing.F) {
	for _, test := range hostKeys {
		f.Add(test.raw)
	}
	for _, raw := range []string{
		"", "http://", "http://.", "http://a..", "http://-", "http://a%", "http://a/%", "http://a/%2", "http://a/%4g",
		"http://a\\b", "http://a/\\", "http://a:b", "https://a\x7f", "http://a/\x80", "httpss://a", "http://a/?#%",
		"http://0x7f.1", "http://a#?/%20", "http://[::1%25lo]/", "http://a/\"<>^`{|}",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		key, err := Host(raw)
		if (err == nil) != (key != "") {
			t.Fatalf("Host(%q) = %q, %v", raw, key, err)
		}
		if err != nil && (!errors.Is(err, fault.ErrInvalidURL) || len(raw) > 8 && strings.Contains(err.Error(), raw)) {
			t.Fatalf("Host(%q): %v", raw, err)
		}
		u, parseErr := Parse(raw)
		if (parseErr == nil) != (err == nil) {
			t.Fatalf("Host(%q): %v; Parse: %v", raw, err, parseErr)
		}
		if parseErr == nil && HostOf(u) != key {
			t.Fatalf("Host(%q) = %q, parsed it is %q", raw, key, HostOf(u))
		}
		if quick, ok := plainHost(raw); ok && (parseErr != nil || quick != key) {
			t.Fatalf("plainHost(%q) = %q; parsed it is %q, %v", raw, quick, key, parseErr)
		}
	})
}

func TestAnOriginIsSchemeHostAndPort(t *testing.T) {
	for _, test := range []struct {
		name, a, b string
		same       bool
	}{
		{"the same", "http://a.example/x", "http://a.example/y", true},
		{"capitals", "http://a.example", "HTTP://A.Example", true},
		{"the default port", "https://a.example", "https://a.example:443", true},
		{"leading zeros", "http://a.example:8080", "http://a.example:08080", true},
		{"another scheme", "http://a.example", "https://a.example", false},
		{"another scheme, the same port", "http://a.example:443", "https://a.example", false},
		{"another port", "http://a.example", "http://a.example:8080", false},
		{"a subdomain", "http://a.example", "http://b.a.example", false},
		{"a suffix", "http://a.example", "http://a.example.com", false},
		{"a non-ASCII letter whose lower case is ASCII", "http://i.example", "http://İ.example", false},
		{"an IPv6 zone", "http://[fe80::1%25a]", "http://[fe80::1%25b]", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := mustParse(t, test.a), mustParse(t, test.b)
			if SameOrigin(a, b) != test.same || SameOrigin(b, a) != test.same {
				t.Errorf("SameOrigin(%s, %s) = %v", test.a, test.b, !test.same)
			}
		})
	}
}

func TestADistinctKeyIgnoresTheFragmentAndTheCaseOfSchemeAndHost(t *testing.T) {
	for _, test := range []struct{ name, raw, key string }{
		{"nothing to change", "http://a.example/X?Y", "http://a.example/X?Y"},
		{"a fragment", "http://a.example/x#Frag", "http://a.example/x"},
		{"a fragment right after the host", "http://a.example#Frag", "http://a.example/"},
		{"capitals", "HTTP://A.Example/X?Y", "http://a.example/X?Y"},
		{"capitals without a path", "HTTPS://A.Example", "https://a.example/"},
		{"capitals before a query", "http://A.Example?Y", "http://a.example/?Y"},
		{"the case of user information counts", "http://User:Pass@A.Example/", "http://User:Pass@a.example/"},
		{"an at sign in the path", "http://a.example/@B", "http://a.example/@B"},
		{"a URL in the query", "http://a.example/?u=http://B/", "http://a.example/?u=http://B/"},
		{"a port is kept", "http://A:81/", "http://a:81/"},
		{"the default port is not", "http://A:80/", "http://a/"},
		{"no URL at all", "A", "A"},
		{"empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if key := Distinct(test.raw); key != test.key {
				t.Errorf("Distinct(%q) = %q, want %q", test.raw, key, test.key)
			}
		})
	}
}

func FuzzDistinctKey(f *testing.F) {
	for _, test := range hostKeys {
		f.Add(test.raw)
	}
	f.Add("HTTP://User@A.B:080/C?D#E")
	f.Add("http://a/://B")
	f.Fuzz(func(t *testing.T, raw string) {
		key := Distinct(raw)
		if again := Distinct(key); again != key {
			t.Fatalf("Distinct(%q) = %q, and of that %q", raw, key, again)
		}
		u, err := Parse(raw)
		if err != nil {
			return
		}
		// What is fetched for the key is what would be fetched for the URL.
		k := mustParse(t, key)
		if dialled(k) != dialled(u) || k.Scheme != u.Scheme || k.User.String() != u.User.String() ||
			k.RequestURI() != u.RequestURI() {
			t.Fatalf("Distinct(%q) = %q, which is another resource", raw, key)
		}
	})
}

// dialled returns the host that is dialled for a URL, with a port that is not the default.
func dialled(u *url.URL) string {
	return strings.TrimSuffix(lower(DialledName(u)), ".") + portOf(u)
}

const secret = "c4n4rY"

func TestARedactedURLKeepsSchemeHostAndPath(t *testing.T) {
	for _, test := range []struct{ name, raw, shown string }{
		{"nothing to hide", "http://a.example/x/y", "http://a.example/x/y"},
		{"user information, query and fragment", "https://u:p@a.example:8443/x?q=1#f", "https://a.example:8443/x"},
		{"an escaped path", "http://a.example/a%2Fb", "http://a.example/a%2Fb"},
		{"empty", "", `""`},
		{"a bad port is shown without what may be a password", "http://user:p w@a.example/", "http://a.example/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if shown := Redact(test.raw); shown != test.shown {
				t.Errorf("Redact(%q) = %q, want %q", test.raw, shown, test.shown)
			}
		})
	}
}

func TestAPasswordThatIsNotEscapedIsNotShown(t *testing.T) {
	for _, raw := range []string{
		"http://user:c4n4rY#x@a.example/",
		"http://user:c4n4rY?x@a.example/",
		"http://user:c4n4rY/x@a.example/",
		"http://user:x#c4n4rY@a.example/",
		"http://user:x?c4n4rY@a.example/",
		"http://user:x c4n4rY@a.example/",
		"http://user:x@c4n4rY@a b/",
		"user:c4n4rY@a.example/",
		"//user:c4n4rY@a.example/",
		"http:user:c4n4rY@a.example/",
		"http:/user:c4n4rY@a.example/",
	} {
		t.Run(raw, func(t *testing.T) {
			if shown := Redact(raw); strings.Contains(shown, secret) {
				t.Errorf("Redact(%q) = %s", raw, shown)
			}
		})
	}
}

// FuzzRedact builds URLs, most of them bad, with a secret wherever one may be.
func FuzzRedact(f *testing.F) {
	f.Add("http", "user", "pass", "a.example", "/path", "q=1", "f")
	f.Add("http", "user", ":pa ss", "a.example:99999", "", "token=", "")
	f.Add("HTTPS", "%zz", "@", "[::1", "/\x1b[31m", "@", "@")
	f.Add("http", "", "", "a b", "/p", "mail=a@b", "x@y")
	f.Add("mailto", "a", "b", "", "", "", "")
	f.Add("", "", "", "", "", "", "")
	f.Add("ftp", "é", "\u202e", "İ", strings.Repeat("/long", 100), "\x00", "\u2028")
	f.Add("http", "a", "b", "host:port", ":1/", "://", "://")
	f.Fuzz(func(t *testing.T, scheme, user, password, host, path, query, fragment string) {
		// These end the authority, so that what stands before them is a host to
		// everybody, and what follows a slash is a path; both are shown.
		cut := func(s string) string {
			if i := strings.IndexAny(s, "/?#"); i >= 0 {
				s = s[:i]
			}
			return s
		}
		user, password = cut(user), cut(password)
		if strings.ContainsAny(scheme, "/@?#") || strings.Contains(user+password+host+path+scheme, secret) {
			t.Skip("the parts are not what they are taken for, or have the secret in them")
		}
		query, fragment = query+secret, fragment+secret
		for _, raw := range []string{
			scheme + "://" + user + secret + ":" + password + secret + "@" + host + path + "?" + query + "#" + fragment,
			scheme + "://" + secret + user + "@" + host + path + "?" + query,
			scheme + "://" + host + path + "?" + query + "#" + fragment,
			scheme + "://" + host + path + "#" + fragment,
			scheme + "//" + user + ":" + secret + "@" + host + path,
			scheme + ":" + user + ":" + secret + "@" + host + path,
			user + ":" + secret + "@" + host + path,
		} {
			shown := Redact(raw)
			if strings.Contains(shown, secret) {
				t.Errorf("Redact(%q) = %s shows a secret", raw, shown)
			}
			checkPrintable(t, shown)
		}
	})
}

// checkPrintable checks that s can go into a log: printable ASCII, and short.
func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if s == "" || len(s) > 1000 {
		t.Errorf("%d bytes: %.50q", len(s), s)
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			t.Errorf("byte %#x in %q", s[i], s)
			return
		}
	}
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := Parse(raw)
	if err != nil {
		t.Fatalf("Parse(%q): %v", raw, err)
	}
	return u
}
