package clients

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"testing"

	"github.com/PuerkitoBio/goquery"
	"github.com/batchhttp/fetch"
	"github.com/temoto/robotstxt"
	"golang.org/x/net/html/charset"
	"golang.org/x/net/publicsuffix"
)

// A jar with the list of public suffixes keeps cookies for the domain, and none for a whole suffix.
func TestPublicsuffixJar(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Host {
		case "www.example.co.uk":
			http.SetCookie(w, &http.Cookie{Name: "domain", Value: "1", Domain: "example.co.uk"})
		case "evil.co.uk":
			http.SetCookie(w, &http.Cookie{Name: "suffix", Value: "1", Domain: "co.uk"})
		}
		io.WriteString(w, r.Header.Get("Cookie"))
	})
	jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	if err != nil {
		t.Fatal(err)
	}
	// All names lead to the server, as a proxy.
	f, err := fetch.New(fetch.WithJar(jar), fetch.WithConcurrency(1), fetch.WithProxy(func(*http.Request) (*url.URL, error) { return url.Parse(s.URL) }))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	results := f.FetchAll(t.Context(), []string{"http://www.example.co.uk/", "http://evil.co.uk/", "http://api.example.co.uk/", "http://other.co.uk/"})
	for i, want := range []string{"", "", "domain=1", ""} {
		if string(results[i].Body) != want || results[i].Err != nil {
			t.Errorf("%s: cookies %q, %v", results[i].URL, results[i].Body, results[i].Err)
		}
	}
}

// goquery reads a page from the Body, and links are resolved against FinalURL.
func TestGoquery(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/docs/index.html", http.StatusMovedPermanently)
			return
		}
		io.WriteString(w, `<title>Docs</title><a href="one.html">1</a><a href="/two.html">2</a><a href="mailto:a@b">m</a>`)
	})
	r := getOne(t, s.URL+"/old")
	page, err := goquery.NewDocumentFromReader(bytes.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	base, err := url.Parse(r.FinalURL)
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	page.Find("a[href]").Each(func(_ int, a *goquery.Selection) {
		if link, err := base.Parse(a.AttrOr("href", "")); err == nil && link.Scheme == "http" {
			links = append(links, link.String())
		}
	})
	if want := []string{s.URL + "/docs/one.html", s.URL + "/two.html"}; !slices.Equal(links, want) || page.Find("title").Text() != "Docs" {
		t.Errorf("links %q", links)
	}
}

// html/charset finds the encoding by the header that the Result has, or in the body; it also works
// on the stream of a BodyFunc.
func TestCharset(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/0" {
			w.Header().Set("Content-Type", "text/html; charset=iso-8859-1")
			io.WriteString(w, "caf\xe9")
			return
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<meta charset=windows-1252>caf\xe9")
	})
	texts := map[int]string{}
	results := get(t, numbered(s.URL, 2), fetch.WithConcurrency(1), fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
		decoded, err := charset.NewReader(body, r.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(decoded)
		texts[r.Index] = string(text)
		return err
	}))
	mustBeFine(t, results, "")
	if texts[0] != "café" || texts[1] != "<meta charset=windows-1252>café" {
		t.Errorf("%v", texts)
	}
}

// robotstxt makes its decision of the Result of /robots.txt, whatever the status.
func TestRobotstxt(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "User-agent: *\nDisallow: /private/\n")
	})
	missing := newServer(t, http.NotFound)
	for base, allowed := range map[string]bool{s.URL: false, missing.URL: true} {
		r := getOne(t, base+"/robots.txt")
		robots, err := robotstxt.FromStatusAndBytes(r.StatusCode, r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if robots.TestAgent("/private/x", "fetch") != allowed || !robots.TestAgent("/public", "fetch") {
			t.Errorf("%s: not as it should be", base)
		}
	}
}
