#!/usr/bin/env bash
# The first look: builds the program, lets it do one pass of examples/ghcr-migration on ./try/node (a directory that stands
# for a node's file system) and shows what it wrote. Touches nothing outside this directory, and needs no k3s.
#
#   scripts/try.sh [INPUTS]     another directory of manifests
set -euo pipefail
cd "$(dirname "$0")/.."
inputs=${1:-examples/ghcr-migration}

# Cargo needs a linker, which a fresh machine does not have.
if ! command -v cc >/dev/null; then
  scripts/install-tools.sh cc
fi

cargo build --locked --bin k3s-registry-agent
program="${CARGO_TARGET_DIR:-target}/debug/k3s-registry-agent"

echo
echo "\$ k3s-registry-agent apply --inputs $inputs --root ./try/node"
echo
status=0
"$program" apply --inputs "$inputs" --root ./try/node || status=$?
echo

case "$status" in
  0)
    echo "Exit code 0: done, or nothing to do. ./try/node holds what the inputs say."
    ;;
  3)
    echo "Exit code 3: the file is written, and k3s would have to be restarted to read it. In a directory there is no k3s,"
    echo "so nothing was restarted and nothing is claimed to be proven. On a node it would have been one restart, proven or"
    echo "undone. Run this again: there is nothing left to do."
    ;;
  2)
    echo "Exit code 2: the inputs were refused and nothing was written. The lines above say which and what to do." >&2
    exit 2
    ;;
  *)
    echo "Exit code $status: a fault. The lines above say what was being done." >&2
    exit "$status"
    ;;
esac

echo
echo "The file (it holds the credentials, so only its owner and mode are shown):"
ls -l ./try/node/etc/rancher/k3s/registries.yaml
echo "Start again with: rm -r ./try"
