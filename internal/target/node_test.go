package target

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// A nodeURL is a text as Node's URL reads it; nil if it refuses it.
type nodeURL struct{ Protocol, Hostname, Port, Pathname, Search, Username, Password string }

const nodeProgram = `
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
const read = (text, base) => {
	try {
		const u = new URL(text, base);
		return {Protocol: u.protocol, Hostname: u.hostname, Port: u.port, Pathname: u.pathname, Search: u.search,
			Username: u.username, Password: u.password};
	} catch { return null; }
};
console.log(JSON.stringify(texts.map(text => [read(text), read(text, %q)])));
`

// The parts of random texts. Parsers differ about most of them.
var (
	randomHeads = []string{"http://", "http://", "http://", "HTTPS://", " http://", "//", "/", "\\", "?", "#", "", "../", "./", "x:", "http:"}
	randomHosts = []string{"h", "H.Example", "a@h", "u:p@h", "u:p@q@h", "@h", ":@h", "é:ü@h", "u%41%:p%zz@h", "h:80", "h:443", "h:8080", "h:0", "h:", "h.",
		"127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0x", "1.2.3", "256.1", "1.2.3.4.5", "4294967296", "a.1", "08.1", "127.0.0.1.",
		"[::1]", "[0:0::1]", "[::FFFF:1.2.3.4]", "[2001:DB8:0:0:1::1]:81", "[::1", "h^", "h|", "h<", "h>", "h\"", "h`", "h{", "h h", "h%41", "h%", "b\u00fccher.example", ""}
	randomParts = []string{"/", "/", "/", "\\", "a", "b", ".", "..", "%2e", "%2E", "%2F", "%5c", "%", "%2", "%zz", "%C3%A9", "\u00e9", "\u20ac", "\U0001f600", " ", "\"", "<", ">", "^", "`",
		"{", "|", "}", "[", "]", "'", "(", ")", "*", "!", "$", "&", "+", ",", ";", "=", ":", "@", "~", "_", "?", "?", "#", "\t", "\u0085", "\u00a0"}
)

// randomTexts returns the same texts each time.
func randomTexts(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	var texts []string
	for _, text := range oddTexts {
		if utf8.ValidString(text) { // a string of Node has no other bytes
			texts = append(texts, text)
		}
	}
	for range n {
		text := pick(randomHeads)
		if strings.HasSuffix(text, "//") {
			if r.IntN(2) > 0 {
				text += "h"
			} else {
				text += pick(randomHosts)
			}
			if r.IntN(10) > 0 {
				text += "/"
			}
		}
		for range r.IntN(9) {
			text += pick(randomParts)
		}
		texts = append(texts, text)
	}
	return texts
}

func TestURLsAreReadAsNodeReadsThem(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed, which has a URL parser of browsers")
	}
	const base = "http://a.example/b/c%2Fd/e?f=g"
	texts := randomTexts(20_000)
	input, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "-e", strings.Replace(nodeProgram, "%q", `"`+base+`"`, 1))
	cmd.Stdin = strings.NewReader(string(input))
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs [][2]*nodeURL
	if err := json.Unmarshal(output, &theirs); err != nil || len(theirs) != len(texts) {
		t.Fatalf("%d answers: %v", len(theirs), err)
	}
	baseURL := mustParse(t, base)
	same, refused := 0, map[string]int{}
	for i, text := range texts {
		u, err := Parse(text)
		if compareWithNode(t, text, u, err, theirs[i][0], refused) {
			same++
		}
		if isNetHTTPs(text) {
			continue
		}
		u, _, err = Resolve(baseURL, text)
		if want := theirs[i][1]; want != nil {
			want.Username, want.Password = "", ""
		}
		compareWithNode(t, text, u, err, theirs[i][1], refused)
	}
	t.Logf("of %d texts %d are read as by Node; refused on purpose: %v", len(texts), same, refused)
	if same < len(texts)/5 {
		t.Error("too few to tell anything")
	}
}

// compareWithNode reports whether a text is read as by Node. It counts why others are refused.
func compareWithNode(t *testing.T, text string, u *url.URL, err error, want *nodeURL, refused map[string]int) bool {
	t.Helper()
	switch {
	case err != nil && want == nil, want != nil && want.Protocol != "http:" && want.Protocol != "https:":
		return false
	case err != nil:
		reason := Reason(err)
		refused[reason]++
		if !mayRefuse(text, reason) {
			t.Errorf("%q: %v; Node has %+v", text, err, want)
		}
		return false
	case want == nil:
		// It has no zones, and rules for names beyond ASCII.
		name := strings.TrimSuffix(u.Hostname(), ".")
		if last := name[strings.LastIndexByte(name, '.')+1:]; isASCII(name) && !strings.Contains(name, "%") && (last == "" || !isDigit(last[0])) {
			t.Errorf("%q leads to %v; Node refuses it", text, u)
		}
		return false
	}
	requestTarget, _ := sentAs(t, u)
	path, query, _ := strings.Cut(requestTarget, "?")
	if undoSegments(path) != undoSegments(want.Pathname) || undo(query) != undo(strings.TrimPrefix(want.Search, "?")) {
		t.Errorf("%q is sent as %q; Node has %+v", text, requestTarget, want)
	}
	if u.Scheme+":" != want.Protocol || strings.TrimPrefix(portOf(u), ":") != want.Port || !sameHost(u, want.Hostname) {
		t.Errorf("%q leads to %q; Node has %+v", text, u.Host, want)
	}
	name, password, _ := Credentials(u)
	if name != undo(want.Username) || password != undo(want.Password) {
		t.Errorf("%q has the user %q, %q; Node has %+v", text, name, password, want)
	}
	return true
}

// undoSegments decodes a path, and tells its slashes from escaped ones.
func undoSegments(path string) string {
	return undo(strings.ReplaceAll(path, "/", "\x00"))
}

// sameHost reports whether a host is that of u. Node has Punycode, and the eight numbers of a mapped address.
func sameHost(u *url.URL, host string) bool {
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return err == nil && strings.Trim(u.Hostname(), "[]") == addr.Unmap().String()
	}
	return lower(u.Hostname()) == host || !isASCII(u.Hostname())
}

// mayRefuse reports whether the package is stricter than a browser on purpose.
func mayRefuse(text, reason string) bool {
	switch reason {
	case "control character":
		return strings.ContainsFunc(text, isControl)
	case "backslash before an at sign":
		return strings.Contains(text, `\`)
	case "no host", "not absolute", "cannot be parsed":
		// There are no two slashes, or three, or no scheme before a colon, or the host is dots.
		rest := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(text)), "http")
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "s"), ":")
		return !strings.HasPrefix(rest, "//") || strings.HasPrefix(strings.ReplaceAll(rest, `\`, "/"), "///") || strings.Contains(rest, ".")
	case "bad port":
		return strings.Contains(text, ":0")
	case "bad escape in user information":
		return strings.Contains(text, "%")
	case "the host has a character that no name has":
		return strings.ContainsAny(text, "%\"`{}") || !isASCII(text) && strings.ContainsAny(text, "!$&'()*+,;=_~-")
	}
	return false
}
