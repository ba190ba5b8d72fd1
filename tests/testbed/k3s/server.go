package main

import (
	"context"
	"crypto/x509/pkix"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	podCIDR     = "10.42.0.0/16"
	serviceCIDR = "10.43.0.0/16"
)

var quiet = log.New(io.Discard, "", 0)

// prepareServer is what k3s does before it reads registries.yaml: it has the
// cluster's authorities and answers on 6443.
func (n *node) prepareServer() error {
	dir := filepath.Join(n.dataDir, "server", "tls")
	files, err := load(dir)
	if err != nil {
		if n.clusterInit {
			files, err = newPKI()
		} else {
			files, err = n.authoritiesOf(n.server)
		}
		if err != nil {
			return err
		}
		if err := save(dir, files); err != nil {
			return err
		}
	}
	n.pki = &pki{files: files, dir: dir}
	for _, c := range []struct {
		ca, name string
		subject  pkix.Name
	}{
		{"server-ca", "serving-kube-apiserver", pkix.Name{CommonName: "kube-apiserver"}},
		{"request-header-ca", "client-auth-proxy", pkix.Name{CommonName: "system:auth-proxy"}},
		{"client-ca", "client-kube-apiserver", pkix.Name{CommonName: "system:apiserver", Organization: []string{"system:masters"}}},
		{"etcd-ca", "etcd", pkix.Name{CommonName: "etcd"}},
	} {
		err := n.pki.issue(c.ca, c.name, c.subject, n.name, n.nodeIP, "127.0.0.1", "127.0.0.2", "10.43.0.1", "localhost",
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
		if err != nil {
			return err
		}
	}
	if err := (&balancer{servers: []string{apiAddress}}).listen(localAPI); err != nil {
		return err
	}
	return n.serveSupervisor()
}

// authoritiesOf asks for as long as it takes; the words are k3s's.
func (n *node) authoritiesOf(server string) (map[string][]byte, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	for {
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		files, err := n.fetchAuthorities(ctx, u.Host)
		cancel()
		if err == nil {
			return files, nil
		}
		logrus.Errorf("Failed to validate connection to cluster at %s: %v", n.server, err)
		if !n.sleep(2 * time.Second) {
			return nil, n.ctx.Err()
		}
	}
}

// startServer brings up etcd, then the API server, then what needs it, and
// ends when k3s would say that it is ready: no word of containerd or kubelet.
func (n *node) startServer() error {
	p := n.pki
	if err := n.startEtcd(); err != nil {
		return err
	}
	auditPolicy := filepath.Join(n.dataDir, "server", "audit.yaml")
	auditLog := filepath.Join(n.dataDir, "server", "logs", "audit.log")
	if err := os.MkdirAll(filepath.Dir(auditLog), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(auditPolicy, []byte(audited), 0o600); err != nil {
		return err
	}
	n.spawn(child{name: "kube-apiserver", args: []string{
		"--advertise-address=" + n.nodeIP,
		"--allow-privileged=true",
		"--anonymous-auth=false",
		"--api-audiences=https://kubernetes.default.svc.cluster.local,k3s",
		"--audit-log-maxbackup=1",
		"--audit-log-maxsize=100",
		"--audit-log-path=" + auditLog,
		"--audit-policy-file=" + auditPolicy,
		"--authorization-mode=Node,RBAC",
		"--bind-address=127.0.0.2",
		"--client-ca-file=" + p.path("client-ca.crt"),
		"--enable-admission-plugins=NodeRestriction",
		"--etcd-cafile=" + p.path("etcd-ca.crt"),
		"--etcd-certfile=" + p.path("etcd.crt"),
		"--etcd-keyfile=" + p.path("etcd.key"),
		"--etcd-servers=https://127.0.0.1:2379",
		"--kubelet-certificate-authority=" + p.path("server-ca.crt"),
		"--kubelet-client-certificate=" + p.path("client-kube-apiserver.crt"),
		"--kubelet-client-key=" + p.path("client-kube-apiserver.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--profiling=false",
		"--proxy-client-cert-file=" + p.path("client-auth-proxy.crt"),
		"--proxy-client-key-file=" + p.path("client-auth-proxy.key"),
		"--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-client-ca-file=" + p.path("request-header-ca.crt"),
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=6443",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.path("service.key"),
		"--service-account-signing-key-file=" + p.path("service.key"),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + p.path("serving-kube-apiserver.crt"),
		"--tls-private-key-file=" + p.path("serving-kube-apiserver.key"),
	}})
	admin := pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters"}}
	if err := p.kubeconfig(adminKubeconfig, "https://127.0.0.1:6443", "client-admin", admin); err != nil {
		return err
	}
	if err := n.apiReady("client-admin"); err != nil {
		return err
	}
	n.spawn(child{name: "kube-controller-manager", again: true, args: append(n.controllerArgs("controller-manager"),
		"--allocate-node-cidrs=true",
		"--bind-address=127.0.0.1",
		"--cluster-cidr="+podCIDR,
		"--cluster-signing-cert-file="+p.path("client-ca.crt"),
		"--cluster-signing-key-file="+p.path("client-ca.key"),
		"--root-ca-file="+p.path("server-ca.crt"),
		"--service-account-private-key-file="+p.path("service.key"),
		"--service-cluster-ip-range="+serviceCIDR,
		"--use-service-account-credentials=true",
	)})
	n.spawn(child{name: "kube-scheduler", again: true, args: append(n.controllerArgs("scheduler"), "--bind-address=127.0.0.1")})
	go n.keepServerNode()
	return nil
}

// audited is who asked what, and no body: so that what a workload costs the API server can be counted there.
const audited = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts:k3s-registry-agent"]
  - level: None
`

func (n *node) controllerArgs(name string) []string {
	path := filepath.Join(n.dataDir, "server", "cred", name+".kubeconfig")
	if err := n.pki.kubeconfig(path, "https://"+localAPI, "client-"+name, pkix.Name{CommonName: "system:kube-" + name}); err != nil {
		n.die(err)
	}
	return []string{"--kubeconfig=" + path, "--authentication-kubeconfig=" + path, "--authorization-kubeconfig=" + path, "--profiling=false"}
}

// apiReady waits for /readyz by the node's own way to the API.
func (n *node) apiReady(certificate string) error {
	config, err := n.pki.tlsConfig("server-ca", certificate)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	return n.until("the API server", 200*time.Millisecond, func(ctx context.Context) error {
		_, err := get(ctx, client, "https://"+localAPI+"/readyz")
		return err
	})
}
