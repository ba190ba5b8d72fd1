# shellcheck shell=bash
# A cluster with the product in it, for the scripts that source this file after lib.sh. The nodes are those of `nodes`.
#
#   install_ours                    the DaemonSet and a coordinator with shorter waits, as an operator installs it; leave undoes it
#   desired MIRROR [PASSWORD] [POLICY LINE...]   applies the ConfigMap and the Secret; another mirror at a second try
#   finished REVISION SECONDS       until every node has proven another revision than that
#   one_at_a_time SINCE_MS          the timeline never had two units down
# Variables are of lib.sh.
# shellcheck disable=SC2015,SC2034,SC2086,SC2154

read -ra everybody <<<"$nodes"

lease_annotation() { # NAME
  kubectl -n "$namespace" get lease k3s-registry-agent-coordinator -o json |
    jq -r --arg name "k3s-registry-agent/$1" '.metadata.annotations[$name] // ""'
}
phase_is() { [ "$(annotation "$1" phase)" = "$2" ]; }
# One line a node: NAME PHASE REVISION.
told() {
  kubectl get nodes -o json | jq -r '.items[] | .metadata
    | [.name, .annotations["k3s-registry-agent/phase"] // "-", .annotations["k3s-registry-agent/revision"] // "-"] | join(" ")'
}
# What a node says of itself, for a check that fails.
reasons() {
  kubectl get nodes -o json | jq -r '.items[].metadata | .name + ": "
    + (.annotations | with_entries(select(.key | startswith("k3s-registry-agent/"))) | to_entries
       | map((.key | sub(".*/"; "")) + "=" + .value) | join(", "))'
  lease_annotation rollout
}
# The revision that every node has proven and that no node is beyond, or nothing.
common_revision() { told | awk '{print $2, $3}' | sort -u | sed -n '1{$s/^Current //p}'; }
all_current() { # REVISION THAT IT MUST NOT BE
  local revision
  revision=$(common_revision)
  [ -n "$revision" ] && [ "$revision" != "$1" ]
}
some_phase() { told | awk -v phase="$1" '$2 == phase {print $1}' | head -n 1 | grep .; }
busy() { some_phase Applying || some_phase Proving; }
quiet() { ! busy; }
# Waits for a node in its turn, and names it: by the time it is asked again it may be another one.
catch() {
  local end=$((SECONDS + 90 * patience))
  until busy 2>/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.3
  done
}

# The desired configuration: a mirror of docker.io at MIRROR (changed alone it is a restart all the same, until hosts.toml
# is applied live), and a password.
desired() { # MIRROR [PASSWORD] [POLICY LINE...]
  local mirror=$prefix$1 secret=${2:-$canary} text
  shift $(($# > 2 ? 2 : $#))
  text=$(
    cat <<YAML
apiVersion: v1
kind: ConfigMap
metadata: {name: registries, namespace: $namespace}
data:
  policy.yaml: |
    version: 1
    ${DEADLINE-deadline: 20s}
    preflight: {name: off, credential: off, tls: off, route: off, realm: off, api: off}
YAML
    printf '    %s\n' "$@"
    cat <<YAML
  registries.yaml: |
    mirrors:
      docker.io:
        endpoint: ["https://$mirror"]
---
apiVersion: v1
kind: Secret
metadata:
  name: mirror
  namespace: $namespace
  annotations: {k3s-registry-agent/host: $mirror}
type: kubernetes.io/basic-auth
stringData: {username: someone, password: $secret}
YAML
  )
  # The API server that is asked may be the one that restarts.
  within 60 applied "$text"
}
applied() { kubectl apply -f - <<<"$1"; }

one_at_a_time() { # SINCE (milliseconds) [NODE...]
  expect "most units down at one time" 1 "$(down_at_once "$@")" || { broken=turns && return 1; }
}
# How often each node's unit was started since a moment: NODE=COUNT ...
starts_since() { # SINCE (milliseconds)
  timeline "$1" | jq -rs '[.[] | select(.state == "started") | .node] | group_by(.) | map("\(.[0])=\(length)") | join(" ")'
}
restarted_once_each() { # SINCE
  expect "starts" "$(printf '%s=1\n' "${everybody[@]}" | sort | paste -sd ' ')" "$(starts_since "$1")"
}
finished() { # REVISION BEFORE, SECONDS: everybody proved another revision
  within "$2" all_current "$1" || { note "$(reasons)" && return 1; }
}
host_file_has() { on "$1" grep -q "$2" $registries; }
everyone_has() {
  local node
  for node in "${everybody[@]}"; do host_file_has "$node" "$1" || return 1; done
}

# Before a second try: nothing hinders anybody, and everybody is Current with a revision of its own. As long as there is no
# ConfigMap there is nothing to be put in order.
put_in_order() {
  local node before mirror=in-order-$SECONDS.testbed
  for node in "${everybody[@]}"; do
    on "$node" true 2>/dev/null || power "$node" on
    within 60 on "$node" true && refuse_no_more "$node" && on "$node" sh -c 'pkill -CONT -f "/k3s-registry-agent agent"
      systemctl enable --now --no-block '"$(unit "$node")" 2>/dev/null
  done
  kubectl -n "$namespace" get configmap registries >/dev/null 2>&1 || return 0
  kubectl -n "$namespace" scale deployment coordinator --replicas=1 >/dev/null
  with_shorter_waits && before=$(common_revision) && desired "$mirror" && within 300 everyone_has "$mirror" && finished "$before" 100
}

# The product as an operator installs it, with shorter waits for those who do not answer.
install_ours() {
  install_product && with_shorter_waits && within 120 coordinator_holds_the_lease
}
# Once: a coordinator that is given them twice does not start.
with_shorter_waits() {
  local now
  now=$(kubectl -n "$namespace" get deployment coordinator -o yaml) || return
  [[ $now == *--waits* ]] || kubectl -n "$namespace" patch deployment coordinator --type=json -p "$shorter" >/dev/null
}
shorter='[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--waits=settle=5s,answer=20s"}]'
coordinator_holds_the_lease() {
  [ -n "$(kubectl -n "$namespace" get lease k3s-registry-agent-coordinator -o 'jsonpath={.spec.holderIdentity}')" ]
}

# The next script begins with nodes that do not know us.
leave() {
  local node
  for node in "${everybody[@]}"; do refuse_no_more "$node"; done
  remove_product
  for node in "${everybody[@]}"; do forget "$node"; done
}
