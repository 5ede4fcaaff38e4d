package fault

import (
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

func causeText(err error) string { return Text(withoutURL(err).Error()) }

// withoutURL takes the URL, which may have secrets, off a *url.Error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) && u.Err != nil {
		return withoutURL(u.Err)
	}
	return err
}
