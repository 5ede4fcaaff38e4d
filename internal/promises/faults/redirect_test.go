package faults_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestFaultsOfRedirects(t *testing.T) { runFaults(t, redirectFaults()) }

func redirectFaults() []fault {
	notFollowed := []error{fetch.ErrRedirect}
	bomb := fetchtest.Zipped(make([]byte, 4<<20))
	return []fault{
		{number: 68, name: "a loop", handler: to("/"), errs: notFollowed, code: 302, sent: 11},
		{number: 68, name: "a chain of a thousand", handler: func(w http.ResponseWriter, req *http.Request) {
			n := 0
			fmt.Sscanf(req.URL.Path, "/%d", &n)
			http.Redirect(w, req, fmt.Sprintf("/%d", n+1), http.StatusFound)
		}, errs: notFollowed, code: 302, sent: 11},
		{number: 69, name: "to a file", handler: to("file:///etc/passwd"), errs: notFollowed, code: 302},
		{number: 69, name: "to ftp", handler: to("ftp://a.example/"), errs: notFollowed, code: 302},
		{number: 69, name: "to a socket", handler: to("unix:/run/socket"), errs: notFollowed, code: 302},
		{number: 69, name: "to a script", handler: to("javascript:alert(1)"), errs: notFollowed, code: 302},
		{number: 69, name: "to data", handler: to("data:text/plain," + fetchtest.Canary), errs: notFollowed, code: 302},
		// On TLS these are the way down from https to http, too.
		{number: 70, name: "to another origin", handler: toOther("/?public"), code: 200, body: "other"},
		{number: 71, name: "to another origin with 308", handler: func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, serverOf(req).other+"/?public", http.StatusPermanentRedirect)
		}, code: 200, body: "other"},
		{number: 71, name: "to another origin and back", handler: func(w http.ResponseWriter, req *http.Request) {
			switch {
			case req.URL.Path != "/back":
				back := serverOf(req).base + "/back"
				http.Redirect(w, req, serverOf(req).other+"/?back="+url.QueryEscape(back), http.StatusFound)
			case req.Header.Get("X-Api-Key") != "" || req.Header.Get("Cookie") != "" || req.Header.Get("Authorization") != "":
				io.WriteString(w, "the secrets came back")
			default:
				io.WriteString(w, "back")
			}
		}, code: 200, body: "back", sent: 2},
		{number: 71, name: "within the origin", handler: func(w http.ResponseWriter, req *http.Request) {
			user, _, _ := req.BasicAuth()
			switch {
			case req.URL.Path != "/next":
				http.Redirect(w, req, "/next", http.StatusFound)
			case len(req.Header["X-Api-Key"]) == 2 && req.Header.Get("Cookie") == "c="+fetchtest.Canary && user == fetchtest.Canary:
				io.WriteString(w, "all came along")
			}
		}, code: 200, body: "all came along", sent: 2},
		{number: 72, name: "a Referer with a query", handler: toOther("/"), code: 200, body: "other"},
		{number: 73, name: "user information in the Location", handler: func(w http.ResponseWriter, req *http.Request) {
			other, _ := url.Parse(serverOf(req).other)
			other.User = url.UserPassword(fetchtest.Canary, fetchtest.Canary)
			http.Redirect(w, req, other.String(), http.StatusFound)
		}, code: 200, body: "other"},
		{number: 74, name: "307 of a POST to another origin", method: http.MethodPost, handler: func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, serverOf(req).other, http.StatusTemporaryRedirect)
		}, errs: notFollowed, code: 307},
		{number: 74, name: "308 of a POST to another origin", method: http.MethodPost, handler: func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, serverOf(req).other, http.StatusPermanentRedirect)
		}, errs: notFollowed, code: 308},
		{number: 74, name: "302 of a POST to another origin", method: http.MethodPost, handler: toOther("/"), code: 200, body: "other"},
		{number: 75, name: "no Location", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusFound)
			io.WriteString(w, "where to")
		}, code: 302, body: "where to"},
		{number: 75, name: "300", handler: func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Location", serverOf(req).other)
			w.WriteHeader(http.StatusMultipleChoices)
			io.WriteString(w, "choose")
		}, code: 300, body: "choose"},
		{number: 76, name: "a Location that is no URL", handler: to("http://" + fetchtest.Canary + ":" + fetchtest.Canary + "@b c/?token=" + fetchtest.Canary), errs: notFollowed, code: 302},
		{number: 76, name: "a Location with a bad escape", handler: to("http://" + fetchtest.Canary + "@b.example%zz/?" + fetchtest.Canary), errs: notFollowed, code: 302},
		{number: 76, name: "a Location with a bad port", handler: to("http://" + fetchtest.Canary + "@b.example:99999/?" + fetchtest.Canary), errs: notFollowed, code: 302},
		{number: 76, name: "a Location without host", handler: to("http:///" + fetchtest.Canary), errs: notFollowed, code: 302},
		{number: 77, name: "two Locations", handler: func(w http.ResponseWriter, req *http.Request) {
			w.Header().Add("Location", serverOf(req).other)
			w.Header().Add("Location", "/lost")
			w.WriteHeader(http.StatusFound)
		}, code: 200, body: "other"},
		{number: 78, name: "a body that stalls", wire: func(p *faultPeer) {
			fmt.Fprintf(p, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 100\r\n\r\nab", p.server.other)
			hold(p)
		}, frames: func(f *faultFrames) {
			f.headers(0, ":status", "302", "location", f.server.other, "content-length", "100")
			f.data(0, "ab")
		}, virtual: true, opts: []fetch.Option{fetch.WithTimeout(time.Second)}, code: 200, body: "other"},
		{number: 78, name: "a long body that stalls", wire: func(p *faultPeer) {
			fmt.Fprintf(p, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 100000\r\n\r\nab", p.server.other)
			hold(p)
		}, virtual: true, opts: []fetch.Option{fetch.WithTimeout(time.Second)}, code: 200, body: "other"},
		{number: 78, name: "a body that is cut", wire: func(p *faultPeer) {
			fmt.Fprintf(p, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 100\r\n\r\nab", p.server.other)
		}, code: 200, body: "other"},
		{number: 79, name: "a bomb", handler: func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Location", serverOf(req).other)
			fetchtest.Zip(http.StatusFound, bomb)(w, req)
		}, code: 200, body: "other"},
		{number: 79, name: "a body without end", wire: func(p *faultPeer) {
			fmt.Fprintf(p, "HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n", p.server.other)
			flood("junk")(p)
		}, code: 200, body: "other"},
		{number: 81, name: "to an address that is blocked", handler: to("http://127.0.0.2:9/"), opts: []fetch.Option{fetch.WithPublicOnly(netip.MustParsePrefix("127.0.0.1/32"))},
			errs: []error{fetch.ErrBlocked}, code: 302},
		{number: 81, name: "to a spelling of an address that is blocked", handler: to("http://127。0。0。2:9/"), opts: []fetch.Option{fetch.WithPublicOnly(netip.MustParsePrefix("127.0.0.1/32"))},
			errs: []error{fetch.ErrBlocked}, code: 302},
	}
}

// to redirects everything to a place.
func to(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	}
}

// toOther redirects to the other server.
func toOther(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, serverOf(req).other+path, http.StatusFound)
	}
}
