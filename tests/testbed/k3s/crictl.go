package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v2"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
)

const currentBin = "/var/lib/rancher/k3s/data/current/bin"

// ctr is containerd's own, with k3s's address and namespace.
func ctr(args []string) error {
	env := append(os.Environ(), "CONTAINERD_ADDRESS="+criSocket, "CONTAINERD_NAMESPACE=k8s.io")
	path := filepath.Join(currentBin, "ctr")
	return syscall.Exec(path, append([]string{path}, args...), env)
}

// crictl is the small part of the real one that is used here: version, info,
// images, pull, rmi, inspecti and ps.
func crictl(args []string) error {
	f := flag.NewFlagSet("crictl", flag.ContinueOnError)
	config := f.String("config", envOr("CRI_CONFIG_FILE", "/var/lib/rancher/k3s/agent/etc/crictl.yaml"), "")
	endpoint := f.String("runtime-endpoint", os.Getenv("CONTAINER_RUNTIME_ENDPOINT"), "")
	f.StringVar(endpoint, "r", *endpoint, "")
	imageEndpoint := f.String("image-endpoint", os.Getenv("IMAGE_SERVICE_ENDPOINT"), "")
	f.StringVar(imageEndpoint, "i", *imageEndpoint, "")
	timeout := f.Duration("timeout", 0, "")
	f.DurationVar(timeout, "t", 0, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *endpoint == "" {
		var file struct {
			Endpoint string `yaml:"runtime-endpoint"`
		}
		if text, err := os.ReadFile(*config); err == nil {
			if err := yaml.Unmarshal(text, &file); err != nil {
				return err
			}
		}
		*endpoint = file.Endpoint
	}
	if *endpoint == "" {
		*endpoint = "unix://" + criSocket
	}
	if !strings.Contains(*endpoint, "://") {
		*endpoint = "unix://" + *endpoint
	}
	if *imageEndpoint == "" {
		*imageEndpoint = *endpoint
	}
	if *timeout == 0 {
		*timeout = 2 * time.Minute
	}
	if f.NArg() == 0 {
		return fmt.Errorf("crictl: no command")
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := crictlRun(ctx, *endpoint, *imageEndpoint, *timeout, f.Arg(0), f.Args()[1:]); err != nil {
		return fmt.Errorf("FATA[0000] %w", err)
	}
	return nil
}

func envOr(name, other string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return other
}

func crictlRun(ctx context.Context, endpoint, imageEndpoint string, timeout time.Duration, command string, args []string) error {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	quiet := f.Bool("q", false, "")
	f.BoolVar(quiet, "quiet", false, "")
	output := f.String("o", "", "")
	f.StringVar(output, "output", "", "")
	all := f.Bool("a", false, "")
	creds := f.String("creds", os.Getenv("CRICTL_CREDS"), "")
	if err := f.Parse(args); err != nil {
		return err
	}
	runtime, err := remote.NewRemoteRuntimeService(ctx, endpoint, timeout, nil, false)
	if err != nil {
		return fmt.Errorf("validate service connection: %w", err)
	}
	images, err := remote.NewRemoteImageService(ctx, imageEndpoint, timeout, nil, false)
	if err != nil {
		return fmt.Errorf("validate service connection: %w", err)
	}
	one := &runtimeapi.ImageSpec{Image: f.Arg(0)}
	if (command == "pull" || command == "rmi" || command == "inspecti") && f.NArg() != 1 {
		return fmt.Errorf("%s takes one image", command)
	}
	switch command {
	case "version":
		v, err := runtime.Version(ctx, "")
		if err != nil {
			return fmt.Errorf("getting the runtime version: %w", err)
		}
		fmt.Printf("Version:  %s\nRuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n",
			v.Version, v.RuntimeName, v.RuntimeVersion, v.RuntimeApiVersion)
	case "info":
		status, err := runtime.Status(ctx, true)
		if err != nil {
			return fmt.Errorf("getting status of runtime: %w", err)
		}
		info := map[string]any{"status": status.Status}
		for key, text := range status.Info {
			var value any = text
			if json.Unmarshal([]byte(text), &value) != nil {
				value = text
			}
			info[key] = value
		}
		return printJSON(info)
	case "images":
		list, err := images.ListImages(ctx, nil)
		if err != nil {
			return fmt.Errorf("listing images: %w", err)
		}
		if *output == "json" {
			return printJSON(map[string]any{"images": list})
		}
		for _, i := range list {
			if *quiet {
				fmt.Println(i.Id)
			} else {
				fmt.Println(strings.Join(append(i.RepoTags, i.RepoDigests...), " "), i.Id, i.Size)
			}
		}
	case "pull":
		var auth *runtimeapi.AuthConfig
		if user, password, ok := strings.Cut(*creds, ":"); ok {
			auth = &runtimeapi.AuthConfig{Username: user, Password: password}
		}
		ref, err := images.PullImage(ctx, one, auth, nil)
		if err != nil {
			return fmt.Errorf("pulling image: %w", err)
		}
		fmt.Printf("Image is up to date for %s\n", ref)
	case "rmi":
		return images.RemoveImage(ctx, one)
	case "inspecti":
		status, err := images.ImageStatus(ctx, one, true)
		if err != nil {
			return fmt.Errorf("image status for %q request: %w", one.Image, err)
		}
		if status.Image == nil {
			return fmt.Errorf("no such image %q present", one.Image)
		}
		return printJSON(status)
	case "ps":
		filter := &runtimeapi.ContainerFilter{}
		if !*all {
			filter.State = &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
		}
		list, err := runtime.ListContainers(ctx, filter)
		if err != nil {
			return fmt.Errorf("listing containers: %w", err)
		}
		if *output == "json" {
			return printJSON(map[string]any{"containers": list})
		}
		for _, c := range list {
			if *quiet {
				fmt.Println(c.Id)
			} else {
				fmt.Println(c.Id, c.State, c.Metadata.Name, c.Labels["io.kubernetes.pod.namespace"]+"/"+c.Labels["io.kubernetes.pod.name"])
			}
		}
	default:
		return fmt.Errorf("the test bed's crictl has no %q", command)
	}
	return nil
}

func printJSON(value any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
