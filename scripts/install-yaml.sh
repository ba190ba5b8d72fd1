#!/usr/bin/env bash
# Writes manifests/install.yaml: the files that kustomization.yaml lists, one after the other, comments and all, for
# `kubectl apply -f`. `--check` writes nothing and fails when the file is out of date.
set -euo pipefail
cd "$(dirname "$0")/../manifests"

generate() {
  local file
  echo "# Made by scripts/install-yaml.sh from the files that kustomization.yaml lists. Edit those, not this."
  # The list is flat on purpose, so that no YAML reader is needed here.
  sed -n '/^resources:/,$ s/^  - //p' kustomization.yaml | while read -r file; do
    echo "---"
    cat "$file"
  done
}

case "${1:-}" in
  "")
    generate >install.yaml.new
    mv install.yaml.new install.yaml
    ;;
  --check)
    if ! generate | diff -u install.yaml - >&2; then
      echo "manifests/install.yaml is out of date: run scripts/install-yaml.sh" >&2
      exit 1
    fi
    ;;
  *)
    echo "usage: scripts/install-yaml.sh [--check]" >&2
    exit 2
    ;;
esac
