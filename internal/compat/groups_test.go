package compat

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/batchhttp/fetch"
)

// registered returns the domain of a host that was registered; "" if there is none.
func registered(host string) string {
	name := (&url.URL{Host: host}).Hostname()
	if _, err := netip.ParseAddr(name); err == nil {
		return "" // an address has no domain
	}
	domain, _ := publicsuffix.EffectiveTLDPlusOne(name)
	return domain
}

// The hosts of a domain share one request in flight; other domains, and addresses, do not notice.
func TestHostsAreGroupedByTheDomainThatWasRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := []string{
			"http://example.co.uk/", "http://www.example.co.uk/", "https://cdn1.img.example.co.uk:8443/",
			"http://other.co.uk/", "http://alice.github.io/", "http://bob.github.io/", "http://192.0.2.1/", "http://198.51.100.1/",
			"http://[2001:db8::1]/", "http://localhost/", "http://co.uk/",
		}
		start := time.Now()
		results := get(t, urls, fetch.WithHostGroup(registered), fetch.WithHostConcurrency(1), fetch.WithClient(&http.Client{
			Transport: transportFunc(func(req *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}),
		}))
		if err := fetch.JoinErrors(results); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("three hosts of a domain took %v, one after the other", took)
		}
		for i, r := range results {
			if want := time.Duration(min(i, 2)) * time.Second; i < 3 && r.Waited != want || i >= 3 && r.Waited != 0 {
				t.Errorf("%s waited %v", r.URL, r.Waited)
			}
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
