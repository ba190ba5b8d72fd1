#!/usr/bin/env bash
# What the tokens of the agent's and the coordinator's pods may do, asked of a real API server with the very tokens that
# kubelet put into the pods: a table of (who, call) and whether it is let through, refused for want of a right, or refused
# by an admission policy. Everything is asked as a dry run, which meets authentication, rights and admission and stores
# nothing, so that a cluster in use can be asked, too.
#
#   scripts/testbed.sh up && tests/e2e/authority.sh
#
# With names of groups as arguments (see the end) only those are asked. Applies the manifests where no agent is there, and
# takes them away again. Needs no image: kubelet makes the token before it looks for one.
set -euo pipefail
# Steps are chained with && up to a last || on purpose.
# shellcheck disable=SC2015

# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
lease=k3s-registry-agent-coordinator
own=lenovomini server=dellmini1
work=$(mktemp -d "${TMPDIR:-/tmp}/authority.XXXXXX")
installed=""

leave() {
  rm -rf "$work"
  kubectl -n "$namespace" delete pod authority-coordinator --ignore-not-found --wait=false >/dev/null 2>&1 || true
  kubectl -n "$namespace" delete serviceaccount authority-nobody --ignore-not-found >/dev/null 2>&1 || true
  [ -z "$installed" ] || remove_product >/dev/null 2>&1
}
as() { # WHO ARG...: with that one's token or certificate alone
  local who=$1
  shift
  [ "$who" = admin ] || set -- --kubeconfig="$work/$who" "$@"
  kubectl "$@"
}

# --- the table ---------------------------------------------------------------

# allowed | by-right (refused) | by-policy (refused); WHO; what kubectl is asked, on standard input what -f - reads.
row() {
  local wanted=$1 who=$2 said got
  shift 2
  if said=$(as "$who" "$@" 2>&1 <"$work/input"); then
    got=allowed said="" # what was let through may be a token or a Secret
  elif [[ $said == *"ValidatingAdmissionPolicy 'k3s-registry-agent-"*"denied request"* ]]; then
    got=by-policy
  elif [[ $said == *"is forbidden: User "*" cannot "* ]]; then
    got=by-right
  else
    got="something else"
  fi
  : >"$work/input"
  if [ "$got" = "$wanted" ]; then
    passed=$((passed + 1))
    printf 'ok    %-9s %-12s %s\n' "$wanted" "$who" "$*"
  else
    failed=$((failed + 1))
    printf 'FAIL  %-9s %-12s %s\n      it was %s: %s\n' "$wanted" "$who" "$*" "$got" "$said"
  fi
}
given() { cat >"$work/input"; } # what the next row reads
write() { # WANTED WHO NODE PATCH [OPTION...]: a patch of a Node
  row "$1" "$2" patch node "$3" --dry-run=server -o name --type="${TYPE:-merge}" -p "$4" "${@:5}"
}
says() { # WANTED WHO NODE KEY [VALUE]: one annotation of ours; without a value it is removed
  local value=null
  [ $# -lt 5 ] || value="\"$5\""
  write "$1" "$2" "$3" "{\"metadata\":{\"annotations\":{\"k3s-registry-agent/$4\":$value}}}"
}
leased() { # WANTED WHO PATCH: a patch of the coordinator's Lease
  row "$1" "$2" -n $namespace patch lease $lease --dry-run=server -o name --type=merge -p "$3"
}
event() { # WANTED WHO KIND NAME CONTROLLER [MORE]
  given <<JSON
{"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "authority-", "namespace": "default"},
 "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Current", "action": "Reconcile", "note": "n",
 "regarding": {"apiVersion": "v1", "kind": "$3", "name": "$4"}, "reportingController": "$5", "reportingInstance": "n"${6:-}}
JSON
  row "$1" "$2" create --dry-run=server --validate=false -o name -f -
}
reads() { # WANTED WHO PATH
  row "$1" "$2" get --raw "$3"
}

told="phase reason since revision failed wanted answered"

agent() {
  local key
  for key in $told; do says allowed agent $own "$key" "authority-test"; done
  says allowed agent $own wanted
  write allowed agent $own '{"metadata":{"annotations":{"k3s-registry-agent/phase":"Pending","k3s-registry-agent/reason":"r",
    "k3s-registry-agent/since":"2026-01-01T00:00:00Z","k3s-registry-agent/failed":null}}}'
  says allowed server-agent $server phase Current
  # Another one's Node, from worker to worker, to a server and from a server.
  for key in $told; do says by-policy agent dellmini2 "$key" "authority-test"; done
  says by-policy agent $server phase Current
  says by-policy server-agent $own phase Current
  # What others say there.
  for key in grant turn pause retry unit rollout; do says by-policy agent $own "$key" "authority-test"; done
  write by-policy agent $own '{"metadata":{"annotations":{"k3s-registry-agent/phase":"Pending","k3s-registry-agent/grant":"g"}}}'
  write by-policy agent $own '{"metadata":{"annotations":{"example.com/one":"1"}}}'
  write by-policy agent $own "{\"metadata\":{\"annotations\":{\"$foreign\":\"changed\"}}}"
  write by-policy agent $own "{\"metadata\":{\"annotations\":{\"$foreign\":null}}}"
  write by-policy agent $own '{"metadata":{"annotations":null}}'
  # The rest of the Node, by each kind of patch.
  write by-policy agent $own '{"metadata":{"labels":{"k3s-registry-agent/exclude":"true"}}}'
  write by-policy agent $own '{"metadata":{"labels":{"kubernetes.io/os":null}}}'
  write by-policy agent $own '{"metadata":{"finalizers":["example.com/held"]}}'
  write by-policy agent $own '{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"dellmini2","uid":"u"}]}}'
  write by-policy agent $own '{"spec":{"unschedulable":true}}'
  write by-policy agent $own '{"spec":{"taints":[{"key":"example.com/t","effect":"NoSchedule"}]}}'
  TYPE=strategic write by-policy agent $own '{"spec":{"taints":[{"key":"example.com/t","effect":"NoExecute"}]}}'
  TYPE=json write by-policy agent $own '[{"op":"add","path":"/metadata/labels/example.com~1one","value":"1"}]'
  TYPE=json write allowed agent $own '[{"op":"add","path":"/metadata/annotations/k3s-registry-agent~1phase","value":"Current"}]'
  given <<<"{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"$own\",\"labels\":{\"example.com/one\":\"1\"}}}"
  row by-policy agent apply --server-side --dry-run=server --validate=false -o name -f -
  write by-right agent $own '{"status":{"conditions":[{"type":"Ready","status":"False"}]}}' --subresource=status
  row by-right agent delete node $own --dry-run=server --wait=false
  as admin get node $own -o json | given
  row by-right agent replace --dry-run=server --validate=false -o name -f -
  given <<<'{"apiVersion":"v1","kind":"Node","metadata":{"name":"authority-test"}}'
  row by-right agent create --dry-run=server --validate=false -o name -f -
  # Events.
  event allowed agent Node $own k3s-registry-agent
  event by-policy agent Node dellmini2 k3s-registry-agent
  event by-policy agent Pod $own k3s-registry-agent
  event by-policy agent Node $own kubelet
  event by-policy agent Node $own k3s-registry-agent ", \"related\": {\"kind\": \"Node\", \"name\": \"dellmini2\"}"
  # What it reads.
  reads allowed agent "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane%3Dtrue"
  reads allowed agent "/api/v1/nodes?fieldSelector=metadata.name%3D$own&watch=1&timeoutSeconds=1"
  reads allowed agent /api/v1/namespaces/$namespace/configmaps
  reads allowed agent /api/v1/namespaces/$namespace/secrets
  reads allowed agent "/api/v1/namespaces/$namespace/secrets?watch=1&timeoutSeconds=1"
  reads allowed agent /apis/coordination.k8s.io/v1/namespaces/$namespace/leases/$lease
  reads allowed agent /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/$own
  reads allowed agent /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes
  reads allowed agent /readyz
  # What it does not.
  reads by-right agent /api/v1/secrets
  reads by-right agent /api/v1/namespaces/kube-system/secrets
  reads by-right agent /api/v1/namespaces/kube-system/configmaps
  reads by-right agent /api/v1/namespaces/$namespace/pods
  reads by-right agent /apis/coordination.k8s.io/v1/namespaces/$namespace/leases
  reads by-right agent /api/v1/nodes/$own/proxy/metrics
  leased by-right agent '{"metadata":{"annotations":{"k3s-registry-agent/rollout":"r"}}}'
  row by-right agent -n kube-node-lease patch lease $own --dry-run=server -o name --type=merge -p '{"spec":{"holderIdentity":"x"}}'
  row by-right agent -n $namespace patch configmap kube-root-ca.crt --dry-run=server -o name --type=merge -p '{"data":{"a":"b"}}'
  row by-right agent -n $namespace create secret generic authority-test --dry-run=server
  row by-right agent -n $namespace create token coordinator
  row by-right agent --as=system:serviceaccount:$namespace:coordinator get nodes
}

# A token that no pod holds, and a name that is only claimed: who has stolen nothing but the name has nothing.
unbound() {
  reads allowed unbound /api/v1/nodes/$own
  says by-policy unbound $own phase Current
  event by-policy unbound Node $own k3s-registry-agent
  row by-policy admin --as=system:serviceaccount:$namespace:agent patch node $own --dry-run=server -o name --type=merge \
    -p '{"metadata":{"annotations":{"k3s-registry-agent/phase":"Current"}}}'
}

coordinator() {
  local node key
  for node in $own dellmini2 $server; do
    says allowed coordinator "$node" grant "authority-test"
    says allowed coordinator "$node" turn order
  done
  says allowed coordinator $own grant
  for key in $told pause retry unit; do says by-policy coordinator $own "$key" "authority-test"; done
  write by-policy coordinator $own '{"metadata":{"annotations":{"k3s-registry-agent/grant":"g","k3s-registry-agent/phase":"Current"}}}'
  write by-policy coordinator $own '{"metadata":{"annotations":{"example.com/one":"1"}}}'
  write by-policy coordinator $own "{\"metadata\":{\"annotations\":{\"$foreign\":null}}}"
  write by-policy coordinator $own '{"metadata":{"labels":{"k3s-registry-agent/exclude":"true"}}}'
  write by-policy coordinator $own '{"metadata":{"finalizers":["example.com/held"]}}'
  write by-policy coordinator $own '{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"dellmini2","uid":"u"}]}}'
  write by-policy coordinator $own '{"spec":{"unschedulable":true}}'
  write by-right coordinator $own '{"status":{"conditions":[{"type":"Ready","status":"False"}]}}' --subresource=status
  row by-right coordinator delete node $own --dry-run=server --wait=false
  # Its Lease: taken, renewed, annotated; and no other.
  leased allowed coordinator '{"metadata":{"annotations":{"k3s-registry-agent/rollout":"r","k3s-registry-agent/halted":"0123456789ab","k3s-registry-agent/out":"dellmini2=0123456789ab/00c0ffee/server"}}}'
  leased allowed coordinator '{"spec":{"holderIdentity":"authority","leaseDurationSeconds":60,"renewTime":"2026-01-01T00:00:00.000000Z"}}'
  as admin -n $namespace get lease $lease -o json | jq '.metadata.annotations["k3s-registry-agent/epoch"] = "0123456789abcdef"
    | .spec.holderIdentity = "authority"' | given
  row by-right coordinator replace --dry-run=server --validate=false -o name -f -
  leased by-policy coordinator '{"metadata":{"labels":{"example.com/one":"1"}}}'
  leased by-policy coordinator '{"metadata":{"annotations":{"example.com/one":"1"}}}'
  leased by-policy coordinator '{"metadata":{"finalizers":["example.com/held"]}}'
  leased by-policy coordinator '{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"dellmini2","uid":"u"}]}}'
  row by-right coordinator -n $namespace delete lease $lease --dry-run=server --wait=false
  given <<<"{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":\"another\",\"namespace\":\"$namespace\"}}"
  row by-right coordinator create --dry-run=server --validate=false -o name -f -
  reads by-right coordinator /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/$own
  # What it reads.
  reads allowed coordinator "/api/v1/nodes?limit=2"
  reads allowed coordinator "/api/v1/nodes?watch=1&timeoutSeconds=1"
  reads by-right coordinator "/api/v1/namespaces/$namespace/configmaps?fieldSelector=metadata.name%3Dregistries"
  reads allowed coordinator "/api/v1/namespaces/$namespace/configmaps?fieldSelector=metadata.name%3Dregistries&watch=1&timeoutSeconds=1"
  reads allowed coordinator /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes
  reads allowed coordinator /api/v1/namespaces/$namespace/pods
  reads allowed coordinator "/api/v1/namespaces/$namespace/pods?watch=1&timeoutSeconds=1"
  reads allowed coordinator /apis/coordination.k8s.io/v1/namespaces/$namespace/leases/$lease
  reads allowed coordinator /readyz
  # What it does not: a Secret above all.
  reads by-right coordinator /api/v1/namespaces/$namespace/secrets
  reads by-right coordinator /api/v1/secrets
  reads by-right coordinator /api/v1/namespaces/$namespace/configmaps
  reads by-right coordinator /api/v1/namespaces/$namespace/configmaps/kube-root-ca.crt
  reads by-right coordinator /api/v1/pods
  reads by-right coordinator /apis/discovery.k8s.io/v1/namespaces/default/endpointslices
  event by-right coordinator Node $own k3s-registry-agent
  row by-right coordinator -n $namespace create token agent
  row by-right coordinator -n $namespace delete pod --all --dry-run=server --wait=false
  row by-right coordinator --as=system:serviceaccount:$namespace:agent get nodes
}

# The policies are nobody else's business.
others() {
  local node
  for node in $own $server; do
    says allowed "kubelet-$node" "$node" phase Current
    write allowed "kubelet-$node" "$node" '{"metadata":{"annotations":{"example.com/one":"1"}}}'
    write allowed "kubelet-$node" "$node" '{"metadata":{"labels":{"example.com/one":"1"}}}'
    as admin get node "$node" -o json | jq 'del(.metadata.resourceVersion)' | given
    row allowed "kubelet-$node" replace --raw "/api/v1/nodes/$node/status?dryRun=All" -f -
    row allowed "kubelet-$node" -n kube-node-lease patch lease "$node" --dry-run=server -o name --type=merge \
      -p '{"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}'
  done
  says allowed admin $own grant "authority-test"
  says allowed admin $own pause true
  write allowed admin $own '{"spec":{"unschedulable":true},"metadata":{"labels":{"example.com/one":"1"}}}'
  leased allowed admin '{"metadata":{"labels":{"example.com/one":"1"},"annotations":{"k3s-registry-agent/retry":"token"}}}'
  event allowed admin Node $own somebody
}

# --- what no row says ----------------------------------------------------------

claim() { # NAME WANTED GOT
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
    printf 'ok    %s\n' "$1"
  else
    failed=$((failed + 1))
    printf 'FAIL  %s\n' "$1"
    diff <(echo "$2") <(echo "$3") || true
  fi
}

# Everything a token may do in a namespace by the server's own account, less what any ServiceAccount may.
rights() { # WHO NAMESPACE
  as "$1" -n "$2" auth can-i --list --no-headers | sed 's/  */ /g; s/ $//' | sort >"$work/rights"
  as nobody -n "$2" auth can-i --list --no-headers | sed 's/  */ /g; s/ $//' | sort | comm -13 - "$work/rights"
}
everything_else_is_refused() {
  local nodes="nodes [] [] [get list watch patch]"
  claim "agent: no other right in $namespace" "configmaps [] [] [get list watch]
leases.coordination.k8s.io [] [$lease] [get]
$nodes
secrets [] [] [get list watch]" "$(rights agent $namespace)"
  claim "agent: no other right in default" "endpointslices.discovery.k8s.io [] [kubernetes] [get]
events.events.k8s.io [] [] [create]
$nodes" "$(rights agent default)"
  claim "agent: no other right in kube-node-lease" "leases.coordination.k8s.io [] [] [get watch]
$nodes" "$(rights agent kube-node-lease)"
  claim "agent: no other right in kube-system" "$nodes" "$(rights agent kube-system)"
  claim "coordinator: no other right in $namespace" "configmaps [] [registries] [get watch]
leases.coordination.k8s.io [] [$lease] [get patch]
$nodes
pods [] [] [list watch]" "$(rights coordinator $namespace)"
  claim "coordinator: no other right in default" "endpointslices.discovery.k8s.io [] [kubernetes] [get]
$nodes" "$(rights coordinator default)"
  claim "coordinator: no other right in kube-node-lease" "$nodes" "$(rights coordinator kube-node-lease)"
  claim "coordinator: no other right in kube-system" "$nodes" "$(rights coordinator kube-system)"
}

the_api_server_finds_nothing_wrong_with_the_expressions() {
  claim "no expression has a warning" "" "$(kubectl get validatingadmissionpolicies -l app.kubernetes.io/name=k3s-registry-agent \
    -o 'jsonpath={.items[*].status.typeChecking.expressionWarnings}')"
}

# A status in a patch of the Node itself is let through, and changes nothing.
a_status_is_dropped() {
  claim "a status in a patch of the Node is dropped" "$own" "$(as agent patch node $own --dry-run=server --type=merge -o json \
    -p '{"status":{"conditions":[{"type":"AuthorityTest","status":"True"}]}}' |
    jq -r '.metadata.name, (.status.conditions[] | select(.type == "AuthorityTest") | .type)')"
}

kubelets_go_on() {
  local node before
  for node in $(kubectl get nodes -o 'jsonpath={.items[*].metadata.name}'); do
    before=$(renewed "$node")
    claim "the Lease of $node is renewed under the policies" yes \
      "$(within 30 renewed_since "$node" "$before" && echo yes || echo no)"
  done
}
renewed() { kubectl -n kube-node-lease get lease "$1" -o 'jsonpath={.spec.renewTime}'; }
renewed_since() { [ "$(renewed "$1")" != "$2" ]; }

# --- tokens --------------------------------------------------------------------

config_of() { # WHO USER-JSON
  kubectl config view --raw -o json | jq --argjson user "$2" '.users = [{name: "u", user: $user}] |
    .contexts = [{name: "c", context: {cluster: .clusters[0].name, user: "u"}}] | .["current-context"] = "c"' >"$work/$1"
}
token_config() { # WHO TOKEN
  [ -n "$2" ] && config_of "$1" "{\"token\": \"$2\"}"
}
pod_token() { # NODE POD-UID: as kubelet put it into the pod
  on "$1" sh -c "cat /var/lib/kubelet/pods/$2/volumes/kubernetes.io~projected/kube-api-access-*/token"
}
pod_config() { # WHO POD
  local node uid token
  node=$(kubectl -n $namespace get pod "$2" -o 'jsonpath={.spec.nodeName}')
  uid=$(kubectl -n $namespace get pod "$2" -o 'jsonpath={.metadata.uid}')
  token=$(pod_token "$node" "$uid") && token_config "$1" "$token"
}
agent_pod() { # NODE
  kubectl -n $namespace get pods -l app.kubernetes.io/component=agent --field-selector "spec.nodeName=$1" \
    -o 'jsonpath={.items[0].metadata.name}'
}
coordinator_pod() {
  kubectl -n $namespace get pods -l app.kubernetes.io/component=coordinator -o 'jsonpath={.items[0].metadata.name}' 2>/dev/null ||
    echo authority-coordinator
}
kubelet_config() { # NODE: with the certificate that its kubelet has
  local at=/var/lib/rancher/k3s/agent
  config_of "kubelet-$1" "$(jq -n --arg crt "$(on "$1" base64 -w 0 $at/client-kubelet.crt)" \
    --arg key "$(on "$1" base64 -w 0 $at/client-kubelet.key)" \
    '{"client-certificate-data": $crt, "client-key-data": $key}')"
}

prepare() {
  chmod 700 "$work"
  : >"$work/input"
  if ! kubectl -n $namespace get daemonset agent >/dev/null 2>&1; then
    installed=yes
    kubectl apply -k "$here/manifests" >/dev/null
  fi
  kubectl -n $namespace get serviceaccount coordinator >/dev/null 2>&1 || kubectl -n $namespace create serviceaccount coordinator
  kubectl -n $namespace get lease $lease >/dev/null 2>&1 || kubectl create -f - <<YAML
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: $lease, namespace: $namespace}
YAML
  if [ -z "$(kubectl -n $namespace get pods -l app.kubernetes.io/component=coordinator -o name)" ]; then
    # The coordinator's own pod where there is one; else one with its ServiceAccount, whose process is of no matter.
    kubectl create -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: authority-coordinator, namespace: $namespace}
spec:
  serviceAccountName: coordinator
  nodeName: dellmini2
  hostNetwork: true
  restartPolicy: Never
  tolerations: [{operator: Exists}]
  containers: [{name: none, image: localhost/none, imagePullPolicy: Never}]
YAML
  fi
  kubectl -n $namespace create serviceaccount authority-nobody
  token_config nobody "$(kubectl -n $namespace create token authority-nobody)"
  token_config unbound "$(kubectl -n $namespace create token agent)"
  within 60 agent_pod $own && within 60 agent_pod $server &&
    within 60 pod_config agent "$(agent_pod $own)" &&
    within 60 pod_config server-agent "$(agent_pod $server)" &&
    within 60 pod_config coordinator "$(coordinator_pod)" &&
    kubelet_config $own && kubelet_config $server || return 1
  foreign=$(kubectl get node $own -o json | jq -r '[.metadata.annotations | keys[] | select(startswith("k3s-registry-agent/") | not)][0]')
  [ "$foreign" != null ] || return 1
  # A policy counts a moment after it was written.
  within 30 judged
}
judged() {
  [[ $(as unbound patch node $own --dry-run=server --type=merge \
    -p '{"metadata":{"annotations":{"k3s-registry-agent/phase":"x"}}}' 2>&1) == *"denied request"* ]]
}

group() {
  if [ "$only" = "  " ] || [[ $only == *" $1 "* ]]; then "$1"; fi
}

at_end leave
prepare >"$work/log" 2>&1 || { echo "the cluster could not be prepared:" >&2 && cat "$work/log" >&2 && exit 1; }
group agent
group unbound
group coordinator
group others
group everything_else_is_refused
group the_api_server_finds_nothing_wrong_with_the_expressions
group a_status_is_dropped
group kubelets_go_on
summary
