// Command k3s is the test bed's stand-in for k3s: the same name, units, paths,
// ports and behaviour towards registries.yaml, made of the parts that k3s
// embeds. It holds all of them and tells by its name which one it is to be.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "k3s" {
		if len(os.Args) < 2 {
			fail("usage: k3s server|agent|kubectl|crictl|ctr|image …")
		}
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	switch name {
	case "server", "agent":
		runNode(name)
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		runCommand(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		runCommand(controllers.NewControllerManagerCommand())
	case "kube-scheduler":
		runCommand(scheduler.NewSchedulerCommand())
	case "kubelet":
		runCommand(kubelet.NewKubeletCommand(context.Background()))
	case "kube-proxy":
		runCommand(proxy.NewProxyCommand())
	case "kubectl":
		if os.Getenv("KUBECONFIG") == "" {
			os.Setenv("KUBECONFIG", adminKubeconfig)
		}
		runCommand(kubectl.NewDefaultKubectlCommand())
	case "crictl":
		check(crictl(os.Args[1:]))
	case "ctr":
		check(ctr(os.Args[1:]))
	case "image":
		check(image(os.Args[1:]))
	default:
		fail("k3s: no command " + name)
	}
}

func runCommand(c *cobra.Command) { os.Exit(cli.Run(c)) }

func runNode(role string) {
	logrus.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	c, err := parseConfig(role, os.Args[1:])
	check(err)
	// The children must not speak to systemd in our name.
	notify := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	n := newNode(ctx, c, notify)
	go n.run()
	err = n.wait()
	if err != nil {
		logrus.Error(err)
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}
