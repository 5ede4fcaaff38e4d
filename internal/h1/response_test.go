package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"testing"
)

// FuzzPlain compares plain heads with what http.ReadResponse makes of them, and of the body.
func FuzzPlain(f *testing.F) {
	for _, head := range plainHeads {
		f.Add(head, "GET")
	}
	for _, head := range otherHeads {
		f.Add(head, "GET")
	}
	f.Add(plainHeads[0], "HEAD")
	f.Fuzz(func(t *testing.T, text, method string) {
		if len(text) > 4<<10 {
			t.Skip("longer than the buffer")
		}
		req := &http.Request{Method: method}
		got, rest := readPlain(t, text, req)
		if got == nil {
			if rest != text {
				t.Errorf("it was refused, and %q is left", rest)
			}
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader([]byte(text))), req)
		if err != nil {
			t.Fatalf("http.ReadResponse refuses it: %v", err)
		}
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if !bytes.Equal(gotBody, wantBody) || gotErr != wantErr {
			t.Errorf("body %q, %v, want %q, %v", gotBody, gotErr, wantBody, wantErr)
		}
		got.Body, want.Body = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func readPlain(t *testing.T, text string, req *http.Request) (resp *http.Response, rest string) {
	c := &Conn{reader: bufio.NewReader(bytes.NewReader([]byte(text)))}
	c.reader.Peek(1)
	resp = c.plain(req)
	if resp == nil {
		left, _ := io.ReadAll(c.reader)
		return nil, string(left)
	}
	if resp.Body == nil {
		resp.Body = io.NopCloser(&counted{c.reader, resp.ContentLength})
	}
	return resp, ""
}

var plainHeads = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
	"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nbo",
	"HTTP/1.1 404 \r\ncontent-length:004 \r\nSet-Cookie: a\r\nset-cookie:\tb\r\nX: \xff\r\nEmpty:\r\n\r\nbody and more",
	"HTTP/1.1 599 a  b \r\nContent-Length: 9223372036854775807\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
}

var otherHeads = []string{
	"", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
	"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nA: b\x01\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nA: b\nC: d\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 4\r\n\r\nbody",
	"HTTP/1.1 200 OK\r\nTrailer: A\r\nContent-Length: 4\r\n\r\nbody",
}

func TestWhichHeadsArePlain(t *testing.T) {
	req := &http.Request{Method: http.MethodGet}
	for _, head := range plainHeads {
		if resp, _ := readPlain(t, head, req); resp == nil {
			t.Errorf("%q is not plain", head)
		}
	}
	for _, head := range otherHeads {
		if resp, _ := readPlain(t, head, req); resp != nil {
			t.Errorf("%q is plain", head)
		}
	}
	if resp, _ := readPlain(t, plainHeads[0], &http.Request{Method: http.MethodHead}); resp != nil {
		t.Error("the answer to HEAD is plain")
	}
}
