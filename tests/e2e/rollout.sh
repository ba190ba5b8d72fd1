#!/usr/bin/env bash
# A whole cluster on the test bed: DaemonSet, coordinator, one ConfigMap, five nodes, one node at a time. Each check starts
# from a cluster whose nodes are all Current, and leaves it so. With names as arguments only those run.
#
#   scripts/testbed.sh up && LONG=1 tests/e2e/rollout.sh
#
# Needs the image (scripts/image.sh), and the static binary that is in it.
# Steps are chained with && up to a last || on purpose; scripts are quoted for the node's shell.
# shellcheck disable=SC2015,SC2016
set -euo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/lib-cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib-cluster.sh"
workers=(dellmini2 lenovomini)

nothing_is_touched_before_there_is_a_configmap() {
  local since node
  since=$(now_ms)
  sleep 5
  for node in "${everybody[@]}"; do
    phase_is "$node" Pending && ! on "$node" test -e $registries || { note "$node: $(annotation "$node" reason)" && return 1; }
  done
  expect starts "" "$(starts_since "$since")"
}

one_configmap_rolls_through_five_nodes_one_at_a_time() {
  local since before node
  before=$(common_revision) since=$(now_ms)
  desired one.testbed && finished "$before" 300 && one_at_a_time "$since" && restarted_once_each "$since" || return 1
  note "five nodes in $(($(now_ms) - since)) ms"
  for node in "${everybody[@]}"; do
    host_file_has "$node" one.testbed || { note "$node has another file" && return 1; }
  done
  # The canary is a worker.
  local first
  first=$(timeline "$since" | jq -rs '.[0].node')
  has "${workers[*]}" "$first"
}

a_revision_that_k3s_refuses_stops_at_the_first_node() {
  local since before node failed=0 halted
  before=$(common_revision) since=$(now_ms) halted=$(lease_annotation halted)
  for node in "${everybody[@]}"; do refuse "$node" refused.testbed; done
  desired refused.testbed
  within 120 some_phase RolledBack && within 30 halted_beside "$halted" || { note "$(reasons)" && return 1; }
  sleep 10
  one_at_a_time "$since" || return 1
  for node in "${everybody[@]}"; do
    if phase_is "$node" RolledBack; then failed=$((failed + 1)); fi
    active "$node" && ! host_file_has "$node" refused.testbed || { note "$node was touched" && return 1; }
    [ -n "$(annotation "$node" reason)" ] || { note "$node gives no reason" && return 1; }
    phase_is "$node" RolledBack || [ "$(annotation "$node" turn)" = halted ] || { note "$(reasons)" && return 1; }
  done
  expect "nodes that failed" 1 $failed && has "$(lease_annotation rollout)" halt || return 1
  for node in "${everybody[@]}"; do refuse_no_more "$node"; done
  desired two.testbed && finished "$before" 300 && one_at_a_time "$since"
}
# Another revision than those: one that was halted stays in the list while a node tells of it.
halted_beside() { [ -n "$(lease_annotation halted)" ] && [ "$(lease_annotation halted)" != "$1" ]; }

the_agent_killed_while_k3s_is_down_is_no_matter() {
  local before since node
  before=$(common_revision) since=$(now_ms)
  for node in "${everybody[@]}"; do refuse "$node" killed.testbed; done
  desired killed.testbed
  node=$(catch) || return 1
  within 30 inactive "$node" && on "$node" pkill -KILL -f '/k3s-registry-agent agent' || return 1
  # Nobody restarts it while k3s is down: the guard alone puts the file back.
  within 90 active "$node" && ! host_file_has "$node" killed.testbed || return 1
  for node in "${everybody[@]}"; do refuse_no_more "$node"; done
  desired three.testbed && finished "$before" 300 && one_at_a_time "$since"
}

a_node_that_lost_power_in_its_turn_comes_back() {
  local before since node
  before=$(common_revision) since=$(now_ms)
  for node in "${workers[@]}"; do "$bed" switch "$node" slow 15; done
  desired power.testbed && node=$(catch) || return 1
  within 30 host_file_has "$node" power.testbed && power "$node" off && sleep 5 && power "$node" on || return 1
  within 120 active "$node" || return 1
  for node in "${workers[@]}"; do refuse_no_more "$node"; done
  # Undone and inconclusive: it is asked again after five minutes; an operator need not wait.
  desired power-again.testbed && finished "$before" 420
}

coordinators_come_and_go() {
  local before since
  before=$(common_revision) since=$(now_ms)
  kubectl -n "$namespace" scale deployment coordinator --replicas=2 >/dev/null
  desired four.testbed && within 90 busy || return 1
  kubectl -n "$namespace" delete pod -l app.kubernetes.io/component=coordinator --grace-period=0 --force >/dev/null 2>&1
  finished "$before" 400 && one_at_a_time "$since" && restarted_once_each "$since"
  local result=$?
  kubectl -n "$namespace" scale deployment coordinator --replicas=1 >/dev/null
  return $result
}

a_node_that_is_cut_off_loses_nothing() { # before, during and after its turn
  local before since node halted
  before=$(common_revision) since=$(now_ms) halted=$(lease_annotation halted)
  unplug lenovomini
  desired cut-before.testbed
  within 200 host_file_has dellmini2 cut-before.testbed && within 90 phase_is dellmini2 Current && sleep 3 || return 1
  plug lenovomini
  finished "$before" 300 && one_at_a_time "$since" || return 1

  before=$(common_revision) since=$(now_ms)
  desired cut-during.testbed && node=$(catch) && within 30 host_file_has "$node" cut-during.testbed || return 1
  unplug "$node" && sleep 15 && plug "$node"
  within 120 active "$node" || return 1
  # Whatever was concluded, nobody was halted for it, and a newer edit goes through.
  expect halted "$halted" "$(lease_annotation halted)" && desired cut-then.testbed && finished "$before" 420 && one_at_a_time "$since" || return 1

  before=$(common_revision) since=$(now_ms)
  desired cut-after.testbed && node=$(catch) && within 90 has_proven_another "$node" "$before" || return 1
  unplug "$node" && sleep 10 && plug "$node"
  finished "$before" 300 && one_at_a_time "$since" && restarted_once_each "$since"
}
has_proven_another() { phase_is "$1" Current && [ "$(annotation "$1" revision)" != "$2" ]; }

an_absent_supervisor_is_no_proof_against_a_file() {
  local before node since halted
  before=$(common_revision) since=$(now_ms) halted=$(lease_annotation halted)
  for node in "${workers[@]}"; do "$bed" switch "$node" slow 10; done
  desired supervisor.testbed && node=$(catch) && within 30 host_file_has "$node" supervisor.testbed || return 1
  [[ " ${workers[*]} " == *" $node "* ]] || { note "the canary is no worker: $node" && return 1; }
  # The worker's own way to its server is cut while it starts; its containerd and systemd are not.
  unplug "$node"
  within 120 file_is_back "$node" supervisor.testbed || return 1
  plug "$node" && within 120 active "$node" && within 60 blames_the_supervisor "$node" || { note "$(reasons)" && return 1; }
  for node in "${workers[@]}"; do refuse_no_more "$node"; done
  expect halted "$halted" "$(lease_annotation halted)" && desired supervisor-back.testbed && finished "$before" 420 && one_at_a_time "$since"
}
file_is_back() { ! host_file_has "$1" "$2"; }
blames_the_supervisor() { [ -z "$(annotation "$1" failed)" ] && [[ $(annotation "$1" reason) == *supervisor* ]]; }

a_hand_edit_is_put_right() {
  local since
  since=$(now_ms)
  # Nothing was restarted since: what is loaded is still ours, the file is put back at once.
  on dellmini2 sh -c "echo '# by hand' >>$registries; sed -i 's/endpoint/endpoints/' $registries"
  within 60 host_file_has dellmini2 endpoint: && expect starts "" "$(starts_since "$since")" || return 1
  # A file that k3s cannot read and a restart: healed without a turn.
  on lenovomini sh -c "printf 'mirrors:\n\t- broken\n' >$registries && systemctl restart --no-block k3s-agent"
  within 90 active lenovomini && within 60 phase_is lenovomini Current
}

a_hand_edit_that_k3s_has_loaded_takes_a_turn() {
  local since before answered
  since=$(now_ms) before=$(common_revision) answered=$(annotation dellmini2 answered)
  # Stopped, so that it does not put the file back before k3s has read it.
  on dellmini2 pkill -STOP -f '/k3s-registry-agent agent' &&
    on dellmini2 sh -c "sed -i 's/[a-z-]*[.]testbed/by-hand.testbed/' $registries && systemctl restart k3s-agent"
  on dellmini2 pkill -CONT -f '/k3s-registry-agent agent' || return 1
  within 120 has_another_answer dellmini2 "$answered" && within 90 phase_is dellmini2 Current || { note "$(reasons)" && return 1; }
  ! host_file_has dellmini2 by-hand.testbed && expect starts dellmini2=2 "$(starts_since "$since")" &&
    expect revision "$before" "$(common_revision)"
}
has_another_answer() { [ "$(annotation "$1" answered)" != "$2" ]; }

a_node_that_joins_in_the_middle_goes_ahead() {
  local since before joined node=lenovomini
  before=$(common_revision)
  # A machine that knows neither us nor the cluster.
  on $node systemctl disable --now k3s-agent 2>/dev/null && power $node off && power $node on && within 60 on $node true &&
    forget $node && kubectl delete node $node >/dev/null || return 1
  since=$(now_ms)
  desired joined.testbed && catch >/dev/null || return 1
  on $node systemctl enable --now --no-block k3s-agent 2>/dev/null
  within 90 active $node || return 1
  joined=$(now_ms)
  # Its joining is not our doing; what follows is.
  finished "$before" 400 && one_at_a_time "$since" dellmini1 dellmini3 dellmini5 dellmini2 && one_at_a_time "$joined" &&
    host_file_has $node joined.testbed || return 1
  # Once to join and once for the file, or once for both.
  note "starts: $(starts_since "$since")"
}

the_defaults_hold_as_well() {
  local since before
  before=$(common_revision)
  kubectl apply -k "$here/manifests" >/dev/null && kubectl -n "$namespace" rollout status deployment coordinator --timeout=120s >/dev/null &&
    ! kubectl -n "$namespace" get deployment coordinator -o yaml | grep -q -- --waits || return 1
  since=$(now_ms)
  DEADLINE="" desired defaults.testbed && finished "$before" 400 && one_at_a_time "$since" && restarted_once_each "$since"
  local result=$?
  note "with every default: $(($(now_ms) - since)) ms, a new coordinator's first minute included"
  with_shorter_waits
  return $result
}

a_deleted_configmap_holds_everything() {
  local since before
  since=$(now_ms) before=$(common_revision)
  kubectl -n "$namespace" delete configmap registries >/dev/null
  within 30 phase_is dellmini1 Pending && host_file_has dellmini1 mirrors && expect starts "" "$(starts_since "$since")" || return 1
  desired back.testbed && finished "$before" 300 && one_at_a_time "$since"
}

a_secret_rotated_in_the_middle_ends_on_the_last() {
  local before since node
  before=$(common_revision) since=$(now_ms)
  desired rotate.testbed first-password && within 90 busy || return 1
  desired rotate.testbed second-password && finished "$before" 300 && one_at_a_time "$since" || return 1
  for node in "${everybody[@]}"; do
    within 60 host_file_has "$node" second-password || { note "$node has the older password" && return 1; }
  done
}

twenty_edits_in_ten_seconds_end_on_the_last() {
  local before since node edit
  before=$(common_revision) since=$(now_ms)
  for edit in $(seq 20); do desired "edit-$edit.testbed" && sleep 0.3; done
  within 400 everyone_has edit-20.testbed && finished "$before" 60 && one_at_a_time "$since" || return 1
  # Few: the last edit, and one that had begun by then.
  ! starts_since "$since" | tr ' ' '\n' | grep -qv '=[12]$' || { note "starts: $(starts_since "$since")" && return 1; }
}

pause_and_a_newer_edit_wait_for_the_proof() {
  local before since paused
  before=$(common_revision) since=$(now_ms)
  desired pause-one.testbed && catch >/dev/null && desired pause-two.testbed "$canary" "pause: true" || return 1
  paused=$(now_ms)
  within 90 quiet && sleep 5 && one_at_a_time "$since" || return 1
  # Whoever was in its turn then ended it; nobody else was begun, and nobody has begun the newer one.
  [ "$(starts_since "$paused" | wc -w)" -le 1 ] || { note "begun in spite of the pause: $(starts_since "$paused")" && return 1; }
  ! all_current "$before" && ! someone_has pause-two.testbed || { note "$(reasons)" && return 1; }
  desired pause-two.testbed && finished "$before" 300 && one_at_a_time "$since"
}
someone_has() {
  local node
  for node in "${everybody[@]}"; do if host_file_has "$node" "$1"; then return 0; fi; done
  return 1
}

an_invalid_configmap_in_the_middle_harms_nobody() {
  local since before broken_at
  before=$(common_revision) since=$(now_ms)
  desired valid-one.testbed && catch >/dev/null || return 1
  within 60 kubectl -n "$namespace" patch configmap registries --type=merge -p '{"data": {"registries.yaml": "mirors: {}\n"}}' || return 1
  broken_at=$(now_ms)
  within 90 quiet && sleep 5 || return 1
  # Whoever was in its turn ended it; nobody was begun with what cannot be read.
  [ "$(starts_since "$broken_at" | wc -w)" -le 1 ] || { note "begun in spite of it: $(starts_since "$broken_at")" && return 1; }
  within 30 phase_is lenovomini Invalid && has "$(annotation lenovomini reason)" mirrors || return 1
  desired valid-two.testbed && finished "$before" 300 && one_at_a_time "$since"
}

the_image_is_updated_in_the_middle() {
  local before since next
  next=$(mktemp) && python3 "$here/scripts/oci-archive.py" --binary "$binary" --name localhost/k3s-registry-agent:next \
    --arch "$(dpkg --print-architecture)" --epoch 0 --revision next --output "$next" && "$bed" load "$next" && rm "$next" || return 1
  before=$(common_revision) since=$(now_ms)
  desired updated.testbed && within 90 busy || return 1
  kubectl -n "$namespace" set image daemonset/agent agent=localhost/k3s-registry-agent:next >/dev/null
  finished "$before" 500 && one_at_a_time "$since" && restarted_once_each "$since" && within 300 every_agent_is_ready &&
    expect "images that run" localhost/k3s-registry-agent:next "$(kubectl -n "$namespace" get pods \
      -l app.kubernetes.io/component=agent -o 'jsonpath={range .items[*]}{.spec.containers[0].image}{"\n"}{end}' | sort -u)"
}

an_operator_sees_and_steers_it() {
  local before said halted node
  before=$(common_revision) halted=$(lease_annotation halted)
  put_program dellmini1 && said=$(operate status) && has "$said" "5 nodes: 5 Current" && has "$said" "exit 0" || return 1
  said=$(operate pause dellmini2) && has "$said" "exit 0" && expect pause true "$(annotation dellmini2 pause)" &&
    said=$(operate resume dellmini2) && has "$said" "exit 0" && expect pause "" "$(annotation dellmini2 pause)" || return 1
  # A revision that was halted goes through after a retry, once what hindered it is gone.
  for node in "${everybody[@]}"; do refuse "$node" retried.testbed; done
  desired retried.testbed && within 120 some_phase RolledBack && within 30 halted_beside "$halted" || { note "$(reasons)" && return 1; }
  said=$(operate status) && has "$said" "exit 3" && has "$said" halted || return 1
  for node in "${everybody[@]}"; do refuse_no_more "$node"; done
  said=$(operate plan) && has "$said" "exit 0" && node=$(some_phase RolledBack) || return 1
  # Everywhere else, and where it failed: that node remembers what failed there.
  said=$(operate retry) && has "$said" "exit 0" && said=$(operate retry "$node") && has "$said" "exit 0" && finished "$before" 300
}
operate() { on dellmini1 sh -c "KUBECONFIG=/etc/rancher/k3s/k3s.yaml $program $* 2>&1; echo \"exit \$?\""; }

no_password_left_the_nodes_files() {
  local node
  ! kubectl get nodes,events.events.k8s.io,leases.coordination.k8s.io -A -o yaml | grep -q "$canary" || { note "in the API" && return 1; }
  for node in "${everybody[@]}"; do no_canary "$node" || return 1; done
}

need_image
need_binary
at_end leave
for node in "${everybody[@]}"; do forget "$node"; done
install_ours || { echo "the product could not be installed" >&2 && exit 1; }
check nothing_is_touched_before_there_is_a_configmap
check one_configmap_rolls_through_five_nodes_one_at_a_time
check a_revision_that_k3s_refuses_stops_at_the_first_node
check the_agent_killed_while_k3s_is_down_is_no_matter
check coordinators_come_and_go
check pause_and_a_newer_edit_wait_for_the_proof
check_long an_invalid_configmap_in_the_middle_harms_nobody
check a_hand_edit_is_put_right
check_long a_hand_edit_that_k3s_has_loaded_takes_a_turn
check a_deleted_configmap_holds_everything
check_long a_secret_rotated_in_the_middle_ends_on_the_last
check_long twenty_edits_in_ten_seconds_end_on_the_last
check_long the_image_is_updated_in_the_middle
check_long a_node_that_is_cut_off_loses_nothing
check_long an_absent_supervisor_is_no_proof_against_a_file
check_long a_node_that_lost_power_in_its_turn_comes_back
check_long a_node_that_joins_in_the_middle_goes_ahead
check_long the_defaults_hold_as_well
check_long an_operator_sees_and_steers_it
check no_password_left_the_nodes_files
summary
