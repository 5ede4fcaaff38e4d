package redirect_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/redirect"
)

const origin = "http://a.test/dir/page"

// request returns a request to a URL. One with a body can send it again.
func request(t *testing.T, method, rawURL, body string, header ...string) *http.Request {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, rawURL, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

func response(status int, location string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}}
	if location != "" {
		resp.Header.Set("Location", location)
	}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Add(header[i], header[i+1])
	}
	return resp
}

// started returns a chain that begins with a request.
func started(req *http.Request) *redirect.Chain {
	c := new(redirect.Chain)
	c.Start(req.Header)
	return c
}

// follow returns the request that one response leads to.
func follow(p redirect.Policy, req *http.Request, resp *http.Response) (*http.Request, error) {
	if p.Max == 0 {
		p.Max = 10
	}
	return p.Next(started(req), req, resp, 0)
}

// RFC 9110, section 15.4. "" is that the response is the result.
func TestTheMethodAndBodyOfTheNextRequest(t *testing.T) {
	const get, head = "GET", "HEAD"
	for _, test := range []struct {
		status int
		want   map[string]string // by the method before; with "+" a body goes along
	}{
		{200, map[string]string{"GET": "", "POST": ""}},
		{201, map[string]string{"POST": ""}},
		{300, map[string]string{"GET": "", "POST": ""}},
		{301, map[string]string{"GET": get, "HEAD": head, "POST": get, "PUT": get, "DELETE": get, "OPTIONS": get, "": get}},
		{302, map[string]string{"GET": get, "HEAD": head, "POST": get, "PUT": get, "PATCH": get, "": get}},
		{303, map[string]string{"GET": get, "HEAD": head, "POST": get, "PUT": get, "DELETE": get}},
		{304, map[string]string{"GET": "", "POST": ""}},
		{305, map[string]string{"GET": "", "POST": ""}},
		{306, map[string]string{"GET": "", "POST": ""}},
		{307, map[string]string{"GET": get, "HEAD": head, "POST": "POST+", "PUT": "PUT+", "DELETE": "DELETE", "": get}},
		{308, map[string]string{"GET": get, "HEAD": head, "POST": "POST+", "PATCH": "PATCH+", "OPTIONS": "OPTIONS"}},
		{309, map[string]string{"GET": ""}},
		{399, map[string]string{"GET": ""}},
		{400, map[string]string{"GET": ""}},
	} {
		for method, want := range test.want {
			body := ""
			if slices.Contains([]string{"POST", "PUT", "PATCH"}, method) {
				body = "body"
			}
			req := request(t, method, origin, body, "Content-Type", "text/plain")
			req.Method = method // http.NewRequest makes "" a GET
			next, err := follow(redirect.Policy{}, req, response(test.status, "next"))
			if err != nil {
				t.Errorf("%d of %q: %v", test.status, method, err)
			}
			if got := described(next); got != want {
				t.Errorf("%d of %q leads to %q, want %q", test.status, method, got, want)
			}
			if next == nil {
				continue
			}
			if next.URL.String() != "http://a.test/dir/next" || next.Response == nil || next.Body != nil {
				t.Errorf("%d of %q leads to %+v", test.status, method, next)
			}
			if kept := next.Header.Get("Content-Type") != ""; kept != (test.status >= 307) {
				t.Errorf("%d of %q: Content-Type is kept: %v", test.status, method, kept)
			}
		}
	}
}

// described returns the method of a request, and "+" if it has a body to send.
func described(req *http.Request) string {
	if req == nil {
		return ""
	}
	if req.GetBody != nil && req.ContentLength > 0 {
		return req.Method + "+"
	}
	return req.Method
}

// A body that can be sent once only leaves the response as the result, but not where none is sent.
func TestABodyThatCannotBeSentAgain(t *testing.T) {
	for status, followed := range map[int]bool{301: true, 302: true, 303: true, 307: false, 308: false} {
		req := request(t, "POST", origin, "body")
		req.GetBody = nil
		if next, err := follow(redirect.Policy{}, req, response(status, "next")); (next != nil) != followed || err != nil {
			t.Errorf("%d leads to %v, %v", status, next, err)
		}
	}
}

// The caller's headers, by where a redirect leads. Referer is ours.
func TestWhichHeadersGoAlong(t *testing.T) {
	header := []string{
		"Authorization", "secret", "Cookie", "a=secret", "X-Api-Key", "secret", "Www-Authenticate", "secret",
		"Accept", "text/html", "Accept-Language", "en", "User-Agent", "test", "Range", "bytes=0-1", "Content-Language", "en",
	}
	all := []string{"Accept", "Accept-Language", "Authorization", "Cookie", "Range", "User-Agent", "Www-Authenticate", "X-Api-Key"}
	safe := []string{"Accept", "Accept-Language", "Range", "User-Agent"}
	for _, test := range []struct {
		from, to string
		want     []string
		referer  string
		left     bool
	}{
		{origin, "next", all, origin, false},
		{origin, "http://a.test:80/", all, origin, false},
		{origin, "http://A.TEST./", all, origin, false},
		{origin, "//a.test/other", all, origin, false},
		{"http://user:secret@a.test/?q=1", "/", all, "http://a.test/?q=1", false},
		{origin, "https://a.test/", all, "", true},
		{origin, "https://a.test:8443/", safe, "", true},
		{"http://a.test:8080/", "https://a.test/", safe, "", true},
		{origin, "http://a.test:8080/", safe, "", true},
		{origin, "http://b.test/", safe, "", true},
		{origin, "http://www.a.test/", safe, "", true},
		{origin, "http://a.test.evil/", safe, "", true},
		{origin, "//b.test/", safe, "", true},
		{"https://a.test/", "http://a.test/", safe, "", true},
	} {
		req := request(t, "GET", test.from, "", header...)
		c := started(req)
		next, err := (&redirect.Policy{Max: 10}).Next(c, req, response(302, test.to), 0)
		if err != nil {
			t.Errorf("%s to %s: %v", test.from, test.to, err)
			continue
		}
		if referer := next.Header.Get("Referer"); referer != test.referer {
			t.Errorf("%s to %s: Referer %q, want %q", test.from, test.to, referer, test.referer)
		}
		next.Header.Del("Referer")
		if got := keys(next.Header); !slices.Equal(got, test.want) {
			t.Errorf("%s to %s: %v, want %v", test.from, test.to, got, test.want)
		}
		if c.Left() != test.left {
			t.Errorf("%s to %s: left: %v", test.from, test.to, c.Left())
		}
	}
}

func keys(h http.Header) []string {
	var all []string
	for key := range h {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// Nothing that was dropped comes back with the chain, and no Referer either.
func TestAChainThatComesBackHasNoSecrets(t *testing.T) {
	req := request(t, "GET", origin, "", "Authorization", "secret", "Accept", "text/html")
	c, p := started(req), &redirect.Policy{Max: 10}
	for hop, location := range []string{"http://b.test/", "/same", origin, "next"} {
		next, err := p.Next(c, req, response(302, location), hop)
		if err != nil {
			t.Fatal(err)
		}
		if got := keys(next.Header); !slices.Equal(got, []string{"Accept"}) || !c.Left() {
			t.Errorf("hop %d has %v", hop, got)
		}
		req = next
	}
}

// What is added to a request on its way, by a RequestFunc or a jar, does not go along.
func TestOnlyTheCallersHeadersGoAlong(t *testing.T) {
	req := request(t, "GET", origin, "", "X-Own", "1")
	given := req.Header
	c := started(req)
	req.Header = req.Header.Clone()
	req.Header.Set("X-Signature", "secret")
	next, err := (&redirect.Policy{Max: 10}).Next(c, req, response(302, "next"), 0)
	if err != nil || next.Header.Get("X-Signature") != "" || next.Header.Get("X-Own") != "1" {
		t.Errorf("%v, %v", next, err)
	}
	next.Header.Set("X-Own", "2")
	if given.Get("X-Own") != "1" || len(given) != 1 {
		t.Errorf("the caller's header is changed: %v", given)
	}
}

// The caller's Host goes along where the Location is relative.
func TestTheHostGoesAlongWithARelativeLocation(t *testing.T) {
	for location, want := range map[string]string{"next": "virtual", "//a.test/": "virtual", "http://a.test/": "", "http://b.test/": ""} {
		req := request(t, "GET", origin, "")
		req.Host = "virtual"
		next, err := follow(redirect.Policy{}, req, response(302, location))
		if err != nil || next.Host != want {
			t.Errorf("%s: host %q, want %q, %v", location, next.Host, want, err)
		}
	}
}

// An error for what should be followed but must not be.
func TestWhatIsNotFollowed(t *testing.T) {
	for location, want := range map[string]string{
		"http://[secret/":            "cannot be parsed",
		"http://a.test%zz/secret":    "",
		"ftp://secret.test/":         "scheme",
		"file:///etc/secret":         "scheme",
		"javascript:secret()":        "",
		"http://:80/":                "host",
		"http://a.test:99999/secret": "port",
	} {
		next, err := follow(redirect.Policy{}, request(t, "GET", origin, ""), response(302, location))
		if next != nil || !errors.Is(err, fault.ErrRedirect) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s leads to %v, %v; want %q", location, next, err, want)
		}
	}
	for _, status := range []int{307, 308} {
		for location, followed := range map[string]bool{"next": true, "http://b.test/": false, "http://a.test:81/": false, "https://a.test/": true} {
			next, err := follow(redirect.Policy{}, request(t, "POST", origin, "body"), response(status, location))
			if (next != nil) != followed || errors.Is(err, fault.ErrRedirect) == followed {
				t.Errorf("%d with a body to %s leads to %v, %v", status, location, next, err)
			}
		}
	}
}

// No Location, or a policy of no hops, makes the response the result.
func TestWhatIsTheResult(t *testing.T) {
	p := redirect.Policy{Max: 10}
	req := request(t, "GET", origin, "")
	if next, err := p.Next(started(req), req, response(302, ""), 0); next != nil || err != nil {
		t.Errorf("without Location: %v, %v", next, err)
	}
	p.Max = 0
	if next, err := p.Next(started(req), req, response(302, "http://[bad"), 0); next != nil || err != nil {
		t.Errorf("without hops: %v, %v", next, err)
	}
}

// User information and fragment are dropped, dots resolved, and a lone % escaped.
func TestTheNextURL(t *testing.T) {
	for location, want := range map[string]string{
		"../up?x=1":                 "http://a.test/up?x=1",
		"?q":                        "http://a.test/dir/page?q",
		"#top":                      "http://a.test/dir/page",
		"%zz":                       "http://a.test/dir/%25zz",
		"/":                         "http://a.test/",
		"http://user:secret@b.test": "http://b.test",
		"//b.test:8080/x":           "http://b.test:8080/x",
	} {
		next, err := follow(redirect.Policy{}, request(t, "GET", origin, ""), response(302, location))
		if err != nil || next.URL.String() != want {
			t.Errorf("%s leads to %v, want %s, %v", location, next.URL, want, err)
		}
	}
}

func TestTheLimitOfHops(t *testing.T) {
	allow := func(*http.Request, []*http.Request) error { return nil }
	for _, test := range []struct {
		policy redirect.Policy
		hops   int
		ok     bool
	}{
		{redirect.Policy{Max: 3}, 2, true},
		{redirect.Policy{Max: 3}, 3, false},
		{redirect.Policy{Max: 3, Check: allow}, 3, true}, // the Check decides
		{redirect.Policy{Max: 3, Check: allow, MaxHolds: true}, 2, true},
		{redirect.Policy{Max: 3, Check: allow, MaxHolds: true}, 3, false},
	} {
		req := request(t, "GET", origin, "")
		next, err := test.policy.Next(started(req), req, response(302, "next"), test.hops)
		if (next != nil) != test.ok || errors.Is(err, fault.ErrRedirect) == test.ok {
			t.Errorf("after %d hops: %v, %v", test.hops, next, err)
		}
	}
}

// The Check of the caller's client sees the request that follows, and all before it.
func TestTheCheckOfTheCallersClient(t *testing.T) {
	var seen []string
	p := &redirect.Policy{Max: 10, Check: func(req *http.Request, via []*http.Request) error {
		seen = append(seen, req.URL.Path)
		for _, v := range via {
			seen = append(seen, "<"+v.URL.Path)
		}
		switch req.URL.Path {
		case "/stop":
			return http.ErrUseLastResponse
		case "/fail":
			return errors.New("no: " + req.URL.String())
		case "/bend":
			req.URL.Scheme = "ftp"
		}
		return nil
	}}
	first := request(t, "GET", "http://a.test/0", "")
	c := started(first)
	second, err := p.Next(c, first, response(302, "/1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if next, err := p.Next(c, second, response(302, "/stop"), 1); next != nil || err != nil {
		t.Errorf("%v, %v", next, err)
	}
	if want := []string{"/1", "</0", "/stop", "</0", "</1"}; !slices.Equal(seen, want) {
		t.Errorf("it saw %v, want %v", seen, want)
	}
	for _, path := range []string{"/fail?secret", "/bend"} {
		next, err := follow(*p, first, response(302, path))
		if next != nil || !errors.Is(err, fault.ErrRedirect) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", path, next, err)
		}
	}
}

// With a jar the cookies that a response sets take the place of the caller's.
func TestCookiesThatAResponseSetsAnew(t *testing.T) {
	for jar, want := range map[bool]string{false: "a=1; b=2; a=3", true: "b=2"} {
		req := request(t, "GET", origin, "", "Cookie", "a=1; b=2; a=3")
		next, err := follow(redirect.Policy{Jar: jar}, req, response(302, "next", "Set-Cookie", "a=new", "Set-Cookie", "c=new"))
		if err != nil || next.Header.Get("Cookie") != want {
			t.Errorf("jar %v: %q, want %q, %v", jar, next.Header.Get("Cookie"), want, err)
		}
	}
}

// What one leg leaves to the next is what the chain would have gone on with.
func TestAChainOfLegs(t *testing.T) {
	policy := redirect.Policy{Max: 3, OwnHost: true}
	begin := func(leg *redirect.Leg) *redirect.Chain {
		var c redirect.Chain
		c.StartLeg(http.Header{"Accept": {"a"}, "X-Own": {"secret"}}, leg)
		return &c
	}
	at, elsewhere, own := request(t, "POST", origin, ""), response(302, "http://b.example/there"), response(302, "/there")
	leg := &redirect.Leg{Hops: 2}
	c := begin(leg)
	if next, err := policy.Next(c, at, elsewhere, 0); next != nil || err != nil || !c.Passes() {
		t.Fatalf("%v, %v", next, err)
	}
	if got := leg.Next; got.Method != "GET" || got.URL.String() != "http://b.example/there" || got.Header.Get("Accept") != "a" || got.Header.Get("X-Own") != "" {
		t.Errorf("%+v", got)
	}
	if c = begin(leg); c.Passes() { // another attempt
		t.Error("what an attempt before has left is there still")
	}
	if _, err := policy.Next(c, at, elsewhere, 1); !errors.Is(err, fault.ErrRedirect) || c.Passes() {
		t.Errorf("redirect 4 of 3: %v", err)
	}
	if next, err := policy.Next(begin(&redirect.Leg{Left: true}), at, own, 0); err != nil || next == nil || next.Header.Get("Referer") != "" {
		t.Errorf("%+v, %v", next, err)
	}
	asked := redirect.WithLeg(t.Context(), leg)
	if redirect.LegOf(asked) != leg || redirect.LegOf(context.WithValue(asked, asked, 1)) != nil {
		t.Error("a leg is of the context of its request alone")
	}
	policy.Check = func(req *http.Request, _ []*http.Request) (err error) {
		req.URL, err = req.URL.Parse("http://b.example/changed")
		return err
	}
	if next, err := policy.Next(begin(leg), at, own, 0); next != nil || err != nil || leg.Next == nil || leg.Next.URL.Path != "/changed" {
		t.Errorf("what Check leads elsewhere is sent here: %v, %v", next, err)
	}
	policy.Check = nil
	if c = begin(nil); c.Passes() {
		t.Error("a chain that is whole passes")
	}
	if next, err := policy.Next(c, at, elsewhere, 0); next != nil || err != nil {
		t.Errorf("%v, %v", next, err)
	}
}
