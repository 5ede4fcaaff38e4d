package codings_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// layerKinds are codings as servers write them; an encode of nil is of a coding that nobody
// knows, and leaves the bytes alone.
var layerKinds = []struct {
	name   string
	encode func(string) string
	tail   bool // whether bytes behind are ignored
}{
	{"gzip", zipped, true},
	{"x-gzip", zipped, true},
	{"GZip", func(s string) string { return zipped(s[:len(s)/2]) + zipped("") + zipped(s[len(s)/2:]) }, true},
	{"deflate", zlibbed, true},
	{"Deflate", flated, true},
	{"identity", func(s string) string { return s }, false},
	{"turn", turned, false},
	{"br", nil, false},
	{"aws-chunked", nil, false},
}

// FuzzLayers puts codings on each other, one for each byte of layers, in a list that is written
// in one of many ways. The body must be the text, or the header must name all that is left; of a
// message that was cut there must be no body.
func FuzzLayers(f *testing.F) {
	for first := range byte(len(layerKinds)) {
		f.Add([]byte{first}, text, "", uint8(0), uint8(0))
		for second := range byte(len(layerKinds)) {
			f.Add([]byte{first, second | 0x40}, text, "\n \n", second, uint8(0))
			f.Add([]byte{first, second, first}, "", "\x00", first, second)
			f.Add([]byte{first, second | 0x80, 0, second}, text, "", first, uint8(3))
		}
	}
	f.Add([]byte{0, 0, 0, 0, 0, 0}, text, "", uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, layers []byte, content, tail string, style, cut uint8) {
		if len(layers) > 12 || len(content) > 10_000 || strings.HasPrefix(tail, "\x1f\x8b") {
			t.Skip("longer ones are no more telling, and a further member is no tail")
		}
		body, lines := content, []string{}
		// What is to come out if all is undone down to a layer, and how many are undone for that.
		want, left, undone := content, []string(nil), 0
		var line strings.Builder
		blank := []string{"", " ", "\t", " , "}[style%4]
		for _, layer := range layers {
			kind := layerKinds[int(layer&0x3f)%len(layerKinds)]
			known := kind.encode != nil
			if known {
				body = kind.encode(body)
			}
			if kind.tail && layer&0x40 != 0 {
				body += tail
			}
			switch {
			case !known:
				want, left, undone = body, append(names(lines, line.String()), kind.name), 0
			case kind.name != "identity":
				undone++
			}
			line.WriteString(blank + kind.name + ",")
			if layer&0x80 != 0 {
				lines = append(lines, line.String())
				line.Reset()
			}
		}
		lines = append(lines, line.String())

		lost := min(int(cut), len(body))
		r := fetchtest.GetOne(t, "http://a.example/", withTurn(), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			resp := fetchtest.Respond(req, 200, body)
			resp.Header["Content-Encoding"] = lines
			if lost > 0 {
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:len(body)-lost]), fetchtest.ReaderFunc(func([]byte) (int, error) {
					return 0, io.ErrUnexpectedEOF
				})))
			}
			return resp, nil
		}))
		got := names(r.Header["Content-Encoding"], "")
		switch {
		case lost > 0:
			if r.Err == nil {
				t.Errorf("%q, cut by %d: no error", lines, lost)
			}
		case undone > 5:
			if !errors.Is(r.Err, fetch.ErrProtocol) {
				t.Errorf("%q: error %v", lines, r.Err)
			}
		case r.Err != nil:
			t.Errorf("%q: error %v", lines, r.Err)
		case string(r.Body) != want || strings.Join(got, ",") != strings.Join(left, ","):
			t.Errorf("%q: %q with %q left, want %q with %q", lines, r.Body, got, want, left)
		}
	})
}

// names returns the elements of the lines of a list.
func names(lines []string, last string) (all []string) {
	for element := range strings.SplitSeq(strings.Join(lines, ",")+","+last, ",") {
		if element = strings.Trim(element, " \t"); element != "" {
			all = append(all, element)
		}
	}
	return all
}

// FuzzBody has a body of any bytes under any list. Whatever they are, it is an error or it is
// sound, and the two ways to ask get the same.
func FuzzBody(f *testing.F) {
	for _, m := range messages() {
		if len(m.body) < 4000 {
			f.Add(strings.Join(m.lines, ","), m.body)
		}
	}
	f.Fuzz(func(t *testing.T, list, body string) {
		over := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			resp := fetchtest.Respond(req, 200, body)
			resp.Header["Content-Encoding"] = []string{list}
			return resp, nil
		})
		a := fetchtest.GetOne(t, "http://a.example/", over, withTurn())
		b := fetchtest.SendOne(t, fetchtest.NewRequest(t, "GET", "http://a.example/", nil), over, withTurn())
		if string(a.Body) != string(b.Body) || (a.Err == nil) != (b.Err == nil) {
			t.Errorf("a list: %q, %v; a request: %q, %v", a.Body, a.Err, b.Body, b.Err)
		}
		given, left := names([]string{list}, ""), names(a.Header["Content-Encoding"], "")
		if len(left) > len(given) || strings.Join(given[:len(left)], ",") != strings.Join(left, ",") {
			t.Errorf("of %q %q is left", given, left)
		}
	})
}
