package hostbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// certFile holds the key and the certificate of all sites with TLS.
const certFile = "/etc/ssl/private/box.pem"

// makeCert makes the box's key and a certificate, signed by itself, for all names that have TLS.
func (w *world) makeCert() (pemText string, pool *x509.CertPool, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, fmt.Errorf("make key: %w", err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "box"},
		NotBefore:    born(),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"box"},
	}
	for _, a := range w.accounts {
		for _, s := range a.sites {
			if s.tls {
				cert.DNSNames = append(cert.DNSNames, s.domains()...)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return "", nil, fmt.Errorf("make certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("encode key: %w", err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return string(private) + string(public), pool, nil
}

// secure turns the text of a virtual host on port 80 into its twin with TLS.
func secure(vhost, indent string) string {
	head, rest, _ := strings.Cut(vhost, ":80>\n")
	return head + ":443>\n" + indent + "SSLEngine on\n" + indent + "SSLCertificateFile " + certFile + "\n" + rest
}
