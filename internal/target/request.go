package target

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// RequestHost returns the host key of a request, or why the request cannot be sent.
func RequestHost(req *http.Request) (key string, err error) {
	u, err := RequestURL(req)
	if err != nil {
		return "", err
	}
	return HostOf(u), nil
}

// RequestText returns the URL of a request, which may be nil, as text.
func RequestText(req *http.Request) string {
	if req == nil || req.URL == nil {
		return ""
	}
	return req.URL.String()
}

// RequestURL returns the URL of a request as it is sent, or why the request cannot be sent.
// net/http finds most of it too, but only when a slot has been taken.
func RequestURL(req *http.Request) (*url.URL, error) {
	switch {
	case req == nil:
		return nil, invalid("nil request")
	case req.RequestURI != "":
		return nil, invalid("RequestURI is set, which is for servers")
	case !IsToken(Method(req.Method)):
		return nil, invalid("method is not a token")
	}
	if _, err := CleanHost(req.Host); err != nil {
		return nil, err
	}
	for key, values := range req.Header {
		if !IsToken(key) {
			return nil, invalid(fmt.Sprintf("header field name %q", key))
		}
		for _, value := range values {
			if !IsFieldValue(value) {
				return nil, invalid(fmt.Sprintf("the value of header %q has a control character", key))
			}
		}
	}
	return Clean(req.URL, req.Method)
}

// IsToken reports whether s is a token of RFC 9110, section 5.6.2.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// IsFieldValue reports whether s has no control character (RFC 9110, section 5.5).
func IsFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Method returns the method of a request, which is GET if it has none.
func Method(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}

// HasBody reports whether a request has a body to send.
func HasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody
}

// StatusOK reports whether a status is one of success (RFC 9110, section 15.3).
func StatusOK(code int) bool { return 200 <= code && code <= 299 }
