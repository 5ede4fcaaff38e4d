package fleet

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"
	"time"
)

// Whatever a request has, what is read from a page is what was written, and takes no more room than is
// counted for it.
func FuzzPage(f *testing.F) {
	f.Add("http://a.example/?a&b", "", "", "", []byte(nil))
	f.Add("http://a.example/\xff", "POST", "X-A", "caf\xe9\x00", []byte("body"))
	f.Add("http://a.example/\u2028\ufffd\"<", "G\x7f", "", "\xe2\x80", []byte{0})
	f.Fuzz(func(t *testing.T, url, method, key, value string, body []byte) {
		if method == http.MethodGet {
			method = "" // as all GETs are added
		}
		r := Request{URL: url, Method: method}
		if len(body) > 0 {
			r.Body = body
		}
		if key != "" {
			r.Header = http.Header{key: {value, url}}
		}
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		want := []stored{
			{Request: r},
			{Request: Request{URL: "http://b.example/"}, Hop: &hop{Origin: r, Redirects: 2}},
			{Request: r, Deliveries: 1, NotBefore: at},
		}
		for _, s := range want {
			var p pageText
			p.add(s)
			data, err := p.encode()
			if err != nil {
				t.Fatal(err)
			}
			const frame = 2048 // of a page, and of what stored has beside
			if len(data) > r.room()+frame {
				t.Errorf("%+v takes %d bytes, and %d count for it", s, len(data), r.room())
			}
			got, err := readPage(data)
			if err != nil || len(got) != 1 || p.count() != 1 || !reflect.DeepEqual(got[0], s) {
				t.Fatalf("%+v is read as %+v, %v", s, got, err)
			}
		}
		p, err := newPoisoned(r, 1, bytes.ErrTooLarge)
		if err != nil || p.Exact == nil && !reflect.DeepEqual(p.Request, r) {
			t.Errorf("%+v is poisoned as %+v, %v", r, p, err)
		}
	})
}
