package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/batchhttp/fetch"
	"golang.org/x/oauth2"
)

// tokens is an oauth2.TokenSource.
type tokens func() (*oauth2.Token, error)

func (f tokens) Token() (*oauth2.Token, error) { return f() }

// A token of oauth2 is sent with each request. An error of its source is that of the URL, in its own words.
func TestOauth2(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	with := func(source oauth2.TokenSource) fetch.Option {
		return fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return &oauth2.Transport{Source: source, Base: next}
		})
	}
	const slots = 8
	results := get(t, numbered(s.URL, 100), fetch.WithConcurrency(slots), with(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t0ken"})))
	mustBeFine(t, results, "")
	if s.opened() > slots {
		t.Errorf("%d connections for %d slots", s.opened(), slots)
	}

	errSource := errors.New("cannot fetch token")
	r := getOne(t, s.URL, fetch.WithRetries(2), with(tokens(func() (*oauth2.Token, error) { return nil, errSource })))
	if !errors.Is(r.Err, errSource) || errors.Is(r.Err, fetch.ErrProtocol) || r.Attempts != 1 || !strings.Contains(r.Err.Error(), "cannot fetch token") {
		t.Errorf("%v after %d attempts", r.Err, r.Attempts)
	}
}

// WithRequestFunc signs each attempt, with its own time, after WithHeader and before anything is sent.
func TestSigV4(t *testing.T) {
	attempts := 0
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		hello(w, r)
	})
	signer := v4.NewSigner()
	key := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET"}
	empty := sha256.Sum256(nil)
	r := getOne(t, s.URL+"/a%2Fb?q=1", fetch.WithRetries(1), fetch.WithBackoff(0, 0), fetch.WithHeader("X-Amz-Meta", "m"), fetch.WithRequestFunc(func(req *http.Request) error {
		return signer.SignHTTP(req.Context(), key, req, hex.EncodeToString(empty[:]), "s3", "eu-central-1", time.Now())
	}))
	mustBeFine(t, []fetch.Result{r}, "hello")
	for i, req := range s.seen() {
		// The server works out the same signature from what has come.
		signed := req.Clone(t.Context())
		signed.URL.Scheme, signed.URL.Host = "http", req.Host
		got := signed.Header.Get("Authorization")
		at, err := time.Parse("20060102T150405Z", signed.Header.Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		for name := range signed.Header {
			if !strings.HasPrefix(name, "X-Amz-Meta") {
				signed.Header.Del(name)
			}
		}
		if err := signer.SignHTTP(t.Context(), key, signed, hex.EncodeToString(empty[:]), "s3", "eu-central-1", at); err != nil {
			t.Fatal(err)
		}
		if want := signed.Header.Get("Authorization"); got != want || got == "" {
			t.Errorf("attempt %d: signed %q, want %q", i+1, got, want)
		}
	}
	if len(s.seen()) != 2 {
		t.Errorf("%d requests", len(s.seen()))
	}
}
