#!/usr/bin/env bash
# One node, whole, on the test bed: real systemd, containerd, kubelet, etcd and API server. Each check starts from what the
# one before left. With names as arguments only those run, on a bed that is up.
#
#   scripts/testbed.sh up && tests/e2e/one-node.sh
#
# Needs the static binary (scripts/build-static.sh) and, for the last check, the image (scripts/image.sh).
set -euo pipefail
# Steps are chained with && up to a last || on purpose; scripts are quoted for the node's shell.
# shellcheck disable=SC2015,SC2016

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bed=${BED:-$here/scripts/testbed.sh}
binary=${BINARY:-$(find "${CARGO_TARGET_DIR:-$here/target}" -path '*-unknown-linux-gnu/release/k3s-registry-agent' -type f | head -n 1)}
image=${IMAGE:-$(find "$here/dist" -name 'k3s-registry-agent-*.tar' 2>/dev/null | head -n 1)}
worker=lenovomini server=dellmini1
program=/opt/agent/k3s-registry-agent
registries=/etc/rancher/k3s/registries.yaml
canary='canary-hunter2-password'
only=" $* "
passed=0 failed=0

note() { printf '      %s\n' "$*"; }
check() {
  local name=$1 began=$SECONDS
  if [ "$only" != "  " ] && [[ $only != *" $name "* ]]; then return; fi
  printf -- '----  %s\n' "$name"
  if "$name"; then
    passed=$((passed + 1))
    printf 'ok    %s (%d s)\n' "$name" $((SECONDS - began))
  else
    failed=$((failed + 1))
    printf 'FAIL  %s (%d s)\n' "$name" $((SECONDS - began))
  fi
}
expect() { # WHAT WANTED GOT
  [ "$2" = "$3" ] || { note "$1: wanted '$2', got '$3'" && return 1; }
}
has() { # TEXT PART
  [[ $1 == *"$2"* ]] || { note "not found: $2" && note "$1" && return 1; }
}
on() { "$bed" exec "$@"; }
unit() { case $1 in dellmini[135]) echo k3s ;; *) echo k3s-agent ;; esac; }
show() { on "$1" systemctl show "$(unit "$1")" -p "$2" --value | tr -d '\r'; }
within() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { note "not within its time: $*" && return 1; }
    sleep 0.5
  done
}
active() { [ "$(show "$1" ActiveState)" = active ]; }
inactive() { ! active "$1"; }
first_line_is() { [ "$(on "$1" head -n 1 $registries)" = "$2" ]; }

# Inputs on the node: a mirror of HOST, and a credential for it.
inputs() { # NODE HOST [PASSWORD]
  on "$1" sh -c 'mkdir -p /opt/agent/inputs.new && cat >/opt/agent/inputs.new/all.yaml' <<EOF
apiVersion: v1
kind: ConfigMap
metadata: {name: registries}
data:
  policy.yaml: |
    version: 1
    deadline: 20s
  registries.yaml: |
    mirrors:
      $2:
        endpoint: ["https://mirror.testbed"]
---
apiVersion: v1
kind: Secret
metadata:
  name: mirror
  annotations: {k3s-registry-agent/host: mirror.testbed}
type: kubernetes.io/basic-auth
stringData: {username: someone, password: ${3:-$canary}}
EOF
  on "$1" sh -c 'rm -rf /opt/agent/inputs && mv /opt/agent/inputs.new /opt/agent/inputs'
}
apply() { # NODE: prints what it says and its exit code
  on "$1" sh -c "$program apply --inputs /opt/agent/inputs --root / 2>&1; echo \"exit \$?\""
}
# The agent as a service of the node: it must outlive the call.
start_agent() { # NODE
  on "$1" systemd-run --quiet --unit=agent-under-test --property=KillMode=process \
    $program agent --inputs /opt/agent/inputs --root / --listen off --log k3s_registry_agent=trace
}
stop_agent() { # NODE
  on "$1" sh -c 'systemctl stop agent-under-test 2>/dev/null; systemctl reset-failed agent-under-test 2>/dev/null; true'
}
no_canary() { # NODE: not in any log of the node, nor in a file that others may read
  ! on "$1" sh -c "journalctl -o cat | grep -q $canary" || { note "the password is in the journal" && return 1; }
  local found
  found=$(on "$1" sh -c "find /etc/rancher /var/lib/k3s-registry-agent /run /tmp -xdev -type f ! -perm 0600 -exec grep -l $canary {} + 2>/dev/null || true")
  expect "files with the password that others may read" "" "$found"
}

prepare() {
  local node
  for node in $worker $server; do
    on "$node" mkdir -p /opt/agent &&
      on "$node" sh -c "cat >$program && chmod 755 $program" <"$binary" &&
      on "$node" sh -c "rm -rf $registries /etc/rancher/k3s/registry-tls /var/lib/k3s-registry-agent" &&
      "$bed" switch "$node" off && on "$node" systemctl restart --no-block "$(unit "$node")" || return 1
  done
  # What an earlier run left loaded is gone only now.
  for node in $server $worker; do
    sleep 2 && within 60 active "$node" && "$bed" wait "$node" ready 60 && "$bed" wait "$node" cri 60 || return 1
  done
  on $worker $program --version
}

a_new_file_is_loaded_by_one_restart_and_proven() {
  local before after said
  inputs $worker docker.io && before=$(show $worker InvocationID) && said=$(apply $worker) || return 1
  has "$said" "exit 0" && has "$said" "restart    done" && has "$said" "auth tables" && has "$said" "containerd" || return 1
  after=$(show $worker InvocationID)
  [ "$before" != "$after" ] || { note "not restarted" && return 1; }
  expect mode 600 "$(on $worker stat -c %a $registries | tr -d '\r')" &&
    said=$(apply $worker) && has "$said" "exit 0" && has "$said" "effect     none" &&
    expect "invocation after a second run" "$after" "$(show $worker InvocationID)" && no_canary $worker
}

the_same_meaning_restarts_nothing() {
  # As a first install over a file that an administrator wrote.
  local before said
  before=$(show $worker InvocationID)
  on $worker sh -c "rm -rf /var/lib/k3s-registry-agent; sed -i '/^#/d; s/\"//g' $registries" &&
    said=$(apply $worker) && has "$said" "exit 0" && has "$said" "effect     none" &&
    expect invocation "$before" "$(show $worker InvocationID)"
}

a_file_that_k3s_refuses_is_undone() {
  local said before
  before=$(on $worker sha256sum $registries)
  "$bed" switch $worker refuse refused.testbed && inputs $worker refused.testbed && said=$(apply $worker)
  has "$said" "exit 1" && has "$said" "RolledBack" && has "$said" "k3s cannot read the file" &&
    expect file "$before" "$(on $worker sha256sum $registries)" && within 30 active $worker &&
    said=$(apply $worker) && has "$said" "failed here" && has "$said" "not touched"
}

the_guard_heals_a_node_whose_agent_was_killed() {
  local before
  before=$(on $worker sha256sum $registries)
  # Another password: not the content that is remembered as failed.
  inputs $worker refused.testbed another && start_agent $worker &&
    within 60 inactive $worker && on $worker systemctl kill --signal=KILL agent-under-test &&
    within 90 active $worker && expect file "$before" "$(on $worker sha256sum $registries)" &&
    "$bed" wait $worker ready 60 >/dev/null
  local result=$?
  stop_agent $worker
  return $result
}

a_node_that_lost_power_boots_on_the_proven_file() {
  local before
  before=$(on $worker sha256sum $registries)
  # The agent that comes back first ends what the killed one began.
  inputs $worker docker.io && apply $worker >/dev/null
  inputs $worker refused.testbed third && start_agent $worker && within 60 inactive $worker &&
    "$bed" power $worker off && "$bed" power $worker on && within 60 on $worker true &&
    within 90 active $worker && expect file "$before" "$(on $worker sha256sum $registries)"
  local result=$?
  stop_agent $worker
  return $result
}

a_hand_edit_that_took_the_node_down_is_healed() {
  local before
  "$bed" switch $worker off && inputs $worker docker.io && apply $worker >/dev/null
  before=$(on $worker sha256sum $registries)
  stop_agent $worker
  on $worker sh -c "printf 'mirrors:\n\t- broken\n' >$registries" && on $worker systemctl restart --no-block k3s-agent &&
    within 20 inactive $worker && start_agent $worker && within 60 active $worker &&
    expect file "$before" "$(on $worker sha256sum $registries)"
  local result=$?
  stop_agent $worker
  return $result
}

a_server_that_refuses_its_file_has_its_api_back() {
  local began said
  inputs $server docker.io && said=$(apply $server) && has "$said" "exit 0" && has "$said" "etcd" || return 1
  "$bed" switch $server refuse refused.testbed && inputs $server refused.testbed && began=$SECONDS &&
    said=$(apply $server)
  has "$said" "RolledBack" && "$bed" wait $server api 30 >/dev/null && note "from the command to the API: $((SECONDS - began)) s"
  local result=$?
  "$bed" switch $server off
  return $result
}

restore_gives_back_what_was_there() {
  local said
  said=$(on $server sh -c "$program restore --root / 2>&1; echo \"exit \$?\"")
  has "$said" "exit 0" && has "$said" "removed" && ! on $server test -e $registries
}

in_a_cluster_it_asks_and_waits() {
  [ -n "$image" ] || { note "no image: scripts/image.sh" && return 1; }
  "$bed" load "$image" && "$bed" kubectl apply -f "$here/manifests/install.yaml" >/dev/null &&
    within 120 sh -c "[ \"\$('$bed' kubectl -n k3s-registry-agent get daemonset agent -o 'jsonpath={.status.numberReady}')\" = \"\$('$bed' kubectl get nodes --no-headers | wc -l)\" ]" || return 1
  "$bed" kubectl apply -f "$here/examples/ghcr-migration" >/dev/null &&
    within 60 sh -c "'$bed' kubectl get node $worker -o jsonpath='{.metadata.annotations}' | grep -q 'k3s-registry-agent/wanted'" || return 1
  local said events
  said=$("$bed" kubectl get node $worker -o 'jsonpath={.metadata.annotations}')
  events=$("$bed" kubectl get events.events.k8s.io --field-selector reason=Pending -o 'jsonpath={.items[*].regarding.name}')
  "$bed" kubectl delete -f "$here/examples/ghcr-migration" >/dev/null
  "$bed" kubectl delete -f "$here/manifests/install.yaml" >/dev/null
  has "$said" '"k3s-registry-agent/phase":"Pending"' && has "$said" "no coordinator has answered" &&
    has "$events" $worker || return 1
  ! grep -q PLACEHOLDER-TOKEN <<<"$said"
}

[ -x "$binary" ] || { echo "no static binary: run scripts/build-static.sh" >&2 && exit 2; }
prepare >/dev/null || { echo "the nodes could not be prepared" >&2 && exit 1; }
check a_new_file_is_loaded_by_one_restart_and_proven
check the_same_meaning_restarts_nothing
check a_file_that_k3s_refuses_is_undone
check the_guard_heals_a_node_whose_agent_was_killed
check a_node_that_lost_power_boots_on_the_proven_file
check a_hand_edit_that_took_the_node_down_is_healed
check a_server_that_refuses_its_file_has_its_api_back
check restore_gives_back_what_was_there
check in_a_cluster_it_asks_and_waits
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
