package target

import (
	"errors"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/fault"
)

func TestConcealTakesTheSecretsOfAURLOutOfATextAndNoMore(t *testing.T) {
	for _, test := range []struct{ rawURL, text, want string }{
		{"http://h/?token=s3cret", "GET http://h/?token=s3cret giving up", "GET http://h/?... giving up"},
		{"http://h/?token=s3cret", "bad token=s3cret", "bad ..."},
		{"http://h/?a=1&b=two", "page 1 of two pages", "page 1 of ... pages"},
		{"http://h/?b=two", "twofold", "twofold"},
		{"http://h/?q=x#frag", "at #frag", "at #..."},
		{"http://user:pass@h/", "http://user:pass@h/", "http://...h/"},
		{"http://u:p@h/", "up and running", "up and running"},
		{"http://h/?q=a%2Fbcdef", "got a/bcdef", "got ..."},
		{"http://h/?q=a%2Fbcdef", "got a%2fbcdef", "got ..."},
		{"http://h/path", "GET http://h/path", "GET http://h/path"},
		{"http://h/?", "what?", "what?"},
		{"?=&=#@", "x?=&=#@y", ""}, // whatever comes of it
		{"", "x", "x"},
	} {
		got := Conceal(errors.New(test.text), test.rawURL).Error()
		if got != test.want && test.want != "" {
			t.Errorf("%q, %q: got %q, want %q", test.rawURL, test.text, got, test.want)
		}
	}
}

// A URL may be a server's choice, and so long that looking for its secrets takes long.
func TestConcealHidesATextThatTakesLong(t *testing.T) {
	for pairs, shown := range map[int]bool{1: true, 100: true, 20_000: false} {
		query := strings.Repeat("a=1&", pairs) + "k=s3cretcanary"
		for _, text := range []string{"k=s3cretcanary is bad", "GET http://h/?" + query + " giving up"} {
			got := Conceal(errors.New(text), "http://h/?"+query).Error()
			if strings.Contains(got, "s3cret") || shown == (got == "...") {
				t.Errorf("%d pairs: got %q", pairs, got)
			}
		}
	}
	long := strings.Repeat("x", 8<<20) + "s3cretcanary"
	if got := Conceal(errors.New(long), "http://h/?k=s3cretcanary").Error(); got != "..." {
		t.Errorf("got %q", got)
	}
}

// A text is cut short at 300 bytes, which must not leave the half of a secret.
func TestConcealComesBeforeATextIsCutShort(t *testing.T) {
	text := strings.Repeat("x ", 148) + "s3cretcanary"
	err := Conceal(fault.New(fault.ErrProtocol, errors.New(text)), "http://h/?k=s3cretcanary")
	if strings.Contains(err.Error(), "s3c") {
		t.Errorf("got %q", err)
	}
	if !errors.Is(err, fault.ErrProtocol) {
		t.Error("the sentinel is lost")
	}
}

func FuzzConceal(f *testing.F) {
	f.Add("GET ", "q", " giving up")
	f.Add("%", "%zz=&;#@?", "\x00")
	f.Fuzz(func(t *testing.T, before, part, after string) {
		const token = "c4n4rYtoken"
		if len(before)+len(part)+len(after) > 1000 || strings.ContainsAny(part, "?#@/\\:%&;=+ ") {
			t.Skip("the parts are not as they are taken to be")
		}
		for _, rawURL := range []string{
			"http://h/?" + part + "=" + token, "http://h/?" + token, "http://h/#" + token, "http://" + part + ":" + token + "@h/",
		} {
			if got := Conceal(errors.New(before+token+after), rawURL).Error(); strings.Contains(got, token) {
				t.Errorf("%q: got %q", rawURL, got)
			}
		}
	})
}
