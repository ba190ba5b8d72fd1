package main

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image makes the small images that the bed needs, and pushes them:
//
//	k3s image pack REFERENCE OUT.tar PATH=FILE… [-- COMMAND…]
//	k3s image push IN.tar REFERENCE [--creds USER:PASSWORD] [--insecure]
func image(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: k3s image pack|push …")
	}
	switch args[0] {
	case "pack":
		return pack(args[1], args[2], args[3:])
	case "push":
		f := flag.NewFlagSet("push", flag.ContinueOnError)
		creds := f.String("creds", "", "")
		insecure := f.Bool("insecure", false, "")
		if err := f.Parse(args[3:]); err != nil {
			return err
		}
		return push(args[1], args[2], *creds, *insecure)
	}
	return fmt.Errorf("image: no %q", args[0])
}

func pack(reference, out string, args []string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	var command []string
	for i, arg := range args {
		if arg == "--" {
			command = args[i+1:]
			break
		}
		path, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not PATH=FILE", arg)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	})
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config = v1.Config{Entrypoint: command, Env: []string{"PATH=/bin"}}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	return tarball.WriteToFile(out, tag, img)
}

func push(in, reference, creds string, insecure bool) error {
	img, err := tarball.ImageFromPath(in, nil)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure}
	options := []remote.Option{remote.WithTransport(transport)}
	if user, password, ok := strings.Cut(creds, ":"); ok {
		options = append(options, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	}
	return remote.Write(ref, img, options...)
}
