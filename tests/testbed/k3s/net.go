package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// The API server has a loopback address of its own, so that the
	// supervisor can have its port on all others.
	apiAddress    = "127.0.0.2:6443"
	localAPI      = "127.0.0.1:6444"
	authorityPath = "/v1-k3s/testbed-authorities"
)

// serveSupervisor answers on 6443 from the first moment on: /ping and the
// authorities itself, the rest by way of the API server, 503 while that is away.
func (n *node) serveSupervisor() error {
	serving, err := n.pki.tlsConfig("server-ca", "serving-kube-apiserver")
	if err != nil {
		return err
	}
	serving.ClientAuth, serving.ClientCAs = tls.VerifyClientCertIfGiven, n.pki.pool("client-ca")
	backend, err := n.pki.tlsConfig("server-ca", "client-auth-proxy")
	if err != nil {
		return err
	}
	api := &httputil.ReverseProxy{
		Rewrite:       rewriteToAPI,
		FlushInterval: -1,
		Transport:     &http.Transport{TLSClientConfig: backend, MaxIdleConnsPerHost: 64},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "apiserver not ready", http.StatusServiceUnavailable)
		},
	}
	mux := http.NewServeMux()
	mux.Handle("/", api)
	mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "pong") })
	mux.HandleFunc(authorityPath, n.serveAuthorities)
	for _, host := range []string{"127.0.0.1", n.nodeIP} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "6443"))
		if err != nil {
			return err
		}
		server := &http.Server{Handler: mux, TLSConfig: serving.Clone(), ErrorLog: quiet}
		go func() { n.die(server.ServeTLS(l, "", "")) }()
	}
	return nil
}

// rewriteToAPI says who asks in the way of an authenticating proxy. What a
// client claims in those headers is dropped.
func rewriteToAPI(r *httputil.ProxyRequest) {
	r.SetURL(&url.URL{Scheme: "https", Host: apiAddress})
	r.Out.Host = r.In.Host
	for name := range r.Out.Header {
		if strings.HasPrefix(name, "X-Remote-") {
			r.Out.Header.Del(name)
		}
	}
	if t := r.In.TLS; len(t.VerifiedChains) > 0 {
		subject := t.PeerCertificates[0].Subject
		r.Out.Header.Set("X-Remote-User", subject.CommonName)
		r.Out.Header["X-Remote-Group"] = subject.Organization
	}
}

func (n *node) serveAuthorities(w http.ResponseWriter, r *http.Request) {
	if _, token, _ := r.BasicAuth(); subtle.ConstantTimeCompare([]byte(token), []byte(n.token)) != 1 {
		http.Error(w, "wrong token", http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(n.pki.files)
}

// fetchAuthorities joins: the token is the proof for both sides.
func (n *node) fetchAuthorities(ctx context.Context, address string) (map[string][]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+authorityPath, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("node", n.token)
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	files := map[string][]byte{}
	return files, json.NewDecoder(res.Body).Decode(&files)
}

// balancer is the agent's way to whichever server is there. It speaks TCP, so
// the server's own certificate is what the client sees.
type balancer struct {
	mu      sync.Mutex
	servers []string
	file    string
}

func (b *balancer) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.forward(c)
		}
	}()
	return nil
}

func (b *balancer) forward(in net.Conn) {
	defer in.Close()
	b.mu.Lock()
	servers := slices.Clone(b.servers)
	b.mu.Unlock()
	for _, server := range servers {
		out, err := net.DialTimeout("tcp", server, 2*time.Second)
		if err != nil {
			b.last(server)
			continue
		}
		defer out.Close()
		done := make(chan struct{}, 2)
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			go func() {
				io.Copy(pair[0], pair[1])
				done <- struct{}{}
			}()
		}
		<-done
		return
	}
}

// last puts a server that did not answer behind the others.
func (b *balancer) last(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.servers, server); i >= 0 {
		b.servers = append(slices.Delete(b.servers, i, i+1), server)
	}
}

// set takes a new list, keeps the order of those that stay, and remembers it
// for a start at which the first server is away.
func (b *balancer) set(servers []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var next []string
	for _, s := range b.servers {
		if slices.Contains(servers, s) {
			next = append(next, s)
		}
	}
	for _, s := range servers {
		if !slices.Contains(next, s) {
			next = append(next, s)
		}
	}
	if len(next) == 0 || slices.Equal(next, b.servers) {
		return
	}
	b.servers = next
	logrus.Infof("Updated load balancer k3s-agent-load-balancer server addresses -> %v", next)
	if text, err := json.Marshal(map[string]any{"ServerAddresses": next}); err == nil {
		if err := os.WriteFile(b.file, text, 0o600); err != nil {
			logrus.Warnf("Failed to remember the servers: %v", err)
		}
	}
}

func (n *node) startBalancer() (*balancer, error) {
	u, err := url.Parse(n.server)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("--server %q is not an address", n.server)
	}
	b := &balancer{servers: []string{u.Host}, file: filepath.Join(n.dataDir, "agent", "etc", "k3s-agent-load-balancer.json")}
	if err := os.MkdirAll(filepath.Dir(b.file), 0o700); err != nil {
		return nil, err
	}
	var known struct{ ServerAddresses []string }
	if text, err := os.ReadFile(b.file); err == nil && json.Unmarshal(text, &known) == nil {
		b.set(append([]string{u.Host}, known.ServerAddresses...))
	}
	return b, b.listen(localAPI)
}
