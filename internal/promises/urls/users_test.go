package urls_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Number 9, and others.
func TestUserInformationIsSentDecoded(t *testing.T) {
	for user, want := range map[string]string{
		"@": "", ":@": "", "zelda@": "zelda:", "zelda:@": "zelda:", ":passw0rd@": ":passw0rd", "zelda:passw0rd@": "zelda:passw0rd",
		"zelda:pass word|\"<>^`{}@": "zelda:pass word|\"<>^`{}", "zelda:p%40ss%2Fw0rd%3a@": "zelda:p@ss/w0rd:", "zelda:pass@w0rd@": "zelda:pass@w0rd",
		"zelda:pass+w0rd%@": "zelda:pass+w0rd%", "zelda:päss:w0rd@": "zelda:päss:w0rd",
	} {
		t.Run(user, func(t *testing.T) {
			w := newWire(t, nil)
			given := "http://" + user + w.host() + "/a b"
			r := fetchtest.GetOne(t, given)
			_, header := w.last(t)
			got := header.Get("Authorization")
			if want != "" {
				want = "Basic " + base64.StdEncoding.EncodeToString([]byte(want))
			}
			if r.Err != nil || got != want || header.Get("Host") != w.host() || r.FinalURL != w.rawURL+"/a%20b" {
				t.Errorf("got %q for %q, FinalURL %q, %v", got, user, r.FinalURL, r.Err)
			}
		})
	}
}

func TestEmptyUserInformationOfARequestIsNone(t *testing.T) {
	for _, user := range []*url.Userinfo{url.User(""), url.UserPassword("", "")} {
		w := newWire(t, nil)
		r := fetchtest.SendOne(t, &http.Request{URL: &url.URL{Scheme: "http", User: user, Host: w.host()}, Header: http.Header{}})
		if _, header := w.last(t); r.Err != nil || header["Authorization"] != nil {
			t.Errorf("got %v, %v", header, r.Err)
		}
	}
}

func TestSecretsOfATextShowInNoSpelling(t *testing.T) {
	const canary = "c4n4rY"
	for _, after := range []string{"/?" + canary + " \"x", "/a b?k=\"" + canary + "\" #" + canary, " /?" + canary + "%"} {
		for _, user := range []string{"", canary + " |:" + canary + "%@", canary + `\x:y@`} {
			r := fetchtest.GetOne(t, " http://"+user+"h"+after+"\r\n", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				return nil, &url.Error{Op: "Get", URL: req.URL.String() + " " + req.Header.Get("Authorization"), Err: http.ErrAbortHandler}
			}))
			if r.Err == nil || strings.Contains(r.Err.Error(), canary) || strings.Contains(r.Err.Error(), "YzRuNHJZ") {
				t.Errorf("%q, %q: %v", user, after, r.Err)
			}
		}
	}
}
