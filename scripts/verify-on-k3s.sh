#!/usr/bin/env bash
# The end-to-end checks of one node, tests/e2e/one-node.sh, on a node of a real k3s cluster that is yours. Opt-in: neither
# scripts/test.sh nor CI runs it.
#
#   scripts/verify-on-k3s.sh --kubeconfig FILE --node NODE --run 'ssh root@HOST' --confirm NODE
#
# WHAT IT DOES TO THE NODE: it writes registries.yaml, restarts k3s about ten times, several times keeps it from starting
# for up to a minute, and makes it fail on a broken file once. Pods stay; kubelet, and on a server the API and its etcd
# member, are away meanwhile. Take a node, and a cluster, that may be without that. On a server the checks are harder on
# the cluster than on an agent.
#
# --run is a command that runs one more argument, a line of shell, as root on the node, with stdin: 'ssh root@HOST' does. A
# pod would not do: it cannot be started, nor spoken to through the API, while its node's k3s is down.
#
# It refuses to begin where there is a registries.yaml or something of the product's, where a node of the cluster is not
# Ready, and without --confirm and the node's name once more. At the end, also after Ctrl-C, it removes all that it brought
# and restarts k3s once more.
# Scripts are quoted for the node's shell.
# shellcheck disable=SC2016
set -euo pipefail
cd "$(dirname "$0")/.."
self=$PWD/scripts/verify-on-k3s.sh
usage() { sed -n '2,17s/^# \{0,1\}//p' "$self" >&2; }
die() {
  printf 'verify-on-k3s.sh: %s\n' "$*" >&2
  exit 1
}

# --- as the driver of the checks: the commands of scripts/testbed.sh that they use ---

on_node() { # COMMAND...
  local line="" word
  for word in "$@"; do line+="'${word//\'/\'\\\'\'}' "; done
  # shellcheck disable=SC2086 # a command and its arguments
  $VERIFY_RUN "$line"
}
kubectl() { command kubectl --kubeconfig "$VERIFY_KUBECONFIG" --request-timeout=10s "$@"; }
shows() { # CHECK
  case $1 in
    active) [ "$(on_node systemctl is-active "$VERIFY_UNIT")" = active ] ;;
    cri) on_node timeout 5 k3s crictl --timeout 3s version >/dev/null ;;
    ready) [ "$(kubectl get node "$VERIFY_NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ] ;;
    api) on_node timeout 5 k3s kubectl get --raw /readyz >/dev/null ;;
    *) die "no check $1 on a real k3s" ;;
  esac
}
wait_for() { # CHECK SECONDS
  local began end
  began=$(date +%s%3N)
  end=$((began + $2 * ${TESTBED_PATIENCE:-1} * 1000))
  until shows "$1" 2>/dev/null; do
    [ "$(date +%s%3N)" -lt "$end" ] || die "$VERIFY_NODE: not $1 in its time"
    sleep 1
  done
  echo $(($(date +%s%3N) - began))
}
if [ -n "${VERIFY_RUN:-}" ]; then
  command=${1:?a command}
  shift
  case $command in
    exec) shift && on_node "$@" ;;
    kubectl) kubectl "$@" ;;
    unit) echo "$VERIFY_UNIT" ;;
    wait) wait_for "$2" "$3" ;;
    # A real k3s has no switch to refuse a file that is fine, so none is on.
    switch) [ "$2" = off ] || die "no switch $2 on a real k3s" ;;
    *) die "$command is for the test bed only" ;;
  esac
  exit
fi

# --- as the user's command -----------------------------------------------------------

kubeconfig="" node="" run="" confirm=""
while [ $# -gt 0 ]; do
  case $1 in
    --kubeconfig) kubeconfig=${2:-} ;;
    --node) node=${2:-} ;;
    --run) run=${2:-} ;;
    --confirm) confirm=${2:-} ;;
    *) usage && exit 2 ;;
  esac
  shift $(($# > 1 ? 2 : 1))
done
if [ -z "$kubeconfig" ] || [ -z "$node" ] || [ -z "$run" ]; then usage && exit 2; fi
if [ "$confirm" != "$node" ]; then
  usage
  die "this restarts k3s on $node about ten times; say --confirm $node if that may be"
fi
for tool in kubectl jq; do command -v $tool >/dev/null || die "needs $tool"; done
binary=${BINARY:-$(find "${CARGO_TARGET_DIR:-$PWD/target}" -path '*-unknown-linux-gnu/release/k3s-registry-agent' -type f 2>/dev/null | head -n 1 || true)}
[ -x "$binary" ] || die "no static binary: run scripts/build-static.sh"
export BINARY=$binary VERIFY_RUN=$run VERIFY_NODE=$node VERIFY_KUBECONFIG=$kubeconfig VERIFY_UNIT

on_node true || die "'$run' runs nothing"
[ "$(on_node id -u)" = 0 ] || die "'$run' is not root on the node"
if on_node systemctl is-active -q k3s; then
  VERIFY_UNIT=k3s
elif on_node systemctl is-active -q k3s-agent; then
  VERIFY_UNIT=k3s-agent
else
  die "neither k3s nor k3s-agent is active on $node"
fi
names=$(kubectl get nodes -o json | jq -r '.items[] | select(any(.status.conditions[]; .type == "Ready" and .status == "True") | not) | .metadata.name')
[ -z "$names" ] || die "not Ready: $names"
kubectl get node "$node" -o name >/dev/null || die "the cluster has no node $node"
# That --run and --node mean the same machine: kubelet's machine id is the node's.
[ "$(kubectl get node "$node" -o 'jsonpath={.status.nodeInfo.bootID}')" = "$(on_node cat /proc/sys/kernel/random/boot_id)" ] ||
  die "'$run' leads to another machine than $node"
for path in /etc/rancher/k3s/registries.yaml /etc/rancher/k3s/registry-tls /var/lib/k3s-registry-agent /opt/agent; do
  ! on_node test -e "$path" || die "$path exists on $node: move it away first, this would remove it"
done

cleared=""
clear_node() {
  [ -z "$cleared" ] || return 0
  cleared=yes
  echo "removing what was brought to $node, and restarting $VERIFY_UNIT once more"
  on_node sh -c 'systemctl stop agent-under-test "k3s-registry-agent*" 2>/dev/null; systemctl reset-failed 2>/dev/null
    rm -rf /etc/rancher/k3s/registries.yaml /etc/rancher/k3s/registry-tls /var/lib/k3s-registry-agent /opt/agent
    rm -rf "/run/systemd/system/$1.service.d/hindered.conf"
    rm -f /etc/systemd/system/k3s-registry-agent-* /etc/systemd/system/*.wants/k3s-registry-agent-*
    systemctl daemon-reload; systemctl restart --no-block "$1"' sh "$VERIFY_UNIT" || true
  sleep 3
  wait_for active 120 >/dev/null && wait_for ready 120 >/dev/null && echo "$node is Ready"
}
trap clear_node EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

checks="a_new_file_is_loaded_by_one_restart_and_proven the_same_meaning_restarts_nothing a_unit_that_cannot_start_is_undone
  the_guard_heals_a_node_whose_agent_was_killed a_hand_edit_that_took_the_node_down_is_healed
  restore_gives_back_a_file_written_by_hand"
echo "$node runs $VERIFY_UNIT: $(kubectl get node "$node" -o 'jsonpath={.status.nodeInfo.kubeletVersion}')"
# shellcheck disable=SC2086 # names
BED=$self WORKER=$node SERVER=$node tests/e2e/one-node.sh $checks
