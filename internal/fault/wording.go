package fault

import (
	"errors"
	"strings"

	"github.com/batchhttp/fetch/internal/retry"
)

// A class says what an error counts as.
type class struct {
	kind  error // its sentinel, or nil
	cause retry.Cause
	// garbled tells that the bytes of a message make no sense as HTTP/1.
	garbled bool
}

var (
	lost     = class{nil, retry.Interrupted, false} // the connection, under a request
	notTaken = class{nil, retry.NotSent, false}     // the request, by the server
	cut      = class{ErrTruncated, retry.Interrupted, false}
	garbled  = class{ErrProtocol, retry.Final, true}
	broken   = class{ErrProtocol, retry.Final, false}   // the protocol, in another way
	refused  = class{ErrInvalidURL, retry.Final, false} // the request, by net/http before it is sent
	ownFault = class{nil, retry.Final, false}           // of the request while it is sent, or of this program
)

// A wording is an error for which net/http has no type, only a text.
type wording struct {
	text  string // which the error begins with, or has in it
	shown string // instead of the text and whatever follows; "" is the text
	class class
	// first tells that the text is too common to be looked for in the words of others: an
	// error of the chain must begin with it.
	first bool
}

// wordings has the errors of net/http in Go 1.26 that have no type. The rest of an error,
// behind the text, is never shown, since it may be the server's.
var wordings = []wording{
	{text: "http: server closed idle connection", class: lost},
	{text: "net/http: Transport failed to read from server", class: lost},
	{text: "http: CloseIdleConnections called", class: lost},
	{text: "http: idle connection timeout", class: lost},
	{text: "http: persistConn.readLoop exiting", class: lost},
	{text: "net/http: cannot rewind body after connection loss", class: lost},
	{text: "http2: client connection lost", class: lost},
	{text: "http2: client conn is closed", class: lost},
	{text: "http2: client connection force closed", class: lost},
	{text: "http2: server sent GOAWAY and closed the connection", class: lost},

	// The server took no more requests on the connection, and so not this one (RFC 9113,
	// section 8.7).
	{text: "http2: client conn could not be established", class: notTaken},
	{text: "http2: client conn not usable", class: notTaken},
	{text: "http2: Transport received GOAWAY from server", class: notTaken},
	{text: "http2: Transport received Server's graceful shutdown GOAWAY", class: notTaken},
	{text: "http2: Transport: cannot retry err", class: notTaken},

	{text: "malformed HTTP response", class: garbled},
	{text: "malformed HTTP status code", class: garbled},
	{text: "malformed HTTP version", class: garbled},
	{text: "malformed MIME header", class: garbled},
	{text: "bad Content-Length", class: garbled},
	{text: "invalid empty Content-Length", class: garbled},
	{text: "http: message cannot contain multiple Content-Length headers", shown: "several values of Content-Length", class: garbled},
	{text: "unsupported transfer encoding", class: garbled},
	{text: "too many transfer encodings", class: garbled},
	{text: "bad trailer key", class: garbled},
	{text: "malformed chunked encoding", class: garbled},
	{text: "chunked encoding contains too much non-data", class: garbled},
	{text: "chunked line ends with bare LF", class: garbled},
	{text: "invalid CR in chunked line", class: garbled},
	{text: "empty hex number for chunk length", class: garbled},
	{text: "invalid byte in chunk length", class: garbled},
	{text: "http chunk length too large", class: garbled},
	{text: "http: unexpected EOF reading trailer", class: cut},

	{text: "http: suspiciously long trailer after chunked body", class: broken},
	{text: "header line too long", class: broken},
	{text: "net/http: server response headers exceeded", shown: "header too large", class: broken},
	{text: "message too large", shown: "header too large", class: broken, first: true},
	{text: "http2: response header list larger than advertised limit", shown: "header too large", class: broken},
	{text: "header list too large", shown: "header too large", class: broken, first: true},
	{text: "malformed response from server: missing status pseudo header", class: broken},
	{text: "malformed response from server: malformed non-numeric status pseudo header", class: broken},
	{text: "1xx informational response with END_STREAM flag", class: broken},
	{text: "invalid header field value for", shown: "invalid header field value", class: broken},
	{text: "invalid header field name", class: broken},
	{text: "invalid pseudo-header", class: broken},
	{text: "duplicate pseudo-header", class: broken},
	{text: "connection error: ", shown: "HTTP/2 connection error", class: broken, first: true},
	{text: "http2: frame too large", class: broken},
	{text: "http2: failed reading the frame payload", class: broken},
	{text: "http2: unexpected ALPN protocol", class: broken},
	{text: "http2: could not negotiate protocol mutually", class: broken},
	{text: "tls: server selected unadvertised ALPN protocol", class: broken},
	{text: "net/http: server replied with more than declared Content-Length", class: broken},
	{text: "http: server gave HTTP response to HTTPS client", class: broken},
	{text: "the server hands the request back on every connection", class: broken}, // of the own client

	{text: "net/http: invalid header", shown: "invalid header field of the request", class: refused},
	{text: "net/http: invalid trailer", shown: "invalid trailer field of the request", class: refused},
	{text: "http: invalid header", shown: "invalid header field of the request", class: refused},
	{text: "http: invalid trailer", shown: "invalid trailer field of the request", class: refused},
	{text: "invalid Trailer key", shown: "invalid trailer field of the request", class: refused},
	{text: "http: Request.ContentLength=", shown: "the request's body has not the announced length", class: refused},
	{text: "request header list larger than peer's advertised limit", class: refused},
	{text: "invalid Upgrade request header", shown: "invalid field Upgrade of the request", class: refused},
	{text: "invalid Transfer-Encoding request header", shown: "invalid field Transfer-Encoding of the request", class: refused},
	{text: "invalid Connection request header", shown: "invalid field Connection of the request", class: refused},
	{text: "invalid request :path", shown: "invalid request target", class: refused},

	{text: "refusing to use HTTP_PROXY value in CGI environment", class: ownFault},
	{text: "http: ContentLength=", shown: "the request's body has not the announced length", class: ownFault},
	{text: "http2: request body larger than specified content length", class: ownFault},

	// HTTP/3 (RFC 9114, section 8.1), as clients for it name its codes.
	{text: "H3_REQUEST_REJECTED", class: notTaken},
	{text: "H3_REQUEST_CANCELLED", class: lost},
	{text: "H3_INTERNAL_ERROR", class: lost},
	{text: "H3_EXCESSIVE_LOAD", class: lost},
	{text: "H3_NO_ERROR", class: lost},
	{text: "H3_", shown: "HTTP/3 error", class: broken, first: true},
}

// decoration is put by net/http before an error that ends a connection.
const decoration = "net/http: HTTP/1.x transport connection broken: "

// wordingOf returns the wording that an error has in its text, and where; nil if there is
// none. Of several the first counts: the others are part of its rest.
func wordingOf(err error) (found *wording, at int) {
	text := err.Error()
	at = len(text)
	for i := range wordings {
		w := &wordings[i]
		if j := strings.Index(text, w.text); j >= 0 && j < at && (!w.first || begins(err, w.text)) {
			found, at = w, j
		}
	}
	return found, at
}

// begins reports whether err, or an error that it wraps, begins with text.
func begins(err error, text string) bool {
	if strings.HasPrefix(err.Error(), text) {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		wrapped := e.Unwrap()
		return wrapped != nil && begins(wrapped, text)
	case interface{ Unwrap() []error }:
		for _, wrapped := range e.Unwrap() {
			if wrapped != nil && begins(wrapped, text) {
				return true
			}
		}
	}
	return false
}

// classOf returns the class that an error has by its text.
func classOf(err error) (class, bool) {
	if w, _ := wordingOf(err); w != nil {
		return w.class, true
	}
	return class{}, false
}

// IsGarbled reports whether an answer made no sense as HTTP/1. On a connection that has
// served before, it may be bytes that the server sent behind an earlier answer.
func IsGarbled(err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.kind != ErrProtocol || f.cause == nil {
		return false
	}
	c, ok := classOf(f.cause)
	return ok && c.garbled
}

// IsReused reports whether an error says that it is one of a connection that had served before.
func IsReused(err error) bool {
	var reused interface{ Reused() bool }
	return errors.As(err, &reused) && reused.Reused()
}

// reworded returns the text of an error without the rest of a wording.
func reworded(err error) string {
	text := err.Error()
	if w, at := wordingOf(err); w != nil {
		shown := w.shown
		if shown == "" {
			shown = w.text
		}
		text = text[:at] + shown
	}
	return strings.ReplaceAll(text, decoration, "")
}
