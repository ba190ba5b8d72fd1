#!/usr/bin/env bash
# Builds the static binary for the machine it runs on and prints its path. The image, by scripts/image.sh or by the
# Dockerfile, is this file and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
case "$host" in
  *-unknown-linux-gnu) ;;
  *)
    echo "build-static.sh: built for the gnu target of the machine it runs on, and this is $host" >&2
    exit 1
    ;;
esac

# --target is given although it is the host's: cargo then applies the flags to the program alone. With the flags on
# build scripts and proc macros too, the latter cannot be loaded.
# The paths are mapped so that the bytes do not depend on where the sources and cargo's cache lie.
variable="CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS"
flags="-C target-feature=+crt-static"
# A position-independent program of this size carries half a megabyte of relocations; packed they are a few kilobytes. A
# linker that does not know the option leaves them as they are.
flags+=" -C link-arg=-Wl,-z,pack-relative-relocs"
# A panic ends the process at once (panic = "abort"), so that nothing is ever unwound: the tables for it, a megabyte with the
# standard library's, are left out. A backtrace needs them; it is switched off in the image.
flags+=" -C link-arg=-Wl,-T,$PWD/scripts/no-unwind.ld"
flags+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/src"
env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "$variable=$flags" \
  cargo build --release --locked --target "$host" --bin k3s-registry-agent >&2

echo "$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$host/release/k3s-registry-agent"
