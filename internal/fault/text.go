package fault

import (
	"crypto/tls"
	"errors"
	"net/url"
	"strconv"
	"strings"
)

const (
	longestText = 300
	longestWord = 200
)

// Text returns s, which may have the bytes of a server in it, as printable ASCII of bounded
// length.
func Text(s string) string {
	return printable(s, longestText, ' ')
}

// Word is Text for a URL or a host, which is to be seen as one word: it is quoted if it has a
// blank, or is empty.
func Word(s string) string {
	if s == "" {
		return `""`
	}
	return printable(s, longestWord, ' '+1)
}

// printable cuts s to so many bytes, and quotes it if it has others than ASCII from lowest on.
func printable(s string, most int, lowest rune) string {
	if len(s) > most {
		s = s[:most] + "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < lowest || r >= 0x7f }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// A Cut takes out of a text the parts that must not be shown; nil takes nothing.
type Cut func(text string) string

// Show returns the text of an error with what cut takes out of the words of others: before
// they are quoted and cut short, which could leave half of a secret.
func Show(err error, cut Cut) string {
	if e, ok := err.(interface{ Show(Cut) string }); ok {
		return e.Show(cut)
	}
	return cut.from(err.Error())
}

func (cut Cut) from(text string) string {
	if cut == nil {
		return text
	}
	return cut(text)
}

// causeText returns the text of an error that others have made.
func causeText(err error, cut Cut) string {
	if e, ok := err.(interface{ Show(Cut) string }); ok {
		return e.Show(cut)
	}
	return Text(cut.from(words(withoutURL(err))))
}

// words returns the text of an error without the bytes of a server.
func words(err error) string {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.Error()
	}
	if broken, ok := errors.AsType[*brokenTunnel](err); ok {
		return "proxyconnect: " + broken.Error()
	}
	if is[tls.RecordHeaderError](err) {
		return "the server does not speak TLS"
	}
	if denied := denial(err); denied != "" {
		return denied
	}
	return reworded(err)
}

// withoutURL takes the URL, which may have secrets, off a *url.Error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) && u.Err != nil {
		return withoutURL(u.Err)
	}
	return err
}
