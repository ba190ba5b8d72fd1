#!/usr/bin/env bash
# Measures what the design bounds, and prints each number beside its bound: size of the static binary, resident memory of
# the idle agent, time from settled inputs to the replaced file. Never a verdict: it fails only if it could not measure.
#
#   scripts/bench.sh             the static binary, 20 runs
#   scripts/bench.sh --quick     the static binary if it is there, else the debug build for the times; 5 runs
#
# With KUBECONFIG (and NODE_NAME) set, memory is also measured with watches on that cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=20 quick=false
case "${1:-}" in
  "") ;;
  --quick) runs=5 quick=true ;;
  *) echo "usage: scripts/bench.sh [--quick]" >&2 && exit 2 ;;
esac

target=${CARGO_TARGET_DIR:-$PWD/target}
static=$(find "$target" -path '*-unknown-linux-gnu/release/k3s-registry-agent' -type f 2>/dev/null | head -n 1)
if ! $quick; then
  static=$(scripts/build-static.sh)
fi
if [ -n "$static" ]; then
  program=$static build="static, release"
else
  cargo build --quiet --locked --bin k3s-registry-agent
  program="$target/debug/k3s-registry-agent" build="debug"
fi

exec python3 scripts/bench.py --program "$program" --build "$build" --runs "$runs"
