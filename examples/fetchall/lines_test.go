package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll returns the lines of an input, and the error that ends it.
func readAll(t *testing.T, input io.Reader) ([]string, error) {
	t.Helper()
	l := readLines(t.Context(), input)
	var lines []string
	for {
		line, ok := l.next(t.Context())
		if !ok {
			return lines, l.err()
		}
		lines = append(lines, line)
	}
}

func TestListsAreReadAsPeopleHaveThem(t *testing.T) {
	long := "http://h/" + strings.Repeat("x", 100_000)
	for name, test := range map[string]struct {
		input string
		want  []string
	}{
		"nothing":                  {"", nil},
		"lines":                    {"http://a/\nhttp://b/\n", []string{"http://a/", "http://b/"}},
		"no end of the last line":  {"http://a/\nhttp://b/", []string{"http://a/", "http://b/"}},
		"Windows":                  {"\ufeffhttp://a/\r\nhttp://b/\r\n\r\n", []string{"http://a/", "http://b/"}},
		"a mark and blanks":        {"\ufeff \thttp://a/ \t\n", []string{"http://a/"}},
		"a mark and a comment":     {"\ufeff# list\nhttp://a/", []string{"http://a/"}},
		"a mark within":            {"http://a/\n\ufeffhttp://b/\n", []string{"http://a/", "http://b/"}},
		"only a mark":              {"\ufeff\r\n", nil},
		"blank lines":              {"\n \n\t\r\nhttp://a/\n\n", []string{"http://a/"}},
		"comments":                 {"# a\n #b\n#\nhttp://a/\n", []string{"http://a/"}},
		"a fragment is no comment": {"http://a/#b # c\n", []string{"http://a/#b # c"}},
		"blanks around and within": {"\u00a0 http://a/b c \u00a0\n", []string{"http://a/b c"}},
		"a long line":              {long + "\nhttp://a/", []string{long, "http://a/"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, input := range []io.Reader{strings.NewReader(test.input), iotest.OneByteReader(strings.NewReader(test.input))} {
				got, err := readAll(t, input)
				if err != nil || !slices.Equal(got, test.want) {
					t.Errorf("got %.200q, %v", got, err)
				}
			}
		})
	}
}

func TestALineThatIsTooLongIsNamed(t *testing.T) {
	got, err := readAll(t, strings.NewReader("http://a/\n\n"+strings.Repeat("x", maxLine+1)+"\nhttp://b/\n"))
	if len(got) != 1 || err == nil || !strings.HasPrefix(err.Error(), "line 3 is longer than ") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnErrorOfTheInputEndsTheLines(t *testing.T) {
	failed := errors.New("failed")
	got, err := readAll(t, io.MultiReader(strings.NewReader("http://a/\nhttp://b/"), iotest.ErrReader(failed)))
	if len(got) != 2 || err != failed {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheLinesEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := readLines(ctx, strings.NewReader("http://a/\nhttp://b/\n"))
	if line, ok := l.next(ctx); line != "http://a/" || !ok {
		t.Errorf("got %q, %v", line, ok)
	}
	cancel()
	for {
		if _, ok := l.next(ctx); !ok {
			break
		}
	}
}
