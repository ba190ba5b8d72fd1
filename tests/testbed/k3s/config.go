package main

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v2"
)

const (
	configFile      = "/etc/rancher/k3s/config.yaml"
	adminKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	criSocket       = "/run/k3s/containerd/containerd.sock"
	switchDir       = "/run/k3s-testbed"
)

// config is the node as its flags and config.yaml describe it.
type config struct {
	role              string
	args              []string // with config.yaml merged in, as node-args shows them
	name              string
	nodeIP            string
	server            string
	token             string
	dataDir           string
	registries        string
	clusterInit       bool
	noDefaultEndpoint bool
}

func parseConfig(role string, args []string) (*config, error) {
	c := &config{role: role}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	f := flag.NewFlagSet(role, flag.ContinueOnError)
	f.StringVar(&c.name, "node-name", host, "")
	f.StringVar(&c.nodeIP, "node-ip", "", "")
	f.StringVar(&c.server, "server", os.Getenv("K3S_URL"), "")
	f.StringVar(&c.token, "token", os.Getenv("K3S_TOKEN"), "")
	f.StringVar(&c.dataDir, "data-dir", "/var/lib/rancher/k3s", "")
	f.StringVar(&c.registries, "private-registry", "/etc/rancher/k3s/registries.yaml", "")
	f.BoolVar(&c.noDefaultEndpoint, "disable-default-registry-endpoint", false, "")
	if role == "server" {
		f.BoolVar(&c.clusterInit, "cluster-init", false, "")
	}
	merged, err := fromFiles(configFile)
	if err != nil {
		return nil, err
	}
	c.args = append(merged, args...)
	if err := f.Parse(c.args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %s", f.Arg(0))
	case c.nodeIP == "" || c.token == "":
		return nil, errors.New("--node-ip and --token are required in the test bed")
	case role == "agent" && c.server == "":
		return nil, errors.New("--server is required")
	case role == "server" && c.clusterInit == (c.server != ""):
		return nil, errors.New("a server needs either --cluster-init or --server")
	}
	return c, nil
}

// fromFiles turns config.yaml and config.yaml.d into flags that stand before
// those of the command line, so that the latter win.
func fromFiles(main string) ([]string, error) {
	more, err := filepath.Glob(main + ".d/*.yaml")
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	for _, path := range append([]string{main}, more...) {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = yaml.Unmarshal(text, &values)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	var flags []string
	for key, value := range values {
		flags = append(flags, fmt.Sprintf("--%s=%v", key, value))
	}
	sort.Strings(flags)
	return flags, nil
}

// annotations are what k3s tells about its flags on the Node.
func (c *config) annotations() map[string]string {
	args := []string{c.role}
	secret := false
	for _, arg := range c.args {
		name, _, hasValue := strings.Cut(arg, "=")
		switch {
		case secret:
			arg, secret = "********", false
		case strings.TrimLeft(name, "-") == "token" && hasValue:
			arg = name + "=********"
		case strings.TrimLeft(name, "-") == "token":
			secret = true
		}
		// k3s shows a flag and its value as two items.
		if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(name, "--") {
			args = append(args, name, value)
			continue
		}
		args = append(args, arg)
	}
	env := map[string]string{}
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "K3S_") {
			if name == "K3S_TOKEN" {
				value = "********"
			}
			env[name] = value
		}
	}
	argsJSON, _ := json.Marshal(args)
	envJSON, _ := json.Marshal(env)
	hash := sha256.Sum256(append(argsJSON, envJSON...))
	return map[string]string{
		"k3s.io/node-args":        string(argsJSON),
		"k3s.io/node-env":         string(envJSON),
		"k3s.io/node-config-hash": base32.StdEncoding.EncodeToString(hash[:]),
	}
}

// refusal is the switch with which a test makes this k3s refuse a file that is
// fine, as a future k3s might: a file in /run, gone with a reboot, that names
// a text. Only a registries.yaml that holds that text is refused.
func refusal(registries string) error {
	text, err := os.ReadFile(filepath.Join(switchDir, "refuse-registries-with"))
	if err != nil {
		return nil
	}
	word := strings.TrimSpace(string(text))
	file, err := os.ReadFile(registries)
	if err != nil || word == "" || !strings.Contains(string(file), word) {
		return nil
	}
	return errors.New("yaml: refused by the test bed's switch")
}

// startDelay is the switch that makes a start slow, in whole seconds.
func startDelay() time.Duration {
	text, err := os.ReadFile(filepath.Join(switchDir, "start-delay-seconds"))
	if err != nil {
		return 0
	}
	seconds, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 12)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
