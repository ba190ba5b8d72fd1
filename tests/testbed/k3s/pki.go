package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The authorities of a cluster, as they are called under DATA/server/tls.
var authorities = []string{"server-ca", "client-ca", "request-header-ca", "etcd-ca"}

// pki is the cluster's authorities and the key of its service accounts. Every
// node of the bed holds it and signs its own certificates.
type pki struct {
	files map[string][]byte // "server-ca.crt", "server-ca.key", …, "service.key"
	dir   string            // where this node's own certificates go
}

func newPKI() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range authorities {
		key, pemKey, err := newKey()
		if err != nil {
			return nil, err
		}
		t := template(pkix.Name{CommonName: "k3s-" + name})
		t.IsCA, t.BasicConstraintsValid = true, true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
		if err != nil {
			return nil, err
		}
		files[name+".crt"], files[name+".key"] = pemOf("CERTIFICATE", der), pemKey
	}
	_, pemKey, err := newKey()
	files["service.key"] = pemKey
	return files, err
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return key, pemOf("EC PRIVATE KEY", der), err
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func template(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
	}
}

// load reads the files under dir, or says that they are not there.
func load(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	names := []string{"service.key"}
	for _, ca := range authorities {
		names = append(names, ca+".crt", ca+".key")
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// save writes service.key last, so that an interrupted save is not loaded.
func save(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if name != "service.key" {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "service.key"), files["service.key"], 0o600)
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// issue signs a certificate for NAME.crt and NAME.key with the authority.
// Nothing signed earlier is reused: a start costs a few milliseconds more and
// no certificate is ever about to expire.
func (p *pki) issue(ca, name string, subject pkix.Name, hosts ...string) error {
	pair, err := tls.X509KeyPair(p.files[ca+".crt"], p.files[ca+".key"])
	if err != nil {
		return fmt.Errorf("%s: %w", ca, err)
	}
	parent, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return err
	}
	key, pemKey, err := newKey()
	if err != nil {
		return err
	}
	t := template(subject)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), pair.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.path(name+".key"), pemKey, 0o600); err != nil {
		return err
	}
	return os.WriteFile(p.path(name+".crt"), pemOf("CERTIFICATE", der), 0o600)
}

// tlsConfig speaks as NAME and trusts the authority.
func (p *pki) tlsConfig(ca, name string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(p.path(name+".crt"), p.path(name+".key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: p.pool(ca)}, nil
}

func (p *pki) pool(ca string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.files[ca+".crt"])
	return pool
}

const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: "%s", certificate-authority: "%s"}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
users: [{name: default, user: {client-certificate: "%s", client-key: "%s"}}]
`

// kubeconfig issues a client certificate and writes the file that uses it.
func (p *pki) kubeconfig(path, server, name string, subject pkix.Name) error {
	if err := p.issue("client-ca", name, subject); err != nil {
		return err
	}
	text := fmt.Sprintf(kubeconfigText, server, p.path("server-ca.crt"), p.path(name+".crt"), p.path(name+".key"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}
