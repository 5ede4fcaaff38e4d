package faults_test

import (
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The own client on TLS and HTTP/2: only a process that was started for it trusts
// the certificates of the servers.
func TestTheOwnClientOnTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("runs all tests of faults once more")
	}
	fetchtest.RunChild(t, "^TestFaultsOf", nil, fetchtest.OwnTLSVariable+"="+t.TempDir())
}
