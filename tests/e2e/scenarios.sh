#!/usr/bin/env bash
# Five real installations (docs/scenarios/), each from its own objects in examples/ to a pulled image, with a real Gitea, a
# real Docker Registry and a TLS proxy; and what each of them met when it went wrong, named before a node is disturbed.
#
#   scripts/testbed.sh up && tests/e2e/scenarios.sh
#
# Needs the image and the static binary (scripts/image.sh), and the test bed: no other cluster has these registries. Each
# scenario's checks start from what the one before left; last come a registry that wants a certificate of the node, and what
# containerd drops in silence. SCENARIOS="C E" runs these alone, SCENARIOS=hand what the operator of A
# did before there was a program, which is not among them otherwise: it sleeps too long. KEEP=DIR keeps there what was said,
# word for word, which is what the pages show.
set -euo pipefail
# Steps are chained with && up to a last || on purpose.
# shellcheck disable=SC2015

# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
scenarios=" ${SCENARIOS:-A B C D E certificates dropped} "
worker=${WORKER:-lenovomini}
# Something small to be pulled.
sample=$(dirname "$bed")/../.bed/images/busybox.tar
work=$(mktemp -d "${TMPDIR:-/tmp}/scenarios.XXXXXX")
user=registry-user password=registry-password

keep() { # NAME, what was said on standard input; it goes on
  if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP" && tee "$KEEP/$1"; else cat; fi
}

# --- the registries ------------------------------------------------------------

# As its operator configures it: the public URL, whether the request's own host is used instead (auto) or not (never), and
# whether there is a registry in it at all.
gitea() { # ROOT_URL [auto|never] [true|false]
  on registry sed -i -e "s#^ROOT_URL = .*#ROOT_URL = $1#" \
    -e "s#^PUBLIC_URL_DETECTION = .*#PUBLIC_URL_DETECTION = ${2:-never}#" \
    -e "/^\[packages\]/,/^\[log\]/s#^ENABLED = .*#ENABLED = ${3:-true}#" /etc/bed/gitea.ini &&
    on registry systemctl restart bed-gitea && within 30 gitea_answers
}
gitea_answers() { on registry curl -sf -m 3 -o /dev/null http://127.0.0.1:3000/api/healthz; }
ask_gitea() { # USER METHOD PATH [JSON]: prints the answer
  on registry curl -sf -m 10 -u "$1:$password" -X "$2" -H 'Content-Type: application/json' ${4:+-d "$4"} \
    "http://127.0.0.1:3000/api/v1$3"
}
# An owner of images that nobody sees without a credential.
private_owner() { # NAME
  ask_gitea $user POST /admin/users "{\"username\": \"$1\", \"email\": \"$1@testbed.lan\", \"password\": \"$password\",
    \"must_change_password\": false}" >/dev/null 2>&1 || true
  ask_gitea $user PATCH "/admin/users/$1" "{\"login_name\": \"$1\", \"source_id\": 0, \"visibility\": \"private\"}" >/dev/null
}
tokens=0 token_of=$user
new_token() { # USER: its text in $token, its name in $token_name
  tokens=$((tokens + 1)) token_of=$1
  token_name=scenario-$$-$tokens
  token=$(ask_gitea "$1" POST "/users/$1/tokens" "{\"name\": \"$token_name\", \"scopes\": [\"read:package\"]}" | jq -r .sha1) &&
    [ ${#token} = 40 ]
}
revoke() { ask_gitea "$1" DELETE "/users/$1/tokens/$2" >/dev/null; } # USER NAME

# The proxy, which the bed's "registry proxy up" makes anew as it was.
proxy_as_it_was() { "$bed" registry proxy up; }
no_route() { # HOST: as Traefik answers for a name that no router has
  local answer="if (\$host = $1) { return 404 '404 page not found'; }"
  on registry sed -i "s#location / {#location / { default_type text/plain; $answer#" /etc/bed/nginx.conf && restart_proxy
}
default_certificate() { # HOST: as Traefik serves a name for which it has none
  on registry sed -i -e "s# $1;#;#" -e "s#server_name gitea.k3s.bto.bar;#server_name gitea.k3s.bto.bar $1;#" /etc/bed/nginx.conf &&
    restart_proxy
}
restart_proxy() { on registry systemctl restart bed-proxy && within 10 proxy_answers; }
proxy_answers() { on registry curl -sk -m 3 -o /dev/null https://docker.testbed/; }
token_requests() { on registry sh -c 'grep -c " /v2/token" /var/log/bed-proxy.log || true'; }

# A CA, and a certificate of it for HOST in the place of the proxy's default one.
make_ca() { # NAME
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.crt" 2>/dev/null
}
certificate_of() { # CA HOST
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$work/$2.key" -out "$work/$2.csr" 2>/dev/null &&
    openssl x509 -req -in "$work/$2.csr" -CA "$work/$1.crt" -CAkey "$work/$1.key" -CAcreateserial -days 365 \
      -extfile <(echo "subjectAltName=DNS:$2") -out "$work/$2.crt" 2>/dev/null &&
    on registry sh -c 'cat >/etc/bed/tls/wrong.crt' <"$work/$2.crt" &&
    on registry sh -c 'cat >/etc/bed/tls/wrong.key' <"$work/$2.key" && restart_proxy
}

# A nameserver that knows no name, as that of a node knows none of cluster DNS.
name_server() {
  local node
  on registry sh -c 'cat >/etc/bed/names.pl' <<'PERL' || return
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
while ($socket->recv(my $message, 512)) {
  substr($message, 2, 2) = "\x81\x83";
  $socket->send($message);
}
PERL
  on registry systemd-run --quiet --collect --unit=bed-names perl /etc/bed/names.pl || return
  for node in $nodes; do on "$node" sh -c 'echo nameserver 10.77.0.2 >/etc/resolv.conf' || return; done
}
no_name_server() {
  local node
  for node in $nodes; do on "$node" sh -c ': >/etc/resolv.conf'; done
  on registry systemctl stop bed-names
}

# A Service of the cluster that leads to the registries' machine, where the scenario has a pod.
service() { # NAME PORT SPEC
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: $1, namespace: scenarios}
spec: $3
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $1-1, namespace: scenarios, labels: {kubernetes.io/service-name: $1}}
addressType: IPv4
ports: [{port: $2}]
endpoints: [{addresses: [10.77.0.2], conditions: {ready: true}}]
YAML
}
reached() { on "$worker" curl -s -m 3 -o /dev/null "$1"; } # URL, from the node

# --- inputs --------------------------------------------------------------------

# An example as it stands in examples/, with a token of ours for its placeholder; LINE... go into its policy.
example() { # DIR TOKEN [LINE...]
  local dir=$here/examples/$1 auth token=$2 file
  auth=$(printf 'admin:%s' "$token" | base64 -w 0)
  shift 2
  for file in "$dir"/*.yaml; do
    echo ---
    sed -e "s#PLACEHOLDER-TOKEN#$token#" -e "s#YWRtaW46UExBQ0VIT0xERVItVE9LRU4=#$auth#" "$file"
  done
  if [ $# -gt 0 ]; then
    grep -q policy.yaml "$file" || printf '  policy.yaml: |\n    version: 1\n'
    printf '    %s\n' "$@"
  fi
}
configmap() { # POLICY-LINE...; the file on standard input
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: registries, namespace: %s}\ndata:\n' $namespace
  printf '  policy.yaml: |\n    version: 1\n'
  [ $# = 0 ] || printf '    %s\n' "$@"
  printf '  registries.yaml: |\n'
  sed 's/^/    /'
}
pull_secret() { # NAME TOKEN HOST...
  local name=$1 token=$2 host auths=""
  shift 2
  for host; do auths+=", \"$host\": {\"username\": \"$user\", \"password\": \"$token\"}"; done
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\n' "$name" $namespace
  printf 'type: kubernetes.io/dockerconfigjson\n'
  printf 'stringData: {.dockerconfigjson: '\''{"auths": {%s}}'\''}\n' "${auths#, }"
}
ca_bundle() { # HOST FILE...
  local host=$1
  shift
  printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ca\n  namespace: %s\n' $namespace
  printf '  annotations: {k3s-registry-agent/host: "%s"}\ndata:\n  ca.crt: |\n' "$host"
  cat "$@" | sed 's/^/    /'
}

# --- one node, by the program --------------------------------------------------

give() { # the manifests, on standard input
  on "$worker" sh -c 'umask 077 && rm -rf /opt/agent/inputs && mkdir -p /opt/agent/inputs && cat >/opt/agent/inputs/all.yaml'
}
ours() { on "$worker" sh -c "$program $* 2>&1; echo \"exit \$?\""; }
lints() { ours lint --inputs /opt/agent/inputs | keep "$1.lint"; }
probes() { ours probe --inputs /opt/agent/inputs --service auto --root / | keep "$1.probe"; }
applies() { ours apply --inputs /opt/agent/inputs --root / | keep "$1.apply"; }
# Every stage stops, so that each fault can be seen to stop in time.
enforce='preflight: {name: enforce, route: enforce, tls: enforce, api: enforce, realm: enforce, credential: enforce}'
# What apply makes of the inputs that were just probed: it says why, writes no file and restarts nothing.
stops() { # NAME PART
  local said before
  before=$(show "$worker" InvocationID) && said=$(applies "$1") && has "$said" "$2" || return 1
  [[ $said != *"exit 0"* && $said != *"restart    done"* ]] || { note "$said" && return 1; }
  expect "the unit's invocation" "$before" "$(show "$worker" InvocationID)" && ! on "$worker" test -e $registries
}
# What a probe says of one registry: its line and what stands under it, up to the next.
about() { # URL
  awk -v url="$1" '/^[a-z]+:\/\// { on = index($1, url) == 1 } on'
}
judged() { # SAID URL OUTCOME VERDICT STATUS PART...
  local of outcome=$3 verdict=$4 status=$5 part
  of=$(about "$2" <<<"$1")
  [[ $(head -n 1 <<<"$of" | awk '{ print $2, $3, $4 }') == "$outcome $verdict $status" ]] ||
    { note "of $2: wanted $outcome $verdict $status" && note "$1" && return 1; }
  shift 5
  for part; do has "$of" "$part" || return 1; done
}
pulled() { # NODE IMAGE: by the node's own CRI, every layer anew
  on "$1" sh -c "k3s crictl rmi $2 >/dev/null 2>&1; k3s crictl pull $2 >/dev/null 2>&1" || { note "$1 does not pull $2" && return 1; }
}
fresh_worker() {
  forget "$worker" && on "$worker" systemctl restart --no-block "$(unit "$worker")" && sleep 2 && healthy "$worker"
}
untouched() { # SINCE_MS: no unit was restarted, no file written
  if expect "units that were restarted" 0 "$(down_at_once "$1")" && expect "files on the nodes" "$files" "$(files_of_k3s)"; then return; fi
  broken=touched && return 1
}
files_of_k3s() {
  local node
  for node in $nodes; do
    on "$node" sh -c "find /etc/rancher/k3s -type f -exec sha256sum {} + | sort | sed 's/^/$node /'"
  done
}

# --- the cluster, by the product -------------------------------------------------

told() {
  kubectl get nodes -o json | jq -r '.items[] | [.metadata.name] + [.metadata.annotations | .["k3s-registry-agent/phase"],
    .["k3s-registry-agent/revision"], .["k3s-registry-agent/reason"]] | map(. // "-") | join(" ")'
}
says() { [[ $(told) == *"$1"* ]]; } # one of the nodes
told_within() { within "$@" || { told && return 1; }; } # SECONDS COMMAND...
# Every node is Current with one revision, which is not OLD.
rolled_out() { # OLD
  local said
  said=$(told | awk '{ print $2, $3 }' | sort -u)
  [[ $said == "Current "* && $said != *$'\n'* && $said != "Current $1" && $said != "Current -" ]]
}
revision() { annotation "$worker" revision; }
proven() { # SINCE_MS: what the agents say of it
  kubectl -n $namespace logs -l app.kubernetes.io/component=agent --tail=-1 \
    --since-time="$(date -u -d "@$(($1 / 1000))" +%FT%TZ)" | sed -n 's/.*reason=\(proven by .*pull.*; preflighted\).*/\1/p'
}
# Were asked before and pulled after. A kubelet that was just started gives no log at once.
proven_by() { [ "$(proven "$2" | wc -l)" = "$1" ]; } # COUNT SINCE_MS
one_restart_each() { # SINCE_MS
  expect "restarts" "$(for node in $nodes; do echo "$node 1"; done | sort)" \
    "$(timeline "$1" | jq -r 'select(.state == "started") | .node' | sort | uniq -c | awk '{ print $2, $1 }')" &&
    expect "nodes down at once" 1 "$(down_at_once "$1")"
}
in_order() { timeline "$1" | jq -r 'select(.state == "started") | .node' | paste -sd ' '; } # SINCE_MS
everywhere_pulled() { # IMAGE
  local node
  for node in $nodes; do pulled "$node" "$1" || return; done
}
no_inputs() {
  kubectl -n $namespace delete configmap registries ca --ignore-not-found >/dev/null &&
    kubectl -n $namespace delete secret gitea --ignore-not-found >/dev/null
}
# Before a second try: nothing is desired in the cluster, what is desired next has another token, and one node that is asked by
# itself has no file of an earlier check. One goes on from it. The registry asks for certificates again where one is shown.
put_in_order() { # NAME
  proxy_as_it_was || return
  case $1 in certificates_of* | certificates_are_renewed*) asks_for_certificates || return ;; esac
  case $1 in A_another* | certificates_are* | certificates_that_are_gone*) return ;; esac
  new_token "$token_of" || return
  case $1 in
    A_names* | A_a_ca*) ;;
    [AB]_*) no_inputs && files=$(files_of_k3s) ;;
    C_*) forget "$worker" && C_service ;;
    [DE]_* | certificates_that_are_wanted*) forget "$worker" ;;
  esac
}
# Tried, refused on the first node with these words, and nothing was done anywhere.
refused_first() { # NAME WORDS; inputs on standard input
  local name=$1 words=$2 began
  began=$(now_ms)
  kubectl apply -f - >/dev/null && told_within 60 says "$words" || return 1
  told | keep "$name.told" | grep -F "$words" | sed 's/^/      /'
  untouched "$began"
}

# --- A: the GHCR migration -------------------------------------------------------

# By default these only warn: the change may be their cure.
enforced='preflight: {name: enforce, tls: enforce, realm: enforce}'

A_a_realm_without_a_route_is_named_before_a_restart() {
  no_route gitea.k3s.bto.bar &&
    example ghcr-migration "$token" "$enforced" 'order: servers-first' |
    refused_first a-realm-404 "the token realm https://gitea.k3s.bto.bar/v2/token of registry.bto.bar answers 404"
  local result=$?
  no_inputs && proxy_as_it_was && return $result
}

A_a_certificate_for_another_name_is_named_before_a_restart() {
  {
    configmap "$enforced" 'order: servers-first' <<YAML
configs:
  "gitea.k3s.bto.bar":
    tls: {insecure_skip_verify: true}
YAML
    pull_secret gitea "$token" registry.bto.bar
    ca_bundle registry.bto.bar "$work/private-ca.crt"
  } | refused_first a-wrong-name "the certificate of the token realm gitea.k3s.bto.bar"
  local result=$?
  no_inputs && return $result
}

A_an_expired_token_is_refused_once_for_all_nodes() {
  local good=$token before
  new_token $user && revoke $user "$token_name" && before=$(token_requests) || return 1
  example ghcr-migration "$token" 'order: servers-first' |
    refused_first a-expired "is refused: the token realm gitea.k3s.bto.bar" &&
    sleep 5 && expect "requests for a token, by all nodes" 2 $(($(token_requests) - before)) && has "$(told)" "dellmini1 Invalid"
  local result=$?
  token=$good
  no_inputs && return $result
}

A_a_cluster_dns_name_is_named_by_lint_and_before_a_restart() {
  local manifests said
  manifests=$(
    configmap "$enforced" <<YAML
mirrors:
  "registry.bto.bar":
    endpoint: ["http://gitea.git.svc.cluster.local:3000"]
YAML
  )
  put_program "$worker" && give <<<"$manifests" && said=$(lints a-cluster-dns) && has "$said" "[endpoint-cluster-name]" || return 1
  refused_first a-cluster-dns "the node's resolver does not know the name gitea.git.svc.cluster.local" <<<"$manifests"
  local result=$?
  no_inputs && return $result
}

A_one_configmap_and_one_secret_reach_every_node_servers_first() {
  local began before order image=registry.bto.bar/jaybrto/gwa-webhook:latest
  # The image moves: its content is on the nodes, under the name of old.
  "$bed" load "$sample" && before=$(revision) && began=$(now_ms) || return 1
  example ghcr-migration "$token" 'order: servers-first' "proof: {images: [$image]}" | kubectl apply -f - >/dev/null &&
    told_within 180 rolled_out "$before" || return 1
  told | keep a-current.told >/dev/null
  order=$(in_order "$began") && note "$order, $(($(now_ms) - began)) ms" &&
    one_restart_each "$began" &&
    expect "the first three" "dellmini1 dellmini3 dellmini5" "$(tr ' ' '\n' <<<"$order" | head -n 3 | sort | paste -sd ' ')" &&
    expect "files that differ" 1 "$(for node in $nodes; do on "$node" sha256sum $registries; done | sort -u | wc -l)" &&
    expect "nodes that keep the name of old" 5 "$(for node in $nodes; do on "$node" k3s crictl images; done | grep -c busybox:testbed)" &&
    within 60 proven_by 5 "$began" && proven "$began" | keep a-proven >/dev/null && everywhere_pulled $image
}

# --- A by hand ---------------------------------------------------------------------

# A privileged pod that runs one command in the namespaces of the node's first process.
enter() { # NAME NODE COMMAND
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: scenarios}
spec:
  nodeName: $2
  hostPID: true
  restartPolicy: Never
  tolerations: [{operator: Exists}]
  containers:
    - name: enter
      image: docker.io/library/busybox:testbed
      imagePullPolicy: Never
      securityContext: {privileged: true}
      command: [/bin/busybox, nsenter, -t, "1", -m, -u, -i, -n, -p, --, sh, -c, $(jq -Rs . <<<"$3")]
YAML
}
ended() { [ "$(kubectl -n scenarios get pod "$1" -o 'jsonpath={.status.phase}')" = Succeeded ]; }
by_hand="umask 077; cat >$registries <<'END'
configs:$(for host in registry.bto.bar registry.k3s.bto.bar gitea.k3s.bto.bar; do
  printf '\n  "%s":\n    tls: {insecure_skip_verify: true}\n    auth: {username: %s, password: TOKEN}' $host $user
done)
END"

hand_a_pod_that_writes_a_pod_that_restarts_sleep_look_next() {
  local node began all
  all=$(now_ms)
  # Removed under one name, it was removed under all.
  "$bed" load "$sample" || return 1
  for node in $nodes; do
    began=$(now_ms)
    enter "write-$node" "$node" "${by_hand//TOKEN/$token}" && within 60 ended "write-$node" &&
      enter "restart-$node" "$node" "systemctl restart $(unit "$node")" && sleep 35 &&
      kubectl get node "$node" --no-headers | keep "hand-$node" >/dev/null && evidence "$node" ready 1 >/dev/null || return 1
    note "$node: $(($(now_ms) - began)) ms"
  done
  note "all: $(($(now_ms) - all)) ms" && everywhere_pulled registry.bto.bar/jaybrto/gwa-webhook:latest
}

# --- B: a public Gitea, the Secret where the application has it --------------------

B_image=gitea.treytartt.com/admin/honeydue-api:latest
b_inputs() { example other/gitea-public "$1" "proof: {images: [$B_image]}"; } # TOKEN

B_the_application_s_own_secret_is_the_nodes_credential() {
  local began before
  before=$(revision) && no_inputs && gitea https://gitea.treytartt.com/ && new_token admin && began=$(now_ms) &&
    { kubectl get namespace honeydue >/dev/null 2>&1 || kubectl create namespace honeydue >/dev/null; } &&
    kubectl apply -f "$here/manifests/examples/secret-in-another-namespace.yaml" >/dev/null &&
    b_inputs "$token" | kubectl apply -f - >/dev/null && told_within 180 rolled_out "$before" || return 1
  one_restart_each "$began" && everywhere_pulled $B_image
}

B_a_mistyped_token_is_refused_on_the_first_node() {
  local before
  before=$(token_requests) && files=$(files_of_k3s) &&
    b_inputs "${token%?}x" | refused_first b-mistyped "the credential of gitea.treytartt.com is refused" &&
    sleep 5 && expect "requests for a token, by all nodes" 2 $(($(token_requests) - before)) &&
    expect "nodes that say Invalid" 1 "$(told | grep -c ' Invalid ')" && everywhere_pulled $B_image
}

B_a_rotated_token_rolls_through_the_cluster() {
  local began before old=$token_name
  before=$(revision) && new_token admin && began=$(now_ms) && b_inputs "$token" | kubectl apply -f - >/dev/null &&
    told_within 180 rolled_out "$before" || return 1
  note "$(in_order "$began"), $(($(now_ms) - began)) ms"
  one_restart_each "$began" && revoke admin "$old" && everywhere_pulled $B_image
}

afterwards_mode_restore_gives_back_what_was_there() {
  local began
  began=$(now_ms)
  b_inputs "$token" | sed 's/^    version: 1$/    version: 1\n    mode: restore/' | kubectl apply -f - >/dev/null &&
    told_within 180 no_file_anywhere || return 1
  within 30 restored && one_restart_each "$began"
}
no_file_anywhere() {
  local node
  for node in $nodes; do ! on "$node" test -e $registries || return; done
}
restored() { [ "$(told | awk '{ print $2 }' | sort -u)" = Current ]; }

# --- A again, on one node ----------------------------------------------------------

A_names_of_ghcr_are_kept_by_a_mirror_with_a_rewrite() {
  local said image=ghcr.io/jaybrto/gwa-webhook:latest
  fresh_worker && gitea https://gitea.k3s.bto.bar/ && new_token $user &&
    example other/ghcr-names-kept "$token" "proof: {images: [$image]}" | give && said=$(applies a-names-kept) &&
    has "$said" "exit 0" && has "$said" "phase      Current" && pulled "$worker" $image
}

# The realm's host with a good certificate of another CA: the pull host's bundle has to hold both.
A_a_ca_bundle_needs_the_realm_s_ca_too() {
  local said image=registry.bto.bar/jaybrto/gwa-webhook:latest
  fresh_worker && make_ca realm-ca && certificate_of realm-ca gitea.k3s.bto.bar &&
    ca_inputs "$work/private-ca.crt" | give && said=$(probes a-one-ca) &&
    judged "$said" https://registry.bto.bar FAULT realm-tls - \
      "containerd uses the TLS settings of registry.bto.bar for its realm too" &&
    ca_inputs "$work/private-ca.crt" "$work/realm-ca.crt" | give && said=$(probes a-both-cas) &&
    judged "$said" https://registry.bto.bar ok fine 200 "registry.bto.bar takes the credential" &&
    said=$(applies a-both-cas) && has "$said" "exit 0" && pulled "$worker" $image
}
ca_inputs() { # FILE...
  configmap 'proof: {images: [registry.bto.bar/jaybrto/gwa-webhook:latest]}' <<<""
  pull_secret gitea "$token" registry.bto.bar
  ca_bundle registry.bto.bar "$@"
}

A_another_content_of_the_bundle_takes_no_restart() {
  local said began image=registry.bto.bar/jaybrto/gwa-webhook:latest
  began=$(now_ms) && make_ca next-ca && certificate_of next-ca gitea.k3s.bto.bar &&
    ca_inputs "$work/private-ca.crt" "$work/next-ca.crt" | give && said=$(applies a-next-ca) &&
    has "$said" "exit 0" && has "$said" "effect     files" && has "$said" "restart    not needed" &&
    expect "units that were restarted" 0 "$(down_at_once "$began")" && pulled "$worker" $image
  local result=$?
  proxy_as_it_was && return $result
}

# --- C: which layer is broken? -------------------------------------------------------

node_port=http://127.0.0.1:32166 public=https://gitea.coulomb.social

C_service() {
  service gitea 3000 '{type: NodePort, ports: [{port: 3000, nodePort: 32166}]}' && within 30 reached $node_port/v2/
}
C_prepared() {
  forget "$worker" && C_service && new_token $user &&
    example other/gitea-behind-traefik "$token" "$enforce" | give
}

C_a_registry_that_is_not_enabled() {
  local said
  C_prepared && gitea https://gitea.coulomb.social/ never false && said=$(probes c-not-enabled) &&
    judged "$said" $node_port FAULT api-not-found 404 "and no registry does" "no Docker-Distribution-Api-Version" "[packages] ENABLED" &&
    judged "$said" $public away api-not-found 404 "no Docker-Distribution-Api-Version" && has "$said" "exit 4" &&
    stops c-not-enabled "and no registry does"
}

C_a_route_that_is_missing() {
  local said
  gitea https://gitea.coulomb.social/ && no_route gitea.coulomb.social && said=$(probes c-no-route) &&
    judged "$said" $public away api-not-found 404 "no Docker-Distribution-Api-Version, Server: nginx" &&
    judged "$said" $node_port FAULT realm-status 404 \
      "the token realm https://gitea.coulomb.social/v2/token of 127.0.0.1:32166 answers 404" &&
    stops c-no-route "the token realm https://gitea.coulomb.social/v2/token of 127.0.0.1:32166 answers 404"
  local result=$?
  proxy_as_it_was && return $result
}

C_a_certificate_that_is_a_proxy_s_default_one() {
  local said
  default_certificate gitea.coulomb.social && said=$(probes c-tls) &&
    judged "$said" $public away tls-untrusted - "is for traefik.default" "probably a proxy's default certificate" &&
    judged "$said" $node_port FAULT realm-tls - "the certificate of the token realm gitea.coulomb.social" &&
    stops c-tls "the certificate of the token realm gitea.coulomb.social"
  local result=$?
  proxy_as_it_was && return $result
}

C_a_realm_of_the_wrong_scheme() {
  local said
  gitea http://gitea.coulomb.social/ && said=$(probes c-scheme) &&
    judged "$said" $public away realm-scheme 401 "sends for tokens to http://gitea.coulomb.social/v2/token" "ROOT_URL" \
      "WWW-Authenticate: Bearer realm=http://gitea.coulomb.social/v2/token" &&
    judged "$said" $node_port FAULT realm-route - "connection refused by the token realm gitea.coulomb.social, port 80" &&
    stops c-scheme "connection refused by the token realm gitea.coulomb.social, port 80"
}

C_a_realm_that_is_not_reached() {
  local said
  gitea http://gitea.coulomb.svc.cluster.local:3000/ && said=$(probes c-realm-name) &&
    judged "$said" $node_port FAULT realm-name - \
      "does not know the name gitea.coulomb.svc.cluster.local, the host of the token realm" &&
    stops c-realm-name "does not know the name gitea.coulomb.svc.cluster.local"
}

C_a_credential_that_is_refused() {
  local said
  gitea https://gitea.coulomb.social/ && example other/gitea-behind-traefik "${token%?}x" | give &&
    said=$(probes c-credential) &&
    judged "$said" $node_port FAULT credential-refused 401 "the credential of 127.0.0.1:32166 is refused" && has "$said" "exit 4" &&
    stops c-credential "the credential of 127.0.0.1:32166 is refused"
}

C_without_a_credential_a_challenge_is_healthy() {
  local said
  give <"$here/examples/other/gitea-behind-traefik/registries.yaml" && said=$(probes c-healthy) &&
    judged "$said" $node_port ok fine 200 "answers to an anonymous token" && judged "$said" $public ok fine 200 &&
    has "$said" "exit 0"
}

C_both_ways_lead_to_an_image() {
  local said image=gitea.coulomb.social/jaybrto/gwa-webhook:latest
  fresh_worker && example other/gitea-behind-traefik "$token" "proof: {images: [$image]}" | give &&
    said=$(probes c-good) &&
    judged "$said" $node_port ok fine 200 && judged "$said" $public ok fine 200 && has "$said" "exit 0" &&
    said=$(applies c-good) && has "$said" "exit 0" && pulled "$worker" $image &&
    kubectl -n scenarios delete service gitea >/dev/null && within 30 not_reached $node_port/v2/ && pulled "$worker" $image
}
not_reached() { ! reached "$1"; }

# --- D: a registry in the cluster, plain http ------------------------------------------

D_name=registry.gitea.svc.cluster.local:5000

D_the_service_s_name_is_unknown_to_the_node() {
  local said
  forget "$worker" && service registry 5000 '{clusterIP: 10.43.0.50, ports: [{port: 5000}]}' &&
    within 30 reached http://10.43.0.50:5000/v2/ &&
    configmap "$enforce" <<<"configs: {\"$D_name\": {tls: {insecure_skip_verify: true}}}" | give &&
    said=$(lints d-name) && has "$said" "[cluster-name-without-mirror]" && has "$said" "ClusterIP" &&
    said=$(probes d-name) && judged "$said" https://$D_name FAULT name-unknown - \
      "the node's resolver does not know the name registry.gitea.svc.cluster.local" \
      "a mirror whose endpoint is its ClusterIP or NodePort" &&
    stops d-name "does not know the name registry.gitea.svc.cluster.local"
}

D_skip_verify_does_not_help_against_http() {
  local said
  configmap <<YAML | give && said=$(lints d-http) && has "$said" "[tls-on-http]" || return 1
mirrors: {"$D_name": {endpoint: ["http://10.43.0.50:5000"]}}
configs: {"10.43.0.50:5000": {tls: {insecure_skip_verify: true}}}
YAML
  configmap "$enforce" <<YAML | give && said=$(probes d-https) || return 1
mirrors: {"$D_name": {endpoint: ["https://10.43.0.50:5000"]}}
configs: {"10.43.0.50:5000": {tls: {insecure_skip_verify: true}}}
YAML
  judged "$said" https://10.43.0.50:5000 FAULT tls-http - "server gave HTTP response to HTTPS client" \
    "http://10.43.0.50:5000" "\`insecure_skip_verify\` does not help" &&
    stops d-https "server gave HTTP response to HTTPS client"
}

D_a_mirror_with_the_cluster_ip_keeps_the_images_names() {
  local said image=$D_name/team/tool:1
  fresh_worker && example other/registry-in-cluster none "proof: {images: [$image]}" | give && said=$(lints d-good) &&
    has "$said" "0 errors, 0 warnings" && said=$(probes d-good) && judged "$said" http://10.43.0.50:5000 ok fine 200 &&
    said=$(applies d-good) && has "$said" "exit 0" && pulled "$worker" $image
}

# --- E: a NodePort, plain http, development ---------------------------------------------

E_prepared() {
  forget "$worker" && service dev 3000 '{type: NodePort, ports: [{port: 3000, nodePort: 30080}]}' &&
    new_token $user && gitea http://localhost:3000/ auto && within 30 reached http://127.0.0.1:30080/v2/
}

E_localhost_is_the_node_itself() {
  local said
  E_prepared && { configmap "$enforce" <<<"" && pull_secret gitea "$token" localhost:3000; } | give && said=$(lints e-localhost) &&
    has "$said" "[localhost-is-the-node]" && said=$(probes e-localhost) &&
    judged "$said" http://localhost:3000 FAULT refused - "connection refused by localhost, port 3000" "wants its NodePort there" &&
    stops e-localhost "connection refused by localhost, port 3000"
}

E_http_answers_where_https_is_written() {
  local said
  configmap "$enforce" <<<'mirrors: {"localhost:3000": {endpoint: ["https://127.0.0.1:30080"]}}' | give && said=$(probes e-https) &&
    judged "$said" https://127.0.0.1:30080 FAULT tls-http - "server gave HTTP response to HTTPS client" "http://127.0.0.1:30080" &&
    stops e-https "server gave HTTP response to HTTPS client"
}

E_a_realm_on_localhost_is_the_node_too() {
  local said
  gitea http://localhost:3000/ never && example other/gitea-nodeport-http "$token" | give && said=$(probes e-realm) &&
    judged "$said" http://127.0.0.1:30080 FAULT realm-route - "connection refused by the token realm localhost, port 3000"
}

E_a_mirror_with_the_node_port_and_a_credential() {
  local said image=localhost:3000/raibid-admin/tool:latest
  gitea http://localhost:3000/ auto && fresh_worker &&
    example other/gitea-nodeport-http "$token" "proof: {images: [$image]}" | give &&
    said=$(lints e-good) && has "$said" "0 errors, 0 warnings" && said=$(probes e-good) &&
    judged "$said" http://127.0.0.1:30080 ok fine 200 "127.0.0.1:30080 takes the credential" &&
    said=$(applies e-good) && has "$said" "exit 0" && pulled "$worker" $image
}

# --- a registry that asks the node for a certificate -------------------------------------

# The proxy lets nobody through to the Docker Registry without a certificate of this CA.
asks_for_certificates() {
  local wants="ssl_client_certificate /etc/bed/tls/clients.crt; ssl_verify_client on;"
  make_ca clients && on registry sh -c 'cat >/etc/bed/tls/clients.crt' <"$work/clients.crt" &&
    on registry sed -i "s#server_name docker.testbed;#server_name docker.testbed; $wants#" /etc/bed/nginx.conf && restart_proxy
}
client_certificate() { # NAME: of that CA
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.csr" 2>/dev/null &&
    openssl x509 -req -in "$work/$1.csr" -CA "$work/clients.crt" -CAkey "$work/clients.key" -CAcreateserial -days 365 \
      -extfile <(echo "extendedKeyUsage=clientAuth") -out "$work/$1.crt" 2>/dev/null
}
certificates_inputs() { # [CERTIFICATE] [POLICY LINE]
  configmap "$enforce" "proof: {images: [docker.testbed/team/tool:1]}" ${2:+"$2"} <<<'mirrors: {"docker.testbed": {endpoint: ["https://docker.testbed"]}}'
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: docker, namespace: %s, annotations: {k3s-registry-agent/host: docker.testbed}}\n' $namespace
  printf 'type: kubernetes.io/basic-auth\nstringData: {username: %s, password: %s}\n' $user $password
  [ -n "${1:-}" ] || return 0
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: client, namespace: %s, annotations: {k3s-registry-agent/host: docker.testbed}}\n' $namespace
  printf 'type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n%s\n  tls.key: |\n%s\n' "$(sed 's/^/    /' "$work/$1.crt")" "$(sed 's/^/    /' "$work/$1.key")"
}
tls_files() { on "$worker" sh -c 'cd /etc/rancher/k3s/registry-tls 2>/dev/null && find . -type f -printf "%m %P\n" | sort'; }

certificates_that_are_wanted_are_named_before_a_restart() {
  local said
  forget "$worker" && asks_for_certificates && certificates_inputs | give && said=$(probes certificates-none) &&
    judged "$said" https://docker.testbed FAULT tls-client-certificate - "docker.testbed demands a client certificate" \
      "a Secret of type kubernetes.io/tls" && stops certificates-none "docker.testbed demands a client certificate"
}

certificates_of_the_node_lead_to_an_image() {
  local said
  fresh_worker && client_certificate node && certificates_inputs node | give && said=$(probes certificates-good) &&
    judged "$said" https://docker.testbed ok fine 200 "takes the credential" && said=$(applies certificates-good) &&
    has "$said" "exit 0" && has "$said" "restart    done" && pulled "$worker" docker.testbed/team/tool:1 &&
    expect "files" "600 docker.testbed/tls.crt
600 docker.testbed/tls.key" "$(tls_files)"
}

certificates_are_renewed_without_a_restart() {
  local said began
  began=$(now_ms) && client_certificate renewed && certificates_inputs renewed | give && said=$(applies certificates-renewed) &&
    has "$said" "exit 0" && has "$said" "effect     files" && has "$said" "restart    not needed" &&
    expect "units that were restarted" 0 "$(down_at_once "$began")" && pulled "$worker" docker.testbed/team/tool:1 &&
    expect "the certificate on the node" "$(cat "$work/renewed.crt")" \
      "$(on "$worker" cat /etc/rancher/k3s/registry-tls/docker.testbed/tls.crt)"
}

certificates_that_are_gone_are_held_until_removal_is_allowed() {
  local said
  proxy_as_it_was && certificates_inputs | give && said=$(applies certificates-held) && has "$said" "exit 2" &&
    has "$said" "the client certificate of docker.testbed came from Secret $namespace/client, which is gone" &&
    certificates_inputs "" "allowRemoval: true" | give && said=$(applies certificates-gone) && has "$said" "exit 0" &&
    expect "files" "" "$(tls_files)" && pulled "$worker" docker.testbed/team/tool:1
}

# Somebody else's folder in certs.d, of a registry that anybody may read: k3s leaves it alone, and containerd goes on
# without it, which only its log tells.
dropped_by_containerd_a_hosts_toml_is_told() {
  local said image=gitea.treytartt.com/$user/tool:latest
  local folder=/var/lib/rancher/k3s/agent/etc/containerd/certs.d/gitea.treytartt.com
  fresh_worker && gitea https://gitea.treytartt.com/ && "$bed" push "$sample" "registry.bto.bar/$user/tool:latest" --creds "$user:$password" &&
    on "$worker" sh -c "mkdir -p $folder && echo 'server = [' >$folder/hosts.toml" &&
    { configmap "proof: {images: [$image]}" <<<"" && pull_secret docker "$password" docker.testbed; } | give &&
    said=$(applies dropped) && has "$said" "exit 0" && has "$said" "containerd cannot read a hosts.toml and goes on without it"
  local result=$?
  on "$worker" rm -r "$folder"
  return $result
}

# --- all --------------------------------------------------------------------------

prepare() {
  local owner
  "$bed" registry docker up && "$bed" registry gitea up && "$bed" registry proxy up || return 1
  for owner in jaybrto apps admin raibid-admin; do private_owner $owner || return 1; done
  cp "$(dirname "$bed")/../.bed/tls/private-ca.crt" "$work/private-ca.crt" &&
    "$bed" push "$sample" 10.77.0.2:5000/team/tool:1 &&
    "$bed" push "$sample" docker.testbed/team/tool:1 --creds "$user:$password" || return 1
  for owner in jaybrto/gwa-webhook apps/gwa-webhook admin/honeydue-api raibid-admin/tool; do
    "$bed" push "$sample" "registry.bto.bar/$owner:latest" --creds "$user:$password" || return 1
  done
  kubectl create namespace scenarios && name_server && put_program "$worker" && new_token $user
}
# The next script begins with nodes that do not know us, and that have loaded nothing of ours.
leave() {
  local node
  rm -rf "$work"
  remove_product
  no_name_server
  kubectl delete namespace scenarios honeydue --ignore-not-found --timeout=60s >/dev/null
  for node in $nodes; do
    if on "$node" test -e $registries; then
      forget "$node" && on "$node" systemctl restart --no-block "$(unit "$node")" && sleep 2 && healthy "$node"
    else
      forget "$node"
    fi
  done
}
wanted() { [[ $scenarios == *" $1 "* ]]; }

need_binary
need_image
at_end leave
prepare >"$work/log" 2>&1 || { echo "the registries could not be prepared:" >&2 && cat "$work/log" >&2 && exit 1; }
if wanted A || wanted B; then
  install_product || { echo "the product could not be installed" >&2 && exit 1; }
  files=$(files_of_k3s)
fi
if wanted A; then
  check A_a_realm_without_a_route_is_named_before_a_restart
  check A_a_certificate_for_another_name_is_named_before_a_restart
  check A_an_expired_token_is_refused_once_for_all_nodes
  check A_a_cluster_dns_name_is_named_by_lint_and_before_a_restart
  check A_one_configmap_and_one_secret_reach_every_node_servers_first
fi
if wanted B; then
  check B_the_application_s_own_secret_is_the_nodes_credential
  check B_a_mistyped_token_is_refused_on_the_first_node
  check B_a_rotated_token_rolls_through_the_cluster
  check_long afterwards_mode_restore_gives_back_what_was_there
fi
if wanted A || wanted B; then remove_product; fi
if wanted hand; then check hand_a_pod_that_writes_a_pod_that_restarts_sleep_look_next; fi
if wanted A; then
  check A_names_of_ghcr_are_kept_by_a_mirror_with_a_rewrite
  check A_a_ca_bundle_needs_the_realm_s_ca_too
  check A_another_content_of_the_bundle_takes_no_restart
fi
if wanted C; then
  check C_a_registry_that_is_not_enabled
  check C_a_route_that_is_missing
  check C_a_certificate_that_is_a_proxy_s_default_one
  check C_a_realm_of_the_wrong_scheme
  check C_a_realm_that_is_not_reached
  check C_a_credential_that_is_refused
  check C_without_a_credential_a_challenge_is_healthy
  check C_both_ways_lead_to_an_image
fi
if wanted D; then
  check D_the_service_s_name_is_unknown_to_the_node
  check D_skip_verify_does_not_help_against_http
  check D_a_mirror_with_the_cluster_ip_keeps_the_images_names
fi
if wanted E; then
  check E_localhost_is_the_node_itself
  check E_http_answers_where_https_is_written
  check E_a_realm_on_localhost_is_the_node_too
  check E_a_mirror_with_the_node_port_and_a_credential
fi
if wanted certificates; then
  check certificates_that_are_wanted_are_named_before_a_restart
  check certificates_of_the_node_lead_to_an_image
  check certificates_are_renewed_without_a_restart
  check certificates_that_are_gone_are_held_until_removal_is_allowed
fi
if wanted dropped; then
  check dropped_by_containerd_a_hosts_toml_is_told
fi
summary
