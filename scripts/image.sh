#!/usr/bin/env bash
# Builds the image as an archive, with no Docker engine: the static binary and nothing else. The archive is an OCI layout
# and a docker-archive at once, so each of these takes it:
#
#   k3s ctr images import FILE                      on a node, now
#   cp FILE /var/lib/rancher/k3s/agent/images/      on a node, at every start of k3s, and never garbage-collected
#   skopeo copy oci-archive:FILE docker://...       to a registry (skopeo copy docker-archive:FILE does too)
#
# The same commit, toolchain and machine type give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: scripts/image.sh [--output FILE] [--binary FILE]" >&2
  echo "  --output FILE  the archive; default dist/k3s-registry-agent-VERSION-ARCH.tar" >&2
  echo "  --binary FILE  a static binary that is already built; default: build it" >&2
}

output="" binary=""
while [ $# -gt 0 ]; do
  case "$1" in
    --output) output=${2:?--output needs a file} && shift 2 ;;
    --binary) binary=${2:?--binary needs a file} && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    *) usage && exit 2 ;;
  esac
done

case "$(uname -m)" in
  x86_64) arch=amd64 ;;
  # Nothing in here is peculiar to amd64, but no arm64 image has been built or run yet.
  aarch64) arch=arm64 && echo "image.sh: arm64 is untested" >&2 ;;
  *) echo "image.sh: no image for $(uname -m)" >&2 && exit 1 ;;
esac

version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
name="localhost/k3s-registry-agent:$version"
[ -n "$output" ] || output="dist/k3s-registry-agent-$version-$arch.tar"
[ -n "$binary" ] || binary=$(scripts/build-static.sh)

# A source archive without history can set SOURCE_DATE_EPOCH; else the time is the commit's, never the clock's.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

mkdir -p "$(dirname "$output")"
python3 scripts/oci-archive.py --binary "$binary" --name "$name" --arch "$arch" --epoch "$epoch" \
  --revision "$revision" --output "$output.new"
mv "$output.new" "$output"
echo "$output ($(stat -c %s "$output") bytes)"
