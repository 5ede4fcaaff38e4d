package clients

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

func newTLSServer(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// trusting returns a configuration that trusts the server.
func trusting(s *httptest.Server) *tls.Config {
	c := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	c.NextProtos = nil
	return c
}
