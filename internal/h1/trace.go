package h1

import (
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
)

// A trace tells hooks of the caller's how an exchange gets on, as net/http does.
type trace struct {
	hooks *httptrace.ClientTrace // nil: none
	heard bool                   // the first byte of the answer
}

// Trace has hooks told of the next exchange; nil: none.
func (c *Conn) Trace(hooks *httptrace.ClientTrace) { c.trace = trace{hooks: hooks} }

// sent tells that a request has been written, or why not.
func (t *trace) sent(head *Head, err error) {
	if t.hooks == nil {
		return
	}
	if err == nil {
		t.fields(head)
		if f := t.hooks.WroteHeaders; f != nil {
			f()
		}
	}
	if f := t.hooks.WroteRequest; f != nil {
		f(httptrace.WroteRequestInfo{Err: err})
	}
}

func (t *trace) fields(head *Head) {
	f := t.hooks.WroteHeaderField
	if f == nil {
		return
	}
	_, lines, _ := strings.Cut(string(head.bytes), "\r\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\r\n\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		f(name, []string{value})
	}
}

// read tells that bytes of the answer have come.
func (t *trace) read(n int) {
	if t.hooks == nil || t.heard || n == 0 {
		return
	}
	t.heard = true
	if f := t.hooks.GotFirstResponseByte; f != nil {
		f()
	}
}

// interim tells of an interim response. An error is the caller's, and ends the exchange.
func (t *trace) interim(resp *http.Response) error {
	if t.hooks == nil {
		return nil
	}
	if f := t.hooks.Got100Continue; f != nil && resp.StatusCode == http.StatusContinue {
		f()
	}
	if f := t.hooks.Got1xxResponse; f != nil {
		return f(resp.StatusCode, textproto.MIMEHeader(resp.Header))
	}
	return nil
}
