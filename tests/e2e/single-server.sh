#!/usr/bin/env bash
# A cluster of one server, which is what most people have: while it restarts there is no API at all. Starts a bed of its own
# in place of the one that is up, and ends it. Each check starts from a node that is Current, and leaves it so. With names
# as arguments only those run.
#
#   tests/e2e/single-server.sh
#
# Needs the image (scripts/image.sh).
# Steps are chained with && up to a last || on purpose; scripts are quoted for the node's shell.
# shellcheck disable=SC2015,SC2016
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
node=dellmini1
nodes=$node
# shellcheck source=tests/e2e/lib-cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib-cluster.sh"

one_configmap_is_one_restart() {
  local since before
  since=$(now_ms) before=$(common_revision)
  desired one.testbed && finished "$before" 200 && restarted_once_each "$since" && host_file_has $node one.testbed &&
    # The kubelet, which has just been started, gives no log before it has found its pods.
    within 60 coordinator_said "it is the only server: the API stops while it restarts"
}
coordinator_said() { [[ $(kubectl -n "$namespace" logs deployment/coordinator) == *"$1"* ]]; }

a_refused_revision_gives_the_api_back() {
  local before took
  before=$(common_revision)
  refuse $node refused.testbed && desired refused.testbed && within 90 host_file_has $node refused.testbed || return 1
  # From here on nobody can be asked, and nobody calls. What failed for certain is undone at once.
  within 60 file_is_back || return 1
  took=$(evidence $node api 30) && note "the API answered $took ms after the file was put back" || return 1
  within 60 phase_is $node RolledBack && within 30 halted && has "$(annotation $node reason)" "k3s cannot read the file" || {
    note "$(reasons)" && return 1
  }
  refuse_no_more $node && desired two.testbed && finished "$before" 200
}
file_is_back() { ! host_file_has $node refused.testbed; }
halted() { [ -n "$(lease_annotation halted)" ]; }

a_malformed_hand_edit_is_healed_without_a_turn() {
  local answered file
  answered=$(annotation $node answered) file=$(on $node sha256sum $registries)
  on $node pkill -STOP -f '/k3s-registry-agent agent' &&
    on $node sh -c "printf 'mirrors:\n\t- broken\n' >$registries && systemctl restart --no-block k3s" &&
    within 20 inactive $node
  on $node pkill -CONT -f '/k3s-registry-agent agent' || return 1
  within 60 active $node && evidence $node api 60 >/dev/null && within 60 phase_is $node Current &&
    expect file "$file" "$(on $node sha256sum $registries)" && expect "answers to a grant" "$answered" "$(annotation $node answered)"
}

no_password_left_the_nodes_files() {
  ! kubectl get nodes,events.events.k8s.io,leases.coordination.k8s.io -A -o yaml | grep -q "$canary" || { note "in the API" && return 1; }
  no_canary $node
}

need_image
at_end '"$bed" down'
"$bed" down && "$bed" up $node && install_ours || { echo "the product could not be installed" >&2 && exit 1; }
check one_configmap_is_one_restart
check a_refused_revision_gives_the_api_back
check a_malformed_hand_edit_is_healed_without_a_turn
check no_password_left_the_nodes_files
summary
