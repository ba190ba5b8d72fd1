package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"testbed/k3s/generate"

	"github.com/rancher/wharfie/pkg/registries"
	"github.com/sirupsen/logrus"
)

const pauseImage = "rancher/mirrored-pause:3.6"

// node is one running k3s: what was asked of it, and its children.
type node struct {
	*config
	ctx      context.Context
	stop     context.CancelFunc
	notify   string
	born     time.Time // in the API's whole seconds
	failed   chan error
	children sync.WaitGroup
	pki      *pki
}

func newNode(ctx context.Context, c *config, notify string) *node {
	ctx, stop := context.WithCancel(ctx)
	return &node{config: c, ctx: ctx, stop: stop, notify: notify, born: time.Now().Truncate(time.Second), failed: make(chan error, 1)}
}

// run is the start of k3s. The server's own part comes after the file was
// read, so a file that cannot be read keeps etcd and the API down too.
func (n *node) run() {
	if err := n.start(); err != nil {
		n.die(err)
	}
}

func (n *node) start() error {
	logrus.Infof("Starting k3s %s of the test bed", n.role)
	if err := os.MkdirAll(filepath.Join(n.dataDir, "agent"), 0o700); err != nil {
		return err
	}
	prepare := n.prepareAgent
	if n.role == "server" {
		prepare = n.prepareServer
	}
	if err := prepare(); err != nil {
		return err
	}
	if delay := startDelay(); delay > 0 {
		logrus.Infof("Test bed: start delayed by %s", delay)
		n.sleep(delay)
	}
	r, err := n.readRegistries()
	if err != nil {
		return err
	}
	if err := n.startRuntime(r); err != nil {
		return fmt.Errorf("failed to start container runtime: %w", err)
	}
	if n.role == "server" {
		go n.must(n.startAgent)
		if err := n.startServer(); err != nil {
			return err
		}
	} else if err := n.startAgent(); err != nil {
		return err
	}
	return n.ready()
}

// readRegistries is k3s's loop: the words are its own, and misleading.
func (n *node) readRegistries() (*registries.Registry, error) {
	for {
		r, err := registries.GetPrivateRegistries(n.registries)
		if err == nil {
			err = refusal(n.registries)
		}
		if err == nil {
			return r.Registry, nil
		}
		logrus.Infof("Waiting to retrieve agent configuration; server is not ready: %v", err)
		if !n.sleep(5*time.Second + rand.N(5*time.Second)) {
			return nil, n.ctx.Err()
		}
	}
}

func (n *node) startRuntime(r *registries.Registry) error {
	g := generate.Node{DataDir: n.dataDir, Pause: pauseImage}
	if err := generate.Write(g, r, generate.Options{NoDefaultEndpoint: n.noDefaultEndpoint}); err != nil {
		return err
	}
	crictlConfig := fmt.Sprintf("runtime-endpoint: unix://%s\n", criSocket)
	if err := os.WriteFile(filepath.Join(n.dataDir, "agent", "etc", "crictl.yaml"), []byte(crictlConfig), 0o600); err != nil {
		return err
	}
	logDir := filepath.Join(n.dataDir, "agent", "containerd")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(logDir, "containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	logrus.Infof("Logging containerd to %s", log.Name())
	n.spawn(child{
		name: "containerd",
		path: filepath.Join(n.dataDir, "data", "current", "bin", "containerd"),
		args: []string{"-c", g.ConfigPath()},
		log:  log,
	})
	return nil
}

type child struct {
	name  string
	path  string // this program, unless said
	args  []string
	log   *os.File // the journal, unless said
	again bool     // it may end and be started anew; of the others, the end is ours
}

// spawn runs a child until the node stops. A child never outlives us: the
// kernel kills it with the thread that started it, so that thread is kept.
func (n *node) spawn(c child) {
	if c.path == "" {
		c.path = "/proc/self/exe"
	}
	if c.log == nil {
		c.log = os.Stderr
	}
	n.children.Add(1)
	go func() {
		defer n.children.Done()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			logrus.Infof("Running %s %s", c.name, strings.Join(c.args, " "))
			cmd := exec.CommandContext(n.ctx, c.path, c.args...)
			cmd.Args[0] = c.name
			cmd.Env = childEnv(filepath.Join(n.dataDir, "data", "current", "bin"))
			cmd.Stdout, cmd.Stderr = c.log, c.log
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.WaitDelay = 2 * time.Second
			err := cmd.Run()
			if n.ctx.Err() != nil {
				return
			}
			err = fmt.Errorf("%s exited: %v", c.name, err)
			if !c.again {
				n.die(err)
				return
			}
			logrus.Error(err)
			n.sleep(time.Second)
		}
	}()
}

// childEnv is ours, with containerd's own variables under their own names.
func childEnv(bin string) []string {
	env := []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, pair := range os.Environ() {
		if strings.HasPrefix(pair, "PATH=") {
			continue
		}
		env = append(env, strings.TrimPrefix(pair, "CONTAINERD_"))
	}
	return env
}

func (n *node) must(f func() error) {
	if err := f(); err != nil && n.ctx.Err() == nil {
		n.die(err)
	}
}

func (n *node) die(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// wait ends with the signal to stop, or the first failure, and leaves no child.
func (n *node) wait() error {
	var err error
	select {
	case <-n.ctx.Done():
	case err = <-n.failed:
	}
	n.stop()
	n.children.Wait()
	return err
}

func (n *node) sleep(d time.Duration) bool {
	select {
	case <-n.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// until asks again and again; the wait is k3s's own 15 minutes, after which
// the process exits and systemd starts it anew.
func (n *node) until(what string, every time.Duration, done func(context.Context) error) error {
	deadline := time.Now().Add(15 * time.Minute)
	said := false
	for {
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		err := done(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if !said {
			logrus.Infof("Waiting for %s: %v", what, err)
			said = true
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !n.sleep(every) {
			return n.ctx.Err()
		}
	}
}

func (n *node) ready() error {
	logrus.Infof("k3s %s is up and running", n.role)
	if n.notify == "" {
		return nil
	}
	c, err := net.Dial("unixgram", n.notify)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("READY=1\n"))
	return err
}

// get asks one HTTP address and wants 200.
func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, res.Status)
	}
	return string(body), err
}
