package fetchtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
)

// Canary is the secret that must not show. Every fault (package faults) is run with it in
// user information, query, fragment, headers, cookies and body of the request, some with
// it in what the server sends; and what redirects lead to looks for it in each request.
const Canary = "canary93ab17"

// basicCanary is how user information is sent.
var basicCanary = base64.StdEncoding.EncodeToString([]byte(Canary + ":" + Canary))

// SecretURL has the canary in each part that must not show.
const SecretURL = "http://user:" + Canary + "@a.example/path?key=" + Canary + "#" + Canary

// CheckNoSecret looks for the canary in all texts that results have.
func CheckNoSecret(t testing.TB, results []fetch.Result) {
	t.Helper()
	for _, r := range results {
		errs := []error{r.Err, fetch.JoinErrors(results)}
		for _, attempt := range r.History {
			errs = append(errs, attempt.Err)
		}
		for _, err := range errs {
			if text := fmt.Sprintf("%v %+v %q", err, err, err); strings.Contains(text, Canary) || strings.Contains(text, basicCanary) {
				t.Errorf("an error shows a secret: %s", text)
			}
		}
		if strings.Contains(r.FinalURL, Canary+"@") || strings.Contains(r.FinalURL, Canary+":") {
			t.Errorf("FinalURL has user information: %s", r.FinalURL)
		}
	}
}

// WatchLog fails the test if a secret is logged: net/http logs a line when a
// server sends more than was asked for.
func WatchLog(t *testing.T) {
	var logged lockedBuffer
	before := log.Writer()
	log.SetOutput(&logged)
	t.Cleanup(func() {
		log.SetOutput(before)
		if text := logged.String(); strings.Contains(text, Canary) {
			t.Errorf("a secret was logged: %s", text)
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
