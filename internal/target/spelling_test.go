package target

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/fault"
)

// spellings are texts behind "http://h", and the request targets that they become.
var spellings = []struct{ name, text, sent string }{
	{"nothing", "", "/"},
	{"a query without a path", "?q", "/?q"},
	{"an empty query", "/?", "/?"},
	{"an escaped slash beside a blank", "/a%2Fb c", "/a%2Fb%20c"},
	{"an escaped slash behind dots", "/..%2Fx|", "/..%2Fx%7C"},
	{"escapes of all kinds", "/gal%2Agun%23-%cc%88%5C", "/gal%2Agun%23-%cc%88%5C"},
	{"an escaped letter", "/%41%7e", "/%41%7e"},
	{"UTF-8", "/ä€😀", "/%C3%A4%E2%82%AC%F0%9F%98%80"},
	{"bytes that are no UTF-8", "/\xe9\xff", "/%E9%FF"},
	{"a query with a blank and UTF-8", "/?q=a b&ä", "/?q=a%20b&%C3%A4"},
	{"a query that is no UTF-8", "/?\xe9", "/?%E9"},
	{"what is in no path", "/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"},
	{"what is in no query", "/?\"<>^`{|}\\", "/?%22%3C%3E%5E%60%7B%7C%7D%5C"},
	{"what RFC 3986 has", "/-._~!$&'()*+,;=:@?-._~!$&'()*+,;=:@/?", "/-._~!$&'()*+,;=:@?-._~!$&'()*+,;=:@/?"},
	{"brackets", "/a[1]?a[]=1", "/a[1]?a[]=1"},
	{"a lone % at the end", "/100%", "/100%25"},
	{"a lone % before letters", "/50%off%zz%2", "/50%25off%25zz%252"},
	{"a lone % before an escape", "/%%41", "/%25%41"},
	{"a lone % in a query", "/?100%&%zz", "/?100%&%zz"},
	{"a fragment", "/a#b?c", "/a"},
	{"a fragment of anything", "/?a#%\x00\xff #", "/?a"},
	{"dot segments", "/a/./b/../c/.", "/a/c/"},
	{"dot segments above the root", "/../../a/..", "/"},
	{"dot segments in other spellings", "/a/%2e/b/.%2E/%2E%2e/c/%2e", "/c/"},
	{"dots in a segment", "/.a/..b/c../...", "/.a/..b/c../..."},
	{"empty segments", "//a///..//b//", "//a///b//"},
	{"a backslash", `\a\..\b\`, "/b/"},
	{"a backslash behind the path", `/a\b?c\d`, "/a/b?c%5Cd"},
	{"an escaped backslash", "/a%5Cb", "/a%5Cb"},
	{"half of a character", "/\x80", "/%80"},
}

func TestATextIsSentAsItWasMeant(t *testing.T) {
	for _, test := range spellings {
		t.Run(test.name, func(t *testing.T) {
			for _, text := range []string{"http://h" + test.text, " \t\n\f\rhttp://h" + test.text + "\r\n \t\f", "HTTP://h" + test.text} {
				if strings.ContainsAny(test.text, "#") && strings.TrimSpace(text) != text {
					continue // blanks within a fragment
				}
				sent, _ := sentAs(t, mustParse(t, text))
				if sent != test.sent {
					t.Errorf("%q is sent as %q, want %q", text, sent, test.sent)
				}
			}
		})
	}
}

func TestBytesThatAreAMistakeAreRefused(t *testing.T) {
	for _, text := range []string{
		"http://h/a\tb", "http://h/a\nb", "http://h/\x00", "http://h/?\x1b", "http://h/a\x7f", "\x00http://h/", "http://h/\v", "\u00a0http://h/",
		"http://h\\@g/", "http://u\\p:q@g/", "http://a b/", "http://a<b/", "http://a>b/", "http://a\"b/", "http://a^b/", "http://a|b/", "http://a`b/",
		"http://a{b}/", "http://a%b/", "http://a%25b/", "http://a%41b/", "http://a[b]/", "http://\xff/", "http://a\u00a0b/", "http://a\u0085/",
		"http://[::1]x/", "http://[::1]]/", "http://[::1%lo]/", "http://[::1%25]/", "http://[::1%25a/b]/", "http://[::1%25a%0Ab]/", "http://[::1%25ü]/",
		"http://[1.2.3.4]/", "http://[::1%2541%25]/", "http://::1/", "http://h:1:2/", "http://h:+1/", "http://h: 1/", "http:\\\\h/",
	} {
		if u, err := Parse(text); !errors.Is(err, fault.ErrInvalidURL) {
			t.Errorf("%q is %v, %v", text, u, err)
		}
	}
}

func TestAnAddressHasOneSpelling(t *testing.T) {
	for host, test := range map[string]struct{ sent, key string }{
		"[0:0:0:0:0:0:0:1]": {"[::1]", "[::1]"},
		"[::0001]:80":       {"[::1]:80", "[::1]"},
		"[2001:DB8::A]":     {"[2001:db8::a]", "[2001:db8::a]"},
		"[::ffff:7f00:1]:9": {"127.0.0.1:9", "127.0.0.1:9"},
		"[::FFFF:1.2.3.4]":  {"1.2.3.4", "1.2.3.4"},
		"[fe80::1%25Lo]":    {"[fe80::1%Lo]", "[fe80::1%Lo]"},
		"[fe80::1%25a%20b]": {"[fe80::1%a b]", "[fe80::1%a b]"},
		"127.1":             {"127.0.0.1", "127.0.0.1"},
		"127.0.0.1.":        {"127.0.0.1", "127.0.0.1"},
		"0x7f.0.0.0x1:80":   {"127.0.0.1:80", "127.0.0.1"},
		"017700000001":      {"127.0.0.1", "127.0.0.1"},
		"2130706433":        {"127.0.0.1", "127.0.0.1"},
		"0X":                {"0.0.0.0", "0.0.0.0"},
		"1.2.65535":         {"1.2.255.255", "1.2.255.255"},
		"256.1.1.1":         {"256.1.1.1", "256.1.1.1"},
		"1.2.3.4.5":         {"1.2.3.4.5", "1.2.3.4.5"},
		"web.1":             {"web.1", "web.1"},
		"1.2.3.08":          {"1.2.3.08", "1.2.3.08"},
		"4294967296":        {"4294967296", "4294967296"},
		"H.Example.:":       {"H.Example.", "h.example"},
		"h:0080":            {"h:0080", "h"},
		"a_b!$&'()*+,;=~c":  {"a_b!$&'()*+,;=~c", "a_b!$&'()*+,;=~c"},
		"b%c3%bccher":       {"bücher", "bücher"},
	} {
		u := mustParse(t, "http://"+host+"/")
		if u.Host != test.sent || HostOf(u) != test.key {
			t.Errorf("%s is sent as %q, its key is %q", host, u.Host, HostOf(u))
		}
		again, err := Clean(u, http.MethodOptions)
		if err != nil || *again != *u {
			t.Errorf("%s: clean it is %v, %v", host, again, err)
		}
	}
}

func TestUserInformationIsDecoded(t *testing.T) {
	for text, want := range map[string]string{
		"u:p": "u:p", "u": "u:", "u:": "u:", ":p": ":p", "": "", ":": "", "u%3A:p%40%2f": "u::p@/", "u:p:q": "u:p:q", "u@v:w": "u@v:w",
		"u p:<\"|>": "u p:<\"|>", "ü:\xe9": "ü:\xe9", "u:100%": "u:100%", "u:%zz%41": "u:%zzA", "u+v:w+x": "u+v:w+x",
	} {
		name, password, ok := Credentials(mustParse(t, "http://"+text+"@h/"))
		if got := name + ":" + password; ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v", text, got, ok)
		}
	}
}

// The URL of a request may be made by hand: Path is decoded, RawPath and RawQuery are texts.
func TestTheURLOfARequestIsSentAsItWasMeant(t *testing.T) {
	for _, test := range []struct {
		name, sent string // "": it cannot be sent
		u          *url.URL
	}{
		{"no URL", "", nil},
		{"a path", "/a%20b%2525%3F", &url.URL{Scheme: "http", Host: "h", Path: "/a b%25?"}},
		{"a path with a backslash", "/a%5Cb", &url.URL{Scheme: "http", Host: "h", Path: `/a\b`}},
		{"a path with dot segments", "/b", &url.URL{Scheme: "http", Host: "h", Path: `/a/../b`}},
		{"a path without a slash", "/a/b", &url.URL{Scheme: "http", Host: "h", Path: "a/b"}},
		{"a path with a line end", "/a%0Ab", &url.URL{Scheme: "http", Host: "h", Path: "/a\nb"}},
		{"a raw path", "/a%2Fb%20c", &url.URL{Scheme: "http", Host: "h", Path: "/a/b c", RawPath: "/a%2Fb c"}},
		{"a raw path of another path", "/a", &url.URL{Scheme: "http", Host: "h", Path: "/a", RawPath: "/b%2Fc"}},
		{"a raw path with a ?", "/a%3Fb%23c", &url.URL{Scheme: "http", Host: "h", Path: "/a?b#c", RawPath: "/a?b#c"}},
		{"a raw path with a lone %", "/100%25%7C", &url.URL{Scheme: "http", Host: "h", Path: "/100%|", RawPath: "/100%|"}},
		{"a raw query", "/?a%20b%23c%0Ad", &url.URL{Scheme: "http", Host: "h", RawQuery: "a b#c\nd"}},
		{"a raw path with a blank at the end", "/a", &url.URL{Scheme: "http", Host: "h", Path: "/a ", RawPath: "/a "}},
		{"a path with a blank at the end", "/a%20", &url.URL{Scheme: "http", Host: "h", Path: "/a "}},
		{"a raw query with a blank at the end", "/?a", &url.URL{Scheme: "http", Host: "h", RawQuery: "a "}},
		{"a forced query", "/?", &url.URL{Scheme: "http", Host: "h", ForceQuery: true}},
		{"all of the server", "*", &url.URL{Scheme: "http", Host: "h", Path: "*"}},
		{"opaque", "/a%2fb", &url.URL{Scheme: "http", Host: "h", Opaque: "/a%2fb"}},
		{"opaque with a query", "http://h/a?b%20c", &url.URL{Scheme: "http", Host: "h", Opaque: "//h/a", RawQuery: "b c"}},
		{"opaque for nobody", "", &url.URL{Scheme: "http", Host: "h", Opaque: "a"}},
		{"all of the server with a query", "/*?a", &url.URL{Scheme: "http", Host: "h", Path: "*", RawQuery: "a"}},
		{"opaque with a blank", "", &url.URL{Scheme: "http", Host: "h", Opaque: "/a b"}},
		{"opaque with a line end", "", &url.URL{Scheme: "http", Host: "h", Opaque: "/a\r\nb"}},
		{"opaque without a host", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//"}},
		{"opaque with a path for a host", "", &url.URL{Scheme: "http", Host: "h", Opaque: "///x"}},
		{"an opaque URL without a host", "", &url.URL{Scheme: "http", Host: "h", Opaque: "http:///x"}},
		{"an opaque URL without slashes", "", &url.URL{Scheme: "http", Host: "h", Opaque: "http:x"}},
		{"opaque for all of the server", "*", &url.URL{Scheme: "http", Host: "h", Opaque: "*"}},
		{"opaque with a fragment", "", &url.URL{Scheme: "http", Host: "h", Opaque: "/a#b"}},
		{"opaque with a fragment of a URL", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//h/a?b#c", RawQuery: "d"}},
		{"opaque for a host that no name is", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//%80/a"}},
		{"opaque for a name beyond ASCII", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//%C3%A9/a"}},
		{"opaque for an address with a zone", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//[fe80::1%25lo]/a"}},
		{"opaque for an address", "http://[::1]:8080/a", &url.URL{Scheme: "http", Host: "h", Opaque: "//[::1]:8080/a"}},
		{"opaque with user information", "", &url.URL{Scheme: "http", Host: "h", Opaque: "//u:p@h/a"}},
		{"a host with a path", "", &url.URL{Scheme: "http", Host: "h/x"}},
		{"a host with a line end", "", &url.URL{Scheme: "http", Host: "h\r\nx: y"}},
		{"another scheme", "", &url.URL{Scheme: "ftp", Host: "h"}},
		{"no scheme", "", &url.URL{Host: "h"}},
		{"no host", "", &url.URL{Scheme: "http", Path: "/"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before url.URL
			if test.u != nil {
				before = *test.u
			}
			u, err := RequestURL(&http.Request{URL: test.u, Method: http.MethodOptions})
			if test.sent == "" {
				if !errors.Is(err, fault.ErrInvalidURL) {
					t.Errorf("got %v, %v", u, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sent, _ := sentAs(t, u); sent != test.sent || *test.u != before {
				t.Errorf("sent as %q, want %q; %+v", sent, test.sent, test.u)
			}
		})
	}
}

func TestAHostFieldIsFitForTheWire(t *testing.T) {
	for host, want := range map[string]string{
		"": "", "h": "h", "H.Example:81": "H.Example:81", "[::0001]:80": "[::1]:80", "127.1": "127.0.0.1", "a_service": "a_service", "a:b:c": "a:b:c", "ü": "xn--tda",
		"a b": "!", "a\r\nb": "!", "u@h": "!", "h/x": "!", "\xff": "!", "a\"b": "!", "%41": "!",
	} {
		got, err := CleanHost(host)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q is sent as %q, %v; want %q", host, got, err, want)
		}
	}
}

func TestAReferenceIsResolvedWithoutLoss(t *testing.T) {
	base := mustParse(t, "http://u:p@A.example:81/b%2Fc/d%2fe?f=g")
	for reference, want := range map[string]string{
		"x":                "http://A.example:81/b%2Fc/x",
		"a%2Fb c":          "http://A.example:81/b%2Fc/a%2Fb%20c",
		"..%2Fx":           "http://A.example:81/b%2Fc/..%2Fx",
		"%2e%2e/x":         "http://A.example:81/x",
		"../..//x":         "http://A.example:81//x",
		".":                "http://A.example:81/b%2Fc/",
		"?ä=\"":            "http://A.example:81/b%2Fc/d%2fe?%C3%A4=%22",
		"?":                "http://A.example:81/b%2Fc/d%2fe?",
		"#%\xff":           "http://A.example:81/b%2Fc/d%2fe?f=g",
		" /100% \r\n":      "http://A.example:81/100%25",
		"/caf\xe9":         "http://A.example:81/caf%E9",
		"Spécial:Page":     "http://A.example:81/b%2Fc/Sp%C3%A9cial:Page",
		"//B.example/../x": "http://B.example/x",
		`\\b.example\x`:    "http://b.example/x",
		`/\b.example`:      "http://b.example",
		"//u:p@b.example/": "http://b.example/",
		"HTTPS://b/x y":    "https://b/x%20y",
	} {
		u, _, err := Resolve(base, reference)
		if err != nil || u.String() != want {
			t.Errorf("%q leads to %v, %v; want %s", reference, u, err, want)
		}
	}
	for _, reference := range []string{"http:x", "ftp://h/", ":x", "http:///x", "/a\tb", "//a b/", "http://u%zz@h/", "//h:0/", `\\h\@g`} {
		if u, _, err := Resolve(base, reference); !errors.Is(err, fault.ErrInvalidURL) {
			t.Errorf("%q leads to %v, %v", reference, u, err)
		}
	}
}

func TestEqualIsWhatIsSentEqual(t *testing.T) {
	seen := map[string]bool{}
	for _, same := range [][]string{
		{"http://h", "http://h/", "HTTP://H:80/", "http://h:/", " http://h/#x ", "http://@h/", "http://h/a/..", `http://h\`, "http://h:080"},
		{"http://h/é", "http://h/%C3%A9", "http://h/b/../%C3%A9#%"},
		{"http://h/%c3%a9"},
		{"http://h/?"},
		{"http://h/?a b", "http://h?a%20b"},
		{"http://[::1]/", "http://[0:0::1]:80"},
		{"http://127.0.0.1/", "http://[::ffff:127.0.0.1]", "http://0x7f.1"},
		{"http://u@h/", "http://%75@h"},
		{"http://U@h/"},
		{"https://h/"},
		{"http://h./"},
		{"http://h:81/"},
	} {
		key := Distinct(same[0])
		for _, text := range same {
			if Distinct(text) != key {
				t.Errorf("%q is %q, %q is %q", same[0], key, text, Distinct(text))
			}
		}
		if seen[key] {
			t.Errorf("%q is another, and has the key %q", same[0], key)
		}
		seen[key] = true
	}
}

func TestASecretIsHiddenInAllItsSpellings(t *testing.T) {
	for _, test := range []struct{ rawURL, text string }{
		{"http://h/?token=s3cret word", "http://h/?token=s3cret%20word"},
		{"http://h/?k=s3cr\"et'", "k=s3cr%22et'"},
		{" http://h/?token=s3cret \r\n", "http://h/?token=s3cret"},
		{"http://h/?token=s3crét", "token=s3cr%C3%A9t"},
		{"http://h/?token=s3cret%", "token=s3cret%"},
		{"http://h/?token=s3cret%41%", "token=s3cretA%"},
		{"http://us3r:s3cret+%@h/", "Basic dXMzcjpzM2NyZXQrJQ=="},
		{"http://us3r:s3cret |x@h/", "us3r:s3cret%20%7Cx@"},
		{"http://us3r:s3cret |x@h/", "password s3cret |x"},
	} {
		if got := Conceal(errors.New(test.text), test.rawURL).Error(); strings.Contains(got, "s3c") || strings.Contains(got, "dXMz") {
			t.Errorf("%q shows in %q", test.rawURL, got)
		}
		if shown := Redact(test.rawURL); strings.Contains(shown, "s3c") {
			t.Errorf("%q is shown as %q", test.rawURL, shown)
		}
	}
}

// A quick look costs no memory, and one allocation makes the URL.
func TestAPlainURLIsReadInOneLook(t *testing.T) {
	for _, text := range []string{plainText, "http://127.0.0.1:8080/a/.well-known?a[]=%", "http://h", "http://h/(a)%2F#x"} {
		if _, ok := look(text); !ok {
			t.Errorf("%q is not plain", text)
		}
		if n := testing.AllocsPerRun(10, func() { Host(text) }); n != 0 {
			t.Errorf("%q: %v allocations for its host", text, n)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Parse(plainText) }); n != 1 {
		t.Errorf("%v allocations", n)
	}
}
