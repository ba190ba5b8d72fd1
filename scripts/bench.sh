#!/usr/bin/env bash
# Measures what the design bounds, and prints each number beside its bound: size of the static binary, memory of the idle
# agent, time from settled inputs to the replaced file; of the coordinator with 5,000 nodes the time of a decision, memory,
# and what a rollout asks of the API server. Never a verdict: it fails only if it could not measure.
#
#   scripts/bench.sh                      the static binary, 20 runs
#   scripts/bench.sh --quick              the static binary if it is there, else the debug build; 5 runs, no release build
#   scripts/bench.sh --bed [--idle SECONDS]
#                                         the product on the test bed (scripts/testbed.sh up, scripts/image.sh): a rollout
#                                         beside bare restarts, its requests by the API servers' audit logs, and, idle for
#                                         so long, what it asks then; installs the product there, and removes it
#
# BINARY names another binary than the one that is built; IMAGE and BED other ones than scripts/image.sh and
# scripts/testbed.sh made. With KUBECONFIG (and NODE_NAME) set, memory is also measured with watches on that cluster.
# TESTBED_PATIENCE multiplies the limits of waiting.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONDONTWRITEBYTECODE=1

usage() {
  echo "usage: scripts/bench.sh [--quick | --bed [--idle SECONDS]]" >&2
  exit 2
}
runs=20 quick=false bed=false idle=0
while [ $# -gt 0 ]; do
  case $1 in
    --quick) runs=5 quick=true ;;
    --bed) bed=true ;;
    --idle)
      [ $# -ge 2 ] || usage
      idle=$2
      shift
      ;;
    *) usage ;;
  esac
  shift
done

target=${CARGO_TARGET_DIR:-$PWD/target}
if $bed; then
  image=${IMAGE:-$(find dist -name 'k3s-registry-agent-*.tar' 2>/dev/null | head -n 1)}
  [ -s "$image" ] || { echo "no image: run scripts/image.sh, or set IMAGE" >&2 && exit 1; }
  exec python3 scripts/bench.py bed --driver "${BED:-scripts/testbed.sh}" --image "$image" --idle "$idle" \
    --patience "${TESTBED_PATIENCE:-1}"
fi

static=${BINARY:-}
if [ -z "$static" ]; then
  if $quick; then
    static=$(find "$target" -path '*-unknown-linux-gnu/release/k3s-registry-agent' -type f 2>/dev/null | head -n 1)
  else
    static=$(scripts/build-static.sh)
  fi
fi
if [ -n "$static" ]; then
  program=$static build="static, release"
else
  cargo build --quiet --locked --bin k3s-registry-agent
  program="$target/debug/k3s-registry-agent" build="debug"
fi
profile=--release
if $quick; then profile=--profile=dev; fi

exec python3 scripts/bench.py local --program "$program" --build "$build" --runs "$runs" --profile="$profile"
