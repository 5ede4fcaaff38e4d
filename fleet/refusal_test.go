package fleet

import (
	"net/http"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
)

func TestRefusalsAreThoseOfFetch(t *testing.T) {
	asked := http.Header{"Retry-After": {"7"}}
	usedUp := http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"9"}}
	for _, test := range []struct {
		status  int
		header  http.Header
		wait    time.Duration
		refused bool
	}{
		{429, nil, 0, true},
		{429, asked, 7 * time.Second, true},
		{429, usedUp, 9 * time.Second, true},
		{403, asked, 7 * time.Second, true},
		{403, usedUp, 9 * time.Second, true},
		{403, nil, 0, false},
		{420, usedUp, 9 * time.Second, true},
		{503, asked, 7 * time.Second, true},
		{503, nil, 0, false},
		{529, asked, 7 * time.Second, true},
		{500, asked, 7 * time.Second, false},
		{200, usedUp, 9 * time.Second, false},
		{0, nil, 0, false},
	} {
		wait, refused := refusal(&fetch.Result{StatusCode: test.status, Header: test.header})
		if wait != test.wait || refused != test.refused {
			t.Errorf("%d %v: %v, %v; want %v, %v", test.status, test.header, wait, refused, test.wait, test.refused)
		}
	}
}
