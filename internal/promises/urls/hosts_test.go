package urls_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Number 11: each list is of one host.
var hosts = map[string][]string{
	"[::1]": {"[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::1]:80", "[0::1]:"},
	"127.0.0.1": {"127.0.0.1", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]:80", "127.1", "0x7f.1", "017700000001", "2130706433", "127.0.0.1.",
		"１２７.0.0.1", "127。0。0。1", "①②⑦．0｡0.1", "１２７。１", "０ｘ７ｆ.1", "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1", "127.0.0.1。", "127.0.0.1\u00ad"},
	"[2001:db8::a]": {"[2001:db8::a]", "[2001:DB8::A]", "[2001:0db8:0000::000a]:080"},
	"[::1]:81":      {"[::1]:81", "[0::1]:0081"},
	"h.example":     {"h.example", "H.Example", "h.example.", "h.example:80", "h.example:"},
	"[fe80::1%lo]":  {"[fe80::1%25lo]", "[FE80::0001%25lo]"},
}

func TestAHostHasOneKeyAndOneLimit(t *testing.T) {
	for key, spellings := range hosts {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				var mu sync.Mutex
				keys := map[string]bool{}
				opts := []fetch.Option{
					fetchtest.Over(flight.Over(fetchtest.AnswerAfter(time.Second))),
					fetch.WithHostLimits(func(host string) fetch.HostLimits {
						mu.Lock()
						defer mu.Unlock()
						keys[host] = true
						return fetch.HostLimits{Concurrency: 1}
					}),
				}
				var urls []string
				var reqs []*http.Request
				for _, host := range spellings {
					urls = append(urls, "http://"+host+"/")
					u, err := url.Parse("http://" + host + "/")
					if err != nil {
						t.Fatal(err)
					}
					reqs = append(reqs, &http.Request{URL: u, Header: http.Header{}})
				}
				fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, opts...))
				for _, r := range fetchtest.NewFetcher(t, opts...).DoAll(t.Context(), reqs) {
					if r.Err != nil {
						t.Error(r.Err)
					}
				}
				if got := slices.Collect(maps.Keys(keys)); len(got) != 1 || got[0] != key {
					t.Errorf("the limits of %q were asked for", got)
				}
				if flight.Most() != 1 || flight.Total() != 2*len(urls) {
					t.Errorf("%d requests, at most %d at once", flight.Total(), flight.Most())
				}
			})
		})
	}
}

// The addresses of number 11 on a socket: the one that is dialled, and the Host field.
func TestAnAddressIsDialledInAnySpelling(t *testing.T) {
	w := newWire(t, nil)
	_, port, _ := strings.Cut(w.host(), ":")
	for _, host := range hosts["127.0.0.1"] {
		if strings.Contains(host, ":80") {
			continue
		}
		given := "http://" + host + ":" + port + "/"
		for what, send := range map[string]func() fetch.Result{
			"FetchAll": func() fetch.Result { return fetchtest.GetOne(t, given) },
			"DoAll":    func() fetch.Result { return fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", given, nil)) },
		} {
			r := send()
			if r.Err != nil || r.FinalURL != w.rawURL+"/" {
				t.Errorf("%s of %s: FinalURL %q, %v", what, host, r.FinalURL, r.Err)
				continue
			}
			if _, header := w.last(t); header.Get("Host") != w.host() {
				t.Errorf("%s of %s: the Host is %q", what, host, header.Get("Host"))
			}
		}
		r := fetchtest.GetOne(t, given, fetch.WithPublicOnly())
		if !errors.Is(r.Err, fetch.ErrBlocked) {
			t.Errorf("%s under the guard: %v", host, r.Err)
		}
		fetchtest.MustAllBeFine(t, []string{given}, fetch.FetchAll(t.Context(), []string{given}, fetch.WithPublicOnly(netip.MustParsePrefix("127.0.0.1/32"))))
		w.take()
	}
}

// A name beyond ASCII is a key of its own, and dialled in Punycode.
func TestANameBeyondASCIIIsSentInPunycode(t *testing.T) {
	for _, host := range []string{"bücher.example", "b%C3%BCcher.example"} {
		w := newWire(t, nil)
		var dialled, key string
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		dialer := transport.DialContext
		if dialer == nil {
			dialer = (&net.Dialer{}).DialContext
		}
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled = address
			return dialer(ctx, network, w.host())
		}
		r := fetchtest.GetOne(t, "http://"+host+"/", fetch.WithClient(fetchtest.NewClient(transport)),
			fetch.WithHostLimits(func(host string) fetch.HostLimits { key = host; return fetch.HostLimits{} }))
		_, header := w.last(t)
		if r.Err != nil || dialled != "xn--bcher-kva.example:80" || header.Get("Host") != "xn--bcher-kva.example" || key != "bücher.example" {
			t.Errorf("%s: dialled %q, Host %q, key %q, %v", host, dialled, header.Get("Host"), key, r.Err)
		}
	}
}

// The Host field names the host that is dialled, however a URL came. net/http maps
// letters for the dial only, and drops a host with a blank.
func TestTheHostFieldIsTheHostThatIsDialled(t *testing.T) {
	for host, want := range map[string]struct{ dialled, field string }{
		"BÜCHER.example":           {"xn--bcher-kva.example:80", "xn--bcher-kva.example"},
		"Bu\u0308cher。Example":     {"xn--bcher-kva.example:80", "xn--bcher-kva.example"},
		"faß.example:81":           {"xn--fa-hia.example:81", "xn--fa-hia.example:81"},
		"Ｅｘａｍｐｌｅ.com":              {"example.com:80", "example.com"},
		"Kelvin.\u212a":            {"kelvin.k:80", "kelvin.k"},
		"ü.example.:81":            {"xn--tda.example.:81", "xn--tda.example.:81"},
		"[fe80::1%25my%20zone]":    {"[fe80::1%my zone]:80", "[fe80::1]"},
		"[FE80::1%25my%20zone]:81": {"[fe80::1%my zone]:81", "[fe80::1]:81"},
		"[fe80::1%25lo]":           {"[fe80::1%lo]:80", "[fe80::1]"},
	} {
		u, err := url.Parse("http://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		parsed := func() *http.Request { return &http.Request{URL: u, Header: http.Header{}} }
		for way, send := range map[string]func(opts ...fetch.Option) fetch.Result{
			"FetchAll": func(opts ...fetch.Option) fetch.Result { return fetchtest.GetOne(t, "http://"+host+"/", opts...) },
			"FetchAll with a RequestFunc": func(opts ...fetch.Option) fetch.Result {
				return fetchtest.GetOne(t, "http://"+host+"/", append(opts, fetch.WithRequestFunc(func(req *http.Request) error {
					if req.Host != want.field {
						t.Errorf("%s: the RequestFunc saw %q", host, req.Host)
					}
					return nil
				}))...)
			},
			"a RequestFunc that drops the Host": func(opts ...fetch.Option) fetch.Result {
				return fetchtest.GetOne(t, "http://"+host+"/", append(opts, fetch.WithRequestFunc(func(req *http.Request) error {
					req.Host = ""
					return nil
				}))...)
			},
			"DoAll": func(opts ...fetch.Option) fetch.Result { return fetchtest.SendOne(t, parsed(), opts...) },
			"DoAll with the Host of the URL": func(opts ...fetch.Option) fetch.Result {
				req := parsed()
				req.Host = u.Host
				return fetchtest.SendOne(t, req, opts...)
			},
			"a Host of the caller's": func(opts ...fetch.Option) fetch.Result {
				req := parsed()
				req.Host = u.Host
				req.URL = &url.URL{Scheme: "http", Host: want.dialled}
				if strings.HasPrefix(host, "[") {
					req.URL = u
				}
				return fetchtest.SendOne(t, req, opts...)
			},
			"WithHeader": func(opts ...fetch.Option) fetch.Result {
				return fetchtest.GetOne(t, "http://"+host+"/", append(opts, fetch.WithHeader("Host", u.Host))...)
			},
			"WithHeader and DoAll": func(opts ...fetch.Option) fetch.Result {
				return fetchtest.SendOne(t, parsed(), append(opts, fetch.WithHeader("Host", u.Host))...)
			},
			"a Location": func(opts ...fetch.Option) fetch.Result {
				return fetchtest.GetOne(t, "http://first.example/start", opts...)
			},
		} {
			w := newWire(t, func(string) string { return "http://" + host + "/" })
			var dialled string
			transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialled = address
				return new(net.Dialer).DialContext(ctx, network, w.host())
			}}
			r := send(fetch.WithClient(fetchtest.NewClient(transport)))
			transport.CloseIdleConnections()
			if r.Err != nil {
				t.Errorf("%s, %s: %v", host, way, r.Err)
				continue
			}
			if _, header := w.last(t); dialled != want.dialled || header.Get("Host") != want.field {
				t.Errorf("%s, %s: dialled %q, the Host is %q", host, way, dialled, header.Get("Host"))
			}
			if !strings.HasPrefix(host, "[") && way != "a Host of the caller's" && r.FinalURL != "http://"+want.field+"/" {
				t.Errorf("%s, %s: FinalURL is %q", host, way, r.FinalURL)
			}
		}
	}
}

func TestAHostThatCannotBeSentIsInvalid(t *testing.T) {
	for _, host := range []string{
		"a b", "a<b", "a>b", "a\"b", "a^b", "a|b", "a`b", "a{b}", "a%b", "a%25b", "a%41b", "a[b]", "\xff", "a\u00a0b", "a\u2028b", "a\\@b", "[::1", "[::1]x", "[h]",
		"\u00ad", "。", "\u00ad.", "a\u00a0.b", "a_ü", "xn--ü", "\u2100", "\u200d.x", strings.Repeat("ü", 2000),
		"[1.2.3.4]", "[::1%lo]", "::1", "h:0", "h:65536", "h:x", "h:1:2", ".", "", "u@",
	} {
		for _, format := range []string{"http://HOST/", "https://u:p@HOST/?q"} {
			r := fetchtest.GetOne(t, strings.Replace(format, "HOST", host, 1), fetchtest.Over(fetchtest.AtOnce))
			if !errors.Is(r.Err, fetch.ErrInvalidURL) || r.Attempts != 0 {
				t.Errorf("%q: %v", host, r.Err)
			}
		}
		req := &http.Request{URL: &url.URL{Scheme: "http", Host: host}, Header: http.Header{}}
		if host == "[::1%lo]" || host == "u@" { // of which one is right when decoded
			continue
		}
		if r := fetchtest.SendOne(t, req, fetchtest.Over(fetchtest.AtOnce)); !errors.Is(r.Err, fetch.ErrInvalidURL) || r.Attempts != 0 {
			t.Errorf("%q of a request: %v", host, r.Err)
		}
	}
	for _, host := range []string{"a b", "a\r\nX: y", "u@h", "h/x", "\xff", "%41", "a_ü", "ü:1:2"} {
		req := fetchtest.NewRequest(t, "GET", "http://h/", nil)
		req.Host = host
		if r := fetchtest.SendOne(t, req, fetchtest.Over(fetchtest.AtOnce)); !errors.Is(r.Err, fetch.ErrInvalidURL) || r.Attempts != 0 {
			t.Errorf("Host %q: %v", host, r.Err)
		}
		r := fetchtest.GetOne(t, "http://h/", fetchtest.Over(fetchtest.AtOnce), fetch.WithRequestFunc(func(req *http.Request) error {
			req.Host = host
			return nil
		}))
		if !errors.Is(r.Err, fetch.ErrInvalidURL) {
			t.Errorf("Host %q of a RequestFunc: %v", host, r.Err)
		}
	}
}
