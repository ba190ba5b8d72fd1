#!/usr/bin/env bash
# One node, whole, on the test bed: real systemd, containerd, kubelet, etcd and API server. Each check starts from what the
# one before left. With names as arguments only those run, on a bed that is up.
#
#   scripts/testbed.sh up && tests/e2e/one-node.sh
#
# Needs the static binary (scripts/build-static.sh).
set -euo pipefail
# Steps are chained with && up to a last || on purpose; scripts are quoted for the node's shell.
# shellcheck disable=SC2015,SC2016

# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
worker=${WORKER:-lenovomini} server=${SERVER:-dellmini1}

prepare() {
  local node
  for node in "$worker" "$server"; do
    put_program "$node" && forget "$node" && refuse_no_more "$node" &&
      on "$node" systemctl restart --no-block "$(unit "$node")" || return 1
  done
  # What an earlier run left loaded is gone only now.
  for node in "$server" "$worker"; do sleep 2 && healthy "$node" || return 1; done
  on "$worker" $program --version
}

# Before a second try: nothing hinders them, and both have proven a file.
put_in_order() {
  local node
  for node in "$worker" "$server"; do
    on "$node" true 2>/dev/null || power "$node" on
    within 60 on "$node" true && stop_agent "$node" && hinder_no_more "$node"
  done
  prepare >/dev/null && for node in "$worker" "$server"; do
    inputs "$node" docker.io in-order && has "$(apply "$node")" "exit 0" || return 1
  done
}

a_new_file_is_loaded_by_one_restart_and_proven() {
  local before after said
  inputs "$worker" docker.io && before=$(show "$worker" InvocationID) && said=$(apply "$worker") || return 1
  has "$said" "exit 0" && has "$said" "restart    done" && has "$said" "auth tables" && has "$said" "containerd" || return 1
  after=$(show "$worker" InvocationID)
  [ "$before" != "$after" ] || { note "not restarted" && return 1; }
  expect mode 600 "$(on "$worker" stat -c %a $registries | tr -d '\r')" &&
    said=$(apply "$worker") && has "$said" "exit 0" && has "$said" "effect     none" &&
    expect "invocation after a second run" "$after" "$(show "$worker" InvocationID)" && no_canary "$worker"
}

the_same_meaning_restarts_nothing() {
  # As a first install over a file that an administrator wrote.
  local before said
  before=$(show "$worker" InvocationID)
  on "$worker" sh -c "rm -rf /var/lib/k3s-registry-agent; sed -i '/^#/d; s/\"//g' $registries" &&
    said=$(apply "$worker") && has "$said" "exit 0" && has "$said" "effect     none" &&
    expect invocation "$before" "$(show "$worker" InvocationID)"
}

a_file_that_k3s_refuses_is_undone() {
  local said before
  before=$(on "$worker" sha256sum $registries)
  refuse "$worker" refused.testbed && inputs "$worker" refused.testbed && said=$(apply "$worker")
  has "$said" "exit 1" && has "$said" "RolledBack" && has "$said" "k3s cannot read the file" &&
    expect file "$before" "$(on "$worker" sha256sum $registries)" && within 30 active "$worker" &&
    said=$(apply "$worker") && has "$said" "failed here" && has "$said" "not touched"
}

a_unit_that_cannot_start_is_undone() {
  local said before
  before=$(on "$worker" sha256sum $registries)
  # Another password: not the content that is remembered as failed.
  hinder "$worker" refused.testbed && inputs "$worker" refused.testbed other && said=$(apply "$worker")
  has "$said" "exit 1" && has "$said" "undone" && expect file "$before" "$(on "$worker" sha256sum $registries)" &&
    within 30 active "$worker"
}

the_guard_heals_a_node_whose_agent_was_killed() {
  local before
  before=$(on "$worker" sha256sum $registries)
  hinder "$worker" refused.testbed && inputs "$worker" refused.testbed another && start_agent "$worker" &&
    within 60 inactive "$worker" && on "$worker" systemctl kill --signal=KILL agent-under-test &&
    within 90 active "$worker" && expect file "$before" "$(on "$worker" sha256sum $registries)" &&
    evidence "$worker" ready 60 >/dev/null
  local result=$?
  stop_agent "$worker"
  hinder_no_more "$worker"
  return $result
}

a_node_that_lost_power_boots_on_the_proven_file() {
  local before
  # The agent that comes back first ends what the killed one began.
  inputs "$worker" docker.io && apply "$worker" >/dev/null
  before=$(on "$worker" sha256sum $registries)
  inputs "$worker" refused.testbed third && start_agent "$worker" && within 60 inactive "$worker" &&
    power "$worker" off && power "$worker" on && within 60 on "$worker" true &&
    within 90 active "$worker" && expect file "$before" "$(on "$worker" sha256sum $registries)"
  local result=$?
  stop_agent "$worker"
  return $result
}

a_hand_edit_that_took_the_node_down_is_healed() {
  local before
  refuse_no_more "$worker" && inputs "$worker" docker.io && apply "$worker" >/dev/null
  before=$(on "$worker" sha256sum $registries)
  stop_agent "$worker"
  on "$worker" sh -c "printf 'mirrors:\n\t- broken\n' >$registries" && on "$worker" systemctl restart --no-block "$(unit "$worker")" &&
    within 20 inactive "$worker" && start_agent "$worker" && within 60 active "$worker" &&
    expect file "$before" "$(on "$worker" sha256sum $registries)"
  local result=$?
  stop_agent "$worker"
  return $result
}

a_server_that_refuses_its_file_has_its_api_back() {
  local began said
  inputs "$server" docker.io && said=$(apply "$server") && has "$said" "exit 0" && has "$said" "etcd" || return 1
  refuse "$server" refused.testbed && inputs "$server" refused.testbed && began=$SECONDS &&
    said=$(apply "$server")
  has "$said" "RolledBack" && evidence "$server" api 30 >/dev/null && note "from the command to the API: $((SECONDS - began)) s"
  local result=$?
  refuse_no_more "$server"
  return $result
}

restore_gives_back_what_was_there() {
  local said
  said=$(on "$server" sh -c "$program restore --root / 2>&1; echo \"exit \$?\"")
  has "$said" "exit 0" && has "$said" "removed" && ! on "$server" test -e $registries
}

restore_gives_back_a_file_written_by_hand() {
  local said hand='# by hand
mirrors: {docker.io: {endpoint: ["https://by-hand.testbed"]}}'
  forget "$worker" && on "$worker" sh -c "umask 022; cat >$registries" <<<"$hand" && inputs "$worker" docker.io &&
    said=$(apply "$worker") && has "$said" "exit 0" && first_line_differs "$worker" "# by hand" &&
    said=$(on "$worker" sh -c "$program restore --root / 2>&1; echo \"exit \$?\"") && has "$said" "exit 0" &&
    expect file "$hand" "$(on "$worker" cat $registries)"
}
first_line_differs() { [ "$(on "$1" head -n 1 $registries)" != "$2" ]; }

# The next script begins with nodes that do not know us, and that have loaded nothing of ours.
leave() {
  local node
  for node in "$worker" "$server"; do
    forget "$node" && refuse_no_more "$node" && hinder_no_more "$node" && on "$node" systemctl restart --no-block "$(unit "$node")"
  done
  for node in "$server" "$worker"; do sleep 2 && healthy "$node"; done
}

need_binary
at_end leave
prepare >/dev/null || { echo "the nodes could not be prepared" >&2 && exit 1; }
check a_new_file_is_loaded_by_one_restart_and_proven
check the_same_meaning_restarts_nothing
check a_file_that_k3s_refuses_is_undone
check a_unit_that_cannot_start_is_undone
check the_guard_heals_a_node_whose_agent_was_killed
check a_node_that_lost_power_boots_on_the_proven_file
check a_hand_edit_that_took_the_node_down_is_healed
check a_server_that_refuses_its_file_has_its_api_back
check restore_gives_back_what_was_there
check_long restore_gives_back_a_file_written_by_hand
summary
