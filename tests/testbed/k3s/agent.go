package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	remote "k8s.io/cri-client/pkg"
)

// prepareAgent reaches a server before anything else, registries.yaml
// included: k3s asks there for its configuration.
func (n *node) prepareAgent() error {
	b, err := n.startBalancer()
	if err != nil {
		return err
	}
	files, err := n.authoritiesOf("https://" + localAPI)
	if err != nil {
		return err
	}
	n.pki = &pki{files: files, dir: filepath.Join(n.dataDir, "agent")}
	go n.followServers(b)
	return nil
}

// followServers keeps the balancer's list equal to the API servers there are.
func (n *node) followServers(b *balancer) {
	var kube kubernetes.Interface
	for n.sleep(5 * time.Second) {
		if kube == nil {
			if config, err := clientcmd.BuildConfigFromFlags("", n.agentFile("kubeproxy.kubeconfig")); err == nil {
				config.Timeout = 5 * time.Second
				kube = kubernetes.NewForConfigOrDie(config)
			}
			continue
		}
		slices, err := kube.DiscoveryV1().EndpointSlices("default").List(n.ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
		if err != nil {
			continue
		}
		var servers []string
		for _, slice := range slices.Items {
			for _, e := range slice.Endpoints {
				for _, address := range e.Addresses {
					servers = append(servers, net.JoinHostPort(address, "6443"))
				}
			}
		}
		b.set(servers)
	}
}

func (n *node) agentFile(name string) string { return filepath.Join(n.dataDir, "agent", name) }

// The disk is the machine's: its fullness must not evict the bed's pods or
// collect the images that were loaded.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: "%[1]s/client-ca.crt"}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://%[2]s
evictionHard: {imagefs.available: 100Mi, nodefs.available: 100Mi}
failCgroupV1: false
imageGCHighThresholdPercent: 100
oomScoreAdj: 0
serializeImagePulls: false
shutdownGracePeriod: 0s
tlsCertFile: "%[1]s/serving-kubelet.crt"
tlsPrivateKeyFile: "%[1]s/serving-kubelet.key"
`

// startAgent is the part that every node has. On an agent its end is the
// moment at which k3s says that it is ready.
func (n *node) startAgent() error {
	p := &pki{files: n.pki.files, dir: n.agentFile("")}
	for _, name := range []string{"server-ca.crt", "client-ca.crt"} {
		if err := os.WriteFile(p.path(name), p.files[name], 0o600); err != nil {
			return err
		}
	}
	if err := p.issue("server-ca", "serving-kubelet", pkix.Name{CommonName: n.name}, n.name, n.nodeIP, "127.0.0.1"); err != nil {
		return err
	}
	api := "https://" + localAPI
	user := pkix.Name{CommonName: "system:node:" + n.name, Organization: []string{"system:nodes"}}
	if err := p.kubeconfig(p.path("kubelet.kubeconfig"), api, "client-kubelet", user); err != nil {
		return err
	}
	if err := p.kubeconfig(p.path("kubeproxy.kubeconfig"), api, "client-kube-proxy", pkix.Name{CommonName: "system:kube-proxy"}); err != nil {
		return err
	}
	text := fmt.Sprintf(kubeletConfig, n.agentFile(""), criSocket)
	path := n.agentFile("etc/kubelet.conf.d/00-k3s-defaults.conf")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if err := n.until("containerd", 100*time.Millisecond, criAnswers); err != nil {
		return err
	}
	own := &node{config: n.config, ctx: n.ctx, pki: p}
	if err := own.apiReady("client-kubelet"); err != nil {
		return err
	}
	n.spawn(child{name: "kubelet", args: []string{
		"--config=" + path,
		"--containerd=" + criSocket,
		"--kubeconfig=" + p.path("kubelet.kubeconfig"),
		"--hostname-override=" + n.name,
		"--node-ip=" + n.nodeIP,
		"--node-labels=node.kubernetes.io/instance-type=k3s",
	}})
	n.spawn(child{name: "kube-proxy", again: true, args: []string{
		"--kubeconfig=" + p.path("kubeproxy.kubeconfig"),
		"--hostname-override=" + n.name,
		"--cluster-cidr=" + podCIDR,
		"--proxy-mode=iptables",
		"--healthz-bind-address=127.0.0.1",
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-close-wait=0s",
		"--conntrack-tcp-timeout-established=0s",
		"--oom-score-adj=0",
	}})
	config, err := clientcmd.BuildConfigFromFlags("", p.path("kubelet.kubeconfig"))
	if err != nil {
		return err
	}
	config.Timeout = 10 * time.Second
	kube := kubernetes.NewForConfigOrDie(config)
	if err := n.patchNode(kube, map[string]any{"metadata": map[string]any{"annotations": n.annotations()}}); err != nil {
		return err
	}
	go n.keepRoutes()
	if err := n.until("a CIDR for pods", 200*time.Millisecond, func(ctx context.Context) error { return n.writeCNI(ctx, kube) }); err != nil {
		return err
	}
	return n.until("a Ready heartbeat", 200*time.Millisecond, func(ctx context.Context) error { return n.heartbeat(ctx, kube) })
}

func criAnswers(ctx context.Context) error {
	s, err := remote.NewRemoteRuntimeService(ctx, "unix://"+criSocket, 2*time.Second, nil, false)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	_, err = s.Status(ctx, false)
	return err
}

// heartbeat is k3s's rule of readiness: a Ready condition of after the start.
func (n *node) heartbeat(ctx context.Context, kube kubernetes.Interface) error {
	node, err := kube.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(n.born) {
			return nil
		}
	}
	return errors.New("not yet")
}

const cniConfig = `{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "subnet": "%s"}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

func (n *node) writeCNI(ctx context.Context, kube kubernetes.Interface) error {
	node, err := kube.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if node.Spec.PodCIDR == "" {
		return errors.New("not given yet")
	}
	path := n.agentFile("etc/cni/net.d/10-flannel.conflist")
	text := fmt.Sprintf(cniConfig, node.Spec.PodCIDR)
	if have, err := os.ReadFile(path); err == nil && string(have) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// keepRoutes leads to the pods of the other nodes, as a host gateway does.
func (n *node) keepRoutes() {
	config, err := clientcmd.BuildConfigFromFlags("", n.agentFile("kubeproxy.kubeconfig"))
	if err != nil {
		n.die(err)
		return
	}
	config.Timeout = 5 * time.Second
	kube := kubernetes.NewForConfigOrDie(config)
	have := map[string]string{}
	for n.sleep(5 * time.Second) {
		nodes, err := kube.CoreV1().Nodes().List(n.ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for _, node := range nodes.Items {
			for _, address := range node.Status.Addresses {
				cidr := node.Spec.PodCIDR
				if address.Type != corev1.NodeInternalIP || cidr == "" || node.Name == n.name || have[cidr] == address.Address {
					continue
				}
				out, err := exec.CommandContext(n.ctx, "ip", "route", "replace", cidr, "via", address.Address).CombinedOutput()
				if err != nil {
					logrus.Warnf("Failed to set a route: %s", strings.TrimSpace(string(out)))
					continue
				}
				have[cidr] = address.Address
			}
		}
	}
}
