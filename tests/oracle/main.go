// Command oracle says what k3s makes of a registries.yaml: it is read by the published parser that k3s links.
//
// Standard input holds files, each behind its length (4 bytes, big endian). For each of them one line of JSON is
// printed: the model that was read, or null for a file that was rejected.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/rancher/wharfie/pkg/registries"
	"github.com/sirupsen/logrus"
)

func main() {
	logrus.SetOutput(io.Discard)
	dir, err := os.MkdirTemp("", "oracle")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := answer(filepath.Join(dir, "registries.yaml")); err != nil {
		log.Print(err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

func answer(path string) error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for {
		var length uint32
		if err := binary.Read(in, binary.BigEndian, &length); err != nil {
			if errors.Is(err, io.EOF) {
				return out.Flush()
			}
			return err
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if err := encoder.Encode(read(path)); err != nil {
			return err
		}
	}
}

// read returns nil for a file over which k3s ends with an error, or panics.
func read(path string) (model *registries.Registry) {
	defer func() {
		if recover() != nil {
			model = nil
		}
	}()
	found, err := registries.GetPrivateRegistries(path)
	if err != nil {
		return nil
	}
	return found.Registry
}
