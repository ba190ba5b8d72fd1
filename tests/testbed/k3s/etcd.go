package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	localEtcd   = "https://127.0.0.1:2379"
	voter       = corev1.NodeConditionType("EtcdIsVoter")
	memberName  = "etcd.k3s.cattle.io/node-name"
	memberPlace = "etcd.k3s.cattle.io/node-address"
	etcdLabel   = "node-role.kubernetes.io/etcd"
)

func (n *node) etcdClient(endpoint string) (*clientv3.Client, error) {
	config, err := n.pki.tlsConfig("etcd-ca", "etcd")
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: config, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
}

func (n *node) peerURL() string { return "https://" + n.nodeIP + ":2380" }

// memberOf is this node's name in etcd, drawn once.
func (n *node) memberOf(dir string) (string, error) {
	path := filepath.Join(dir, "name")
	name, err := os.ReadFile(path)
	if err == nil || !os.IsNotExist(err) {
		return string(name), err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	drawn := n.name + "-" + rand.String(8)
	return drawn, os.WriteFile(path, []byte(drawn), 0o600)
}

// startEtcd starts this server's member, as a learner first when it joins, and
// waits until it answers as a voter.
func (n *node) startEtcd() error {
	db := filepath.Join(n.dataDir, "server", "db", "etcd")
	name, err := n.memberOf(db)
	if err != nil {
		return err
	}
	cluster, state := name+"="+n.peerURL(), "new"
	var others *clientv3.Client
	if n.server != "" {
		u, err := url.Parse(n.server)
		if err != nil {
			return err
		}
		if others, err = n.etcdClient("https://" + u.Hostname() + ":2379"); err != nil {
			return err
		}
		defer others.Close()
	}
	// Without a log the member has not yet taken its place.
	if _, err := os.Stat(filepath.Join(db, "member", "wal")); err == nil {
		state = "existing"
	} else if others != nil {
		state = "existing"
		err := n.until("a place in etcd", time.Second, func(ctx context.Context) (err error) {
			cluster, err = n.join(ctx, others, name)
			return err
		})
		if err != nil {
			return err
		}
	}
	p := n.pki
	n.spawn(child{name: "etcd", args: []string{
		"--name=" + name,
		"--data-dir=" + db,
		"--initial-cluster=" + cluster,
		"--initial-cluster-state=" + state,
		"--initial-advertise-peer-urls=" + n.peerURL(),
		"--listen-peer-urls=" + n.peerURL(),
		"--advertise-client-urls=https://" + n.nodeIP + ":2379",
		"--listen-client-urls=" + localEtcd + ",https://" + n.nodeIP + ":2379",
		"--listen-metrics-urls=http://127.0.0.1:2381",
		"--cert-file=" + p.path("etcd.crt"), "--key-file=" + p.path("etcd.key"),
		"--trusted-ca-file=" + p.path("etcd-ca.crt"), "--client-cert-auth",
		"--peer-cert-file=" + p.path("etcd.crt"), "--peer-key-file=" + p.path("etcd.key"),
		"--peer-trusted-ca-file=" + p.path("etcd-ca.crt"), "--peer-client-cert-auth",
		"--heartbeat-interval=500", "--election-timeout=5000", "--log-level=warn",
	}})
	return n.until("etcd", 200*time.Millisecond, func(ctx context.Context) error {
		if _, err := get(ctx, http.DefaultClient, "http://127.0.0.1:2381/health"); err != nil {
			return err
		}
		metrics, err := get(ctx, http.DefaultClient, "http://127.0.0.1:2381/metrics")
		if err != nil || !strings.Contains(metrics, "\netcd_server_is_learner 1") {
			return err
		}
		// A learner is healthy too, but serves no reads to an API server.
		return errors.Join(errors.New("still a learner"), n.promote(ctx, others))
	})
}

// join asks for a place as a learner, or takes the one that an interrupted
// start asked for, and says who is in the cluster.
func (n *node) join(ctx context.Context, others *clientv3.Client, name string) (string, error) {
	list, err := others.MemberList(ctx)
	if err != nil {
		return "", err
	}
	members := list.Members
	known := false
	for _, m := range members {
		known = known || m.PeerURLs[0] == n.peerURL()
	}
	if !known {
		added, err := others.MemberAddAsLearner(ctx, []string{n.peerURL()})
		if err != nil {
			return "", err
		}
		members = added.Members
	}
	var cluster []string
	for _, m := range members {
		if m.PeerURLs[0] == n.peerURL() {
			m.Name = name
		}
		if m.Name == "" {
			return "", fmt.Errorf("another server is joining: %s", m.PeerURLs[0])
		}
		cluster = append(cluster, m.Name+"="+m.PeerURLs[0])
	}
	return strings.Join(cluster, ","), nil
}

func (n *node) promote(ctx context.Context, others *clientv3.Client) error {
	list, err := others.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.IsLearner && m.PeerURLs[0] == n.peerURL() {
			_, err := others.MemberPromote(ctx, m.ID)
			return err
		}
	}
	return nil
}

// keepServerNode sets this server's labels once, and while this member leads,
// keeps the EtcdIsVoter condition of every etcd node.
func (n *node) keepServerNode() {
	config, err := clientcmd.BuildConfigFromFlags("", adminKubeconfig)
	if err != nil {
		n.die(err)
		return
	}
	config.Timeout = 10 * time.Second
	kube := kubernetes.NewForConfigOrDie(config)
	name, err := n.memberOf(filepath.Join(n.dataDir, "server", "db", "etcd"))
	if err != nil {
		n.die(err)
		return
	}
	patch := map[string]any{"metadata": map[string]any{
		"labels":      map[string]string{"node-role.kubernetes.io/control-plane": "true", etcdLabel: "true"},
		"annotations": map[string]string{memberName: name, memberPlace: n.nodeIP},
	}}
	if err := n.patchNode(kube, patch); err != nil {
		return
	}
	client, err := n.etcdClient(localEtcd)
	if err != nil {
		n.die(err)
		return
	}
	for {
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		if err := setVoters(ctx, client, kube, n.etcdClient); err != nil {
			logrus.Warnf("Failed to set etcd conditions: %v", err)
		}
		cancel()
		if !n.sleep(15 * time.Second) {
			return
		}
	}
}

// patchNode waits for the kubelet to have registered the node.
func (n *node) patchNode(kube kubernetes.Interface, patch map[string]any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return n.until("this node's object", 200*time.Millisecond, func(ctx context.Context) error {
		_, err := kube.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType, text, metav1.PatchOptions{})
		return err
	})
}

func setVoters(ctx context.Context, local *clientv3.Client, kube kubernetes.Interface, dial func(string) (*clientv3.Client, error)) error {
	status, err := local.Status(ctx, localEtcd)
	if err != nil || status.Leader != status.Header.MemberId {
		return err
	}
	list, err := local.MemberList(ctx)
	if err != nil {
		return err
	}
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: etcdLabel + "=true"})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		want := corev1.NodeCondition{Type: voter, Status: corev1.ConditionFalse,
			Reason: "NotAMember", Message: "Node is not a member of the etcd cluster"}
		for _, m := range list.Members {
			if m.Name != node.Annotations[memberName] {
				continue
			}
			unhealthy := memberFault(ctx, dial, m.ClientURLs)
			switch {
			case unhealthy != "":
				want.Reason, want.Message = "Unhealthy", unhealthy
			case m.IsLearner:
				want.Reason, want.Message = "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"
			default:
				want.Status = corev1.ConditionTrue
				want.Reason, want.Message = "MemberNotLearner", "Node is a voting member of the etcd cluster"
			}
		}
		now := metav1.Now()
		want.LastHeartbeatTime, want.LastTransitionTime = now, now
		for _, have := range node.Status.Conditions {
			if have.Type != voter {
				continue
			}
			if have.Status == want.Status {
				want.LastTransitionTime = have.LastTransitionTime
			}
			if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message &&
				now.Sub(have.LastHeartbeatTime.Time) < 5*time.Minute {
				want.Type = ""
			}
		}
		if want.Type == "" {
			continue
		}
		text, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{want}}})
		if err != nil {
			return err
		}
		_, err = kube.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, text, metav1.PatchOptions{}, "status")
		if err != nil {
			return err
		}
	}
	return nil
}

func memberFault(ctx context.Context, dial func(string) (*clientv3.Client, error), urls []string) string {
	if len(urls) == 0 {
		return "etcd member ClientURLs list is empty"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := dial(urls[0])
	if err != nil {
		return "failed to check etcd member status: " + err.Error()
	}
	defer client.Close()
	status, err := client.Status(ctx, urls[0])
	if err != nil {
		return "failed to check etcd member status: " + err.Error()
	}
	if len(status.Errors) > 0 {
		return "etcd member has status errors: " + strings.Join(status.Errors, ",")
	}
	return ""
}
