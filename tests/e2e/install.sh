#!/usr/bin/env bash
# The product in the cluster of the test bed, as README says to install it. Each check starts from what the one before left.
#
#   scripts/testbed.sh up && tests/e2e/install.sh
#
# Needs the image (scripts/image.sh).
set -euo pipefail
# Steps are chained with && up to a last || on purpose.
# shellcheck disable=SC2015

# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
worker=${WORKER:-lenovomini}

the_kustomization_runs_an_agent_on_every_node() {
  local pods
  install_product || return 1
  pods=$(kubectl -n "$namespace" get pods -l app.kubernetes.io/component=agent -o json |
    jq -r '.items[] | select(.status.phase == "Running") | [.spec.nodeName, .status.containerStatuses[0].restartCount] | join(" ")' | sort)
  expect "nodes with an agent, and its restarts" "$(kubectl get nodes -o name | sed 's#node/\(.*\)#\1 0#' | sort)" "$pods" &&
    note "$pods"
}

without_a_configmap_nothing_is_touched() {
  sleep 5
  expect "k3s's files on the nodes" "$files" "$(files_of_k3s)" && expect "units that were restarted" 0 "$(down_at_once "$from")"
}
files_of_k3s() {
  local node
  for node in $nodes; do on "$node" find /etc/rancher /etc/systemd/system -printf "$node %p %i %C@\n" | sort || return; done
}

while_the_coordinator_is_down_it_asks_and_waits() {
  kubectl -n "$namespace" scale deployment coordinator --replicas=0 >/dev/null &&
    within 60 no_coordinator && kubectl apply -f "$here/examples/ghcr-migration" >/dev/null && within 60 wants "$worker" || return 1
  local said events
  # It is not said before an answer is due.
  within 90 is_unanswered "$worker" || return 1
  said=$(kubectl get node "$worker" -o 'jsonpath={.metadata.annotations}')
  events=$(kubectl get events.events.k8s.io --field-selector reason=Pending -o 'jsonpath={.items[*].regarding.name}')
  kubectl delete -f "$here/examples/ghcr-migration" >/dev/null
  expect phase Pending "$(annotation "$worker" phase)" &&
    has "$events" "$worker" && ! grep -q PLACEHOLDER-TOKEN <<<"$said"
}
no_coordinator() { [ -z "$(kubectl -n "$namespace" get pods -l app.kubernetes.io/component=coordinator -o name)" ]; }
is_unanswered() { [[ $(annotation "$1" reason) == *"no coordinator has answered"* ]]; }
wants() { [ -n "$(annotation "$1" wanted)" ]; }

removed_it_leaves_nothing_running() {
  remove_product && expect pods "" "$(kubectl get pods -A -l app.kubernetes.io/name=k3s-registry-agent -o name)" &&
    expect namespace "" "$(kubectl get namespace "$namespace" --ignore-not-found -o name)"
}

# The next script begins with nodes that do not know us.
leave() {
  local node
  remove_product
  for node in $nodes; do forget "$node"; done
}

need_image
at_end leave
# Not "began", which is a check's own.
from=$(now_ms)
files=$(files_of_k3s)
check the_kustomization_runs_an_agent_on_every_node
check without_a_configmap_nothing_is_touched
check while_the_coordinator_is_down_it_asks_and_waits
check removed_it_leaves_nothing_running
summary
