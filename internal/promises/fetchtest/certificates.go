package fetchtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// OwnTLSVariable is set in the environment of a child that must trust the
// certificates, to a folder for them.
const OwnTLSVariable = "FETCH_TEST_OWN_TLS"

// A CertificateSet has the certificates of the servers: each its own authority.
type CertificateSet struct {
	Pool                              *x509.CertPool // which the client trusts
	Good, Unknown, Elsewhere, Expired tls.Certificate
}

// Certificates returns those of the process.
var Certificates = sync.OnceValue(func() CertificateSet {
	// Virtual time begins in the year 2000.
	begin, end := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	c := CertificateSet{
		Pool:      x509.NewCertPool(),
		Good:      newCertificate(begin, end, "127.0.0.1", "bad.example"),
		Unknown:   newCertificate(begin, end, "127.0.0.1", "bad.example"),
		Elsewhere: newCertificate(begin, end, "elsewhere.example"),
		Expired:   newCertificate(begin, begin.AddDate(0, 1, 0), "127.0.0.1", "bad.example"),
	}
	for _, trusted := range []tls.Certificate{c.Good, c.Elsewhere, c.Expired} {
		c.Pool.AddCert(trusted.Leaf)
	}
	if dir := os.Getenv(OwnTLSVariable); dir != "" {
		c.trust(dir)
	}
	return c
})

// trust makes the process trust the certificates. It must come before the first handshake.
func (c CertificateSet) trust(dir string) {
	var file bytes.Buffer
	for _, trusted := range []tls.Certificate{c.Good, c.Elsewhere, c.Expired} {
		pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate[0]})
	}
	name := filepath.Join(dir, "trusted.pem")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", name)
}

func newCertificate(begin, end time.Time, hosts ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
