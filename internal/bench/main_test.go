package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// reached is where the server of all tests listens.
var reached endpoints

// TestMain lets copies of the test's program play the roles that copies of
// the program play, and serves all tests from one server.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	s, hello, err := startServer()
	if err != nil {
		return 1, err
	}
	defer s.close()
	directory, err := os.MkdirTemp("", "fetch-bench-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(directory)
	// crypto/x509 reads this once, when it first verifies something.
	certificate := filepath.Join(directory, "certificate.pem")
	if err := os.WriteFile(certificate, hello.Certificate, 0o600); err != nil {
		return 1, err
	}
	os.Setenv("SSL_CERT_FILE", certificate)
	reached = hello.Reached
	return m.Run(), nil
}
