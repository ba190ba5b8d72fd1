# shellcheck shell=bash
# Drives the test bed for the end-to-end scripts, which source this file. They are shell, and so is this.
#
#   on NODE COMMAND...              runs in the node; stdin goes along
#   evidence NODE [!]CHECK SECONDS  waits until it shows, prints the milliseconds; checks: active ready cri kubelet etcd api
#                                   ping lease
#   within SECONDS COMMAND...       until the command succeeds
#   unplug NODE, plug NODE          its network cable; what a script leaves unplugged is plugged in when it ends
#   kill_unit NODE UNIT [SIGNAL]    the unit's main process, or k3s's child of that name
#   power NODE off|on               as the plug does it
#   refuse NODE TEXT, refuse_no_more NODE   its k3s takes no registries.yaml that holds TEXT (a switch of the bed's k3s)
#   hinder NODE TEXT, hinder_no_more NODE   its unit does not start with such a file (a drop-in in /run, for any k3s)
#   timeline SINCE_MS [NODE...]     what the units did, in milliseconds, one JSON object a line, from the journals
#   down_at_once SINCE_MS [NODE...] the most k3s units that were not started at one time
#   kubectl ARG...                  as the cluster's administrator
#
# LONG=1 and SECOND_TRY=1 are told where they act, below.
#
# A check is a function whose steps are chained with &&, named as the claim that it proves: `check NAME` runs it, `summary`
# is the script's last command. With names as arguments only those checks run.
#
# BED names the driver: scripts/testbed.sh, or one with the same commands for another cluster (scripts/verify-on-k3s.sh).
# TESTBED_PATIENCE multiplies every limit, for a machine that has much else to do.

# shellcheck disable=SC2034 # the scripts use them
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bed=${BED:-$here/scripts/testbed.sh}
patience=${TESTBED_PATIENCE:-1}
# What is tested.
# shellcheck disable=SC2034
binary=${BINARY:-$(find "${CARGO_TARGET_DIR:-$here/target}" -path '*-unknown-linux-gnu/release/k3s-registry-agent' -type f 2>/dev/null | head -n 1 || true)}
image=${IMAGE:-$(find "$here/dist" -name 'k3s-registry-agent-*.tar' 2>/dev/null | head -n 1 || true)}
nodes="dellmini1 dellmini3 dellmini5 dellmini2 lenovomini"

# --- checks --------------------------------------------------------------------

only=" $* "
passed=0 failed=0 again=0 left=0
# Names the promise that a check saw broken.
broken=""
# Stands before the names that a check makes up, so that a second try is about another revision than the first.
prefix=""
note() { printf '      %s\n' "$*"; }
check() {
  local name=$1 began=$SECONDS
  broken=""
  if [ "$only" != "  " ] && [[ $only != *" $name "* ]]; then return; fi
  printf -- '----  %s\n' "$name"
  if "$name"; then
    passed=$((passed + 1))
    printf 'ok    %s (%d s)\n' "$name" $((SECONDS - began))
  # A machine that has two cores for five nodes stumbles at times. With SECOND_TRY=1 a check that failed is done once more,
  # and it is said; one that fails twice has failed. A promise that was broken is broken: that is final.
  elif [ -n "${SECOND_TRY:-}" ] && [ -z "$broken" ] && printf 'again %s (%d s)\n' "$name" $((SECONDS - began)) && once_more "$name"; then
    passed=$((passed + 1)) again=$((again + 1))
    printf 'ok    %s, at the second try (%d s)\n' "$name" $((SECONDS - began))
  else
    failed=$((failed + 1))
    printf 'FAIL  %s (%d s)\n' "$name" $((SECONDS - began))
  fi
}
# A check that failed left things as they were at that moment; put_in_order is the script's own.
once_more() {
  local cable result=0
  for cable in $unplugged; do plug "$cable" || true; done
  put_in_order "$1" || note "not put in order"
  prefix=again- && "$1" || result=$?
  prefix=""
  return $result
}
put_in_order() { true; } # NAME
# One that takes its time: done with LONG=1, or if it is named.
check_long() {
  if [ -n "${LONG:-}" ] || [[ $only == *" $1 "* ]]; then check "$1"; elif [ "$only" = "  " ]; then
    left=$((left + 1))
    printf 'left  %s (LONG=1 does it)\n' "$1"
  fi
}
# No check at all is a failure too: a name was misspelt.
summary() {
  [ "$left" -eq 0 ] || echo "$left not done: LONG=1 does them"
  [ "$again" -eq 0 ] || echo "$again of these at the second try"
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
expect() { # WHAT WANTED GOT
  [ "$2" = "$3" ] || { note "$1: wanted '$2', got '$3'" && return 1; }
}
has() { # TEXT PART
  [[ $1 == *"$2"* ]] || { note "not found: $2" && note "$1" && return 1; }
}
now_ms() { date +%s%3N; }

# --- nodes ---------------------------------------------------------------------

on() { "$bed" exec "$@"; }
kubectl() { "$bed" kubectl "$@"; }
unit() { "$bed" unit "$1"; }
show() { on "$1" systemctl show "$(unit "$1")" -p "$2" --value | tr -d '\r'; }
active() { [ "$(show "$1" ActiveState)" = active ]; }
inactive() { ! active "$1"; }
within() {
  local limit=$(($1 * patience)) end
  end=$((SECONDS + limit))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { note "not within $limit s: $*" && return 1; }
    sleep 0.5
  done
}
evidence() { "$bed" wait "$@"; }
kill_unit() { "$bed" kill "$@"; }
power() { "$bed" power "$@"; }
refuse() { "$bed" switch "$1" refuse "$2"; }
refuse_no_more() { "$bed" switch "$1" off; }
drop_in() { echo "/run/systemd/system/$(unit "$1").service.d/hindered.conf"; }
hinder() {
  printf '[Service]\nExecStartPre=/bin/sh -c "! grep -qF %s %s"\n' "$2" "$registries" |
    on "$1" sh -c "mkdir -p \$(dirname $(drop_in "$1")) && cat >$(drop_in "$1") && systemctl daemon-reload"
}
hinder_no_more() { on "$1" sh -c "rm -f $(drop_in "$1"); systemctl daemon-reload"; }

unplugged=" "
unplug() {
  unplugged+="$1 "
  "$bed" net "$1" cut
}
plug() {
  "$bed" net "$1" restore && unplugged=${unplugged//" $1 "/ }
}

# What has to be undone however the script ends: at_end COMMAND, the last one first.
ends=()
at_end() { ends=("$*" "${ends[@]}"); }
end() {
  local status=$? command node
  trap - EXIT
  for command in "${ends[@]}"; do eval "$command" || true; done
  for node in $unplugged; do "$bed" net "$node" restore || true; done
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

timeline() {
  local since=$1
  shift
  "$bed" timeline "$@" | jq -c --argjson since "$since" 'select(.ms >= $since)'
}
# A unit is down from "stopping", or from the exit of its main process, until systemd calls it started. Nodes are taken to
# be up at the beginning.
down_at_once() {
  timeline "$@" | jq -s 'reduce .[] as $event ({down: {}, most: 0};
    if $event.state == "started" then del(.down[$event.node]) else .down[$event.node] = true end
    | .most = ([.most, (.down | length)] | max)) | .most'
}

# --- the product ---------------------------------------------------------------

program=/opt/agent/k3s-registry-agent
registries=/etc/rancher/k3s/registries.yaml
# A password that must show up nowhere.
canary='canary-hunter2-password'
deadline=$((20 * patience))s

need_binary() {
  [ -x "$binary" ] || { echo "no static binary: run scripts/build-static.sh, or set BINARY" >&2 && exit 2; }
}
need_image() {
  [ -s "$image" ] || { echo "no image: run scripts/image.sh, or set IMAGE" >&2 && exit 2; }
}
put_program() { # NODE
  on "$1" mkdir -p /opt/agent &&
    on "$1" sh -c "cat >$program.new && chmod 755 $program.new && mv $program.new $program" <"$binary"
}
# As if we had never been there.
forget() { # NODE
  on "$1" sh -c "systemctl stop agent-under-test 'k3s-registry-agent*' 2>/dev/null; systemctl reset-failed 2>/dev/null
    rm -rf $registries /etc/rancher/k3s/registry-tls /var/lib/k3s-registry-agent"
}
healthy() { # NODE
  within 60 active "$1" && evidence "$1" ready 60 >/dev/null && evidence "$1" cri 60 >/dev/null
}

# In the cluster: the image on every node, and the manifests as an operator applies them.
namespace=k3s-registry-agent
install_product() {
  "$bed" load "$image" && kubectl apply -k "$here/manifests" >/dev/null && within 120 every_agent_is_ready
}
every_agent_is_ready() {
  [ "$(kubectl -n "$namespace" get daemonset agent -o 'jsonpath={.status.numberReady} {.status.updatedNumberScheduled}')" = \
    "$(kubectl get nodes --no-headers | wc -l | sed 's/\(.*\)/\1 \1/')" ]
}
# The pods first: a namespace that is deleted with them is looked at again only after half of their grace, five minutes.
remove_product() {
  kubectl -n "$namespace" delete daemonset,deployment --all --ignore-not-found --timeout=60s >/dev/null &&
    within 120 no_pods_of_ours && kubectl delete -k "$here/manifests" --ignore-not-found --timeout=$((120 * patience))s >/dev/null
}
no_pods_of_ours() { [ -z "$(kubectl -n "$namespace" get pods -o name)" ]; }
annotation() { # NODE NAME: of ours
  kubectl get node "$1" -o json | jq -r --arg name "k3s-registry-agent/$2" '.metadata.annotations[$name] // ""'
}

# Inputs on the node: a mirror of HOST, and a credential for it.
inputs() { # NODE HOST [PASSWORD]
  on "$1" sh -c 'rm -rf /opt/agent/inputs.new && mkdir -p /opt/agent/inputs.new && cat >/opt/agent/inputs.new/all.yaml' <<INPUTS
apiVersion: v1
kind: ConfigMap
metadata: {name: registries}
data:
  policy.yaml: |
    version: 1
    deadline: $deadline
    # No registry answers under this name, and nobody is to be waited for: what is shown is what becomes of the node.
    preflight: {credential: off, tls: off, name: off, route: off, realm: off, api: off}
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
stringData: {username: someone, password: $prefix${3:-$canary}}
INPUTS
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
  ! on "$1" sh -c "journalctl -o cat | grep -q $canary" || { broken=secret && note "the password is in the journal" && return 1; }
  local found
  found=$(on "$1" sh -c "find /etc/rancher /var/lib/k3s-registry-agent /run /tmp -xdev -type f ! -perm 0600 -exec grep -l $canary {} + 2>/dev/null || true")
  expect "files with the password that others may read" "" "$found" || { broken=secret && return 1; }
}
