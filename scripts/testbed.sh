#!/usr/bin/env bash
# The test bed: a k3s-like cluster of real parts in systemd-nspawn containers
# on this machine. See tests/testbed/README.md.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/testbed.sh COMMAND

  up [NODE…]                 build what is missing, start the nodes, wait until they are Ready
  down [--any]               stop everything and leave nothing behind; --any: also a bed of another checkout
  build [--all]              only build what is missing; --all: also Gitea, which else is built when it is asked for
  status                     what runs, and how it is
  kubectl ARG…               as the cluster's administrator, on this machine's files
  exec NODE COMMAND…         run in a node (or in the machine "registry")
  logs NODE [ARG…]           the journal of the node's k3s unit, with journalctl's ARGs
  registry NAME up|down      docker | gitea | proxy, on the bed's own address
  load IMAGE.tar [NODE…]     put an image archive into the containerd of the nodes
  push IMAGE.tar REFERENCE [--creds USER:PASSWORD]   into one of the bed's registries
  net NODE cut|restore       pull the node's cable, plug it in again
  kill NODE UNIT [SIGNAL]    kill a unit's main process, or k3s's child of that name
  power NODE off|on          as the plug does it; the node keeps its disk
  switch NODE refuse TEXT | slow SECONDS | off
                             k3s refuses a registries.yaml with TEXT, or starts late
  timeline [NODE…]           state changes of the k3s units, in milliseconds, as JSON lines
  wait NODE [!]CHECK SECONDS active ready cri kubelet etcd api ping lease; prints the milliseconds
  unit NODE                  k3s or k3s-agent

TESTBED_PATIENCE=N multiplies the limits of wait and up, for a machine that has much else to do.

Nodes: dellmini1 dellmini3 dellmini5 (servers), dellmini2 lenovomini (agents).
EOF
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bed=$here/.bed
src=$here/tests/testbed
run=/run/k3s-testbed # what is up now; gone with a reboot, like the processes it names
cgroup=k3sbed
switch_ns=k3sbed
subnet=10.77.0
token=testbed-token
first="" # the server that starts the cluster, known to up
kubernetes=v1.36.3
servers="dellmini1 dellmini3 dellmini5"
agents="dellmini2 lenovomini"
registry_ip=$subnet.2
# The names of the scenarios' registries; every node resolves them to one machine.
registry_names="registry.bto.bar registry.k3s.bto.bar gitea.k3s.bto.bar gitea.treytartt.com gitea.coulomb.social docker.testbed"
registry_user=registry-user
registry_password=registry-password
patience=${TESTBED_PATIENCE:-1}

address() {
    case $1 in
        registry) echo "$registry_ip" ;;
        dellmini1) echo "$subnet.11" ;;
        dellmini2) echo "$subnet.12" ;;
        dellmini3) echo "$subnet.13" ;;
        dellmini5) echo "$subnet.15" ;;
        lenovomini) echo "$subnet.16" ;;
        *) die "no node is called $1" ;;
    esac
}

unit_of() {
    case " $servers " in
        *" $1 "*) echo k3s ;;
        *) echo k3s-agent ;;
    esac
}

began=$SECONDS
say() { printf '[%4ds] %s\n' $((SECONDS - began)) "$*" >&2; }
die() {
    printf 'testbed: %s\n' "$*" >&2
    exit 1
}

# --- what the machine must have ---------------------------------------------

packages="systemd-container debootstrap iproute2 iptables util-linux procps jq curl openssl gcc libc6-dev git"

check_machine() {
    [ "$(id -u)" = 0 ] || die "must be root: it makes namespaces, cgroups and mounts"
    [ -e /sys/fs/cgroup/memory/cgroup.procs ] ||
        die "needs cgroup v1 controllers under /sys/fs/cgroup"
    command -v go >/dev/null || die "needs Go 1.26 on PATH"
    command -v apt-get >/dev/null || die "needs Debian's apt for its packages and the nodes' root"
    mkdir -p "$bed"/{bin,log,images}
    case $(stat -f -c %T "$bed") in
        overlayfs | tmpfs) die "$bed is on $(stat -f -c %T "$bed"); it must be on a plain filesystem" ;;
    esac
}

install_packages() {
    local missing="" p
    for p in $packages; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok' || missing+=" $p"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    logged apt-update 300 apt-get update
    # shellcheck disable=SC2086
    logged apt-install 600 env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $missing
}

# logged NAME SECONDS COMMAND…: output to a log, a sign of life every 20 s.
logged() {
    local name=$1 limit=$2 pid began_it=$SECONDS
    shift 2
    timeout --foreground "$limit" "$@" >"$bed/log/$name.log" 2>&1 9>&- &
    pid=$!
    # An interrupted run takes along what it was waiting for.
    # shellcheck disable=SC2064
    trap "kill $pid 2>/dev/null || true" EXIT
    trap 'exit 130' INT TERM
    while kill -0 $pid 2>/dev/null; do
        sleep 1
        if (((SECONDS - began_it) % 20 == 19)); then say "  … $name, $((SECONDS - began_it)) s"; fi
    done
    wait $pid || {
        tail -n 20 "$bed/log/$name.log" >&2
        die "$name failed or took longer than $limit s; all of it is in .bed/log/$name.log"
    }
    trap - EXIT INT TERM
}

# --- building ----------------------------------------------------------------

stamp_is() { [ "$(cat "$bed/$1.stamp" 2>/dev/null)" = "$2" ]; }
stamp() { echo "$2" >"$bed/$1.stamp"; }
sum_of() { find "$@" -type f \( -name '*.go' -o -name 'go.*' \) ! -name '*_test.go' -print0 | sort -z | xargs -0 cat | sha256sum | cut -d' ' -f1; }

go_build() { # NAME FLAGS… : in the module's folder
    local name=$1
    shift
    logged "build-$name" 3000 env -C "$src/$name" GOWORK=off GOFLAGS="-trimpath -buildvcs=false -mod=readonly" \
        GONOSUMDB='github.com/k3s-io/*' nice -n "${TESTBED_NICE:-5}" go build "$@"
}

build() {
    local sum v=k8s.io/component-base/version
    check_machine
    install_packages
    sum=$(sum_of "$src/containerd")
    if ! stamp_is containerd "$sum"; then
        say "building containerd (about 2 minutes)"
        go_build containerd -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=2.3.2-k3s2" -o "$bed/bin/" \
            github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
        stamp containerd "$sum"
    fi
    sum=$(sum_of "$src/k3s")
    if ! stamp_is k3s "$sum"; then
        say "building k3s with etcd and Kubernetes $kubernetes (about 5 minutes)"
        # The new file first, then the rename: nodes may be running the old one.
        go_build k3s -ldflags "-s -w -X $v.gitVersion=$kubernetes+k3s1 -X $v.gitMajor=1 -X $v.gitMinor=36" -o "$bed/bin/k3s.new" .
        mv "$bed/bin/k3s.new" "$bed/bin/k3s"
        CGO_ENABLED=0 go_build k3s -ldflags '-s -w' -o "$bed/bin/pause" ./pause
        ln -sf k3s "$bed/bin/crictl"
        ln -sf k3s "$bed/bin/kubectl"
        stamp k3s "$sum"
    fi
    build_root
    build_images
    build_tls
}

# Three kinds of certificate: from an authority that every node trusts, from
# one that none does, and one for another name signed by itself.
build_tls() {
    local tls=$bed/tls ca
    [ ! -e "$tls/complete" ] || return 0
    rm -rf "$tls"
    mkdir -p "$tls"
    for ca in public private; do
        openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=test bed $ca CA" \
            -keyout "$tls/$ca-ca.key" -out "$tls/$ca-ca.crt" 2>/dev/null
    done
    certificate public gitea.treytartt.com gitea.coulomb.social docker.testbed
    certificate private registry.bto.bar registry.k3s.bto.bar
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=TRAEFIK DEFAULT CERT" \
        -addext subjectAltName=DNS:traefik.default -keyout "$tls/wrong.key" -out "$tls/wrong.crt" 2>/dev/null
    touch "$tls/complete"
}

certificate() { # CA NAME…
    local ca=$1 names tls=$bed/tls
    shift
    names=$(printf 'DNS:%s,' "$@")
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$tls/$ca.key" -out "$tls/$ca.csr" 2>/dev/null
    openssl x509 -req -in "$tls/$ca.csr" -CA "$tls/$ca-ca.crt" -CAkey "$tls/$ca-ca.key" -CAcreateserial -days 3650 \
        -extfile <(echo "subjectAltName=${names%,}") -out "$tls/$ca.crt" 2>/dev/null
}

build_gitea() {
    local sum
    sum=$(sum_of "$src/gitea")
    stamp_is gitea "$sum" && return 0
    say "building Gitea (about 4 minutes)"
    go_build gitea -tags 'sqlite sqlite_unlock_notify' -ldflags '-s -w' -o "$bed/bin/gitea" code.gitea.io/gitea
    # What it reads at run time lies beside its source.
    local module
    module=$(env -C "$src/gitea" GOWORK=off GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' code.gitea.io/gitea)
    rm -rf "$bed/bin/gitea-files"
    mkdir -p "$bed/bin/gitea-files"
    cp -r "$module"/{templates,options,public} "$bed/bin/gitea-files/"
    chmod -R u+w "$bed/bin/gitea-files"
    stamp gitea "$sum"
}

node_packages=systemd,systemd-sysv,dbus,iproute2,iptables,conntrack,ethtool,kmod,procps,ca-certificates
node_packages+=,runc,containernetworking-plugins,curl,iputils-ping,busybox-static
node_packages+=,docker-registry,nginx-light,apache2-utils,openssl,git

build_root() {
    local codename site proxy="" root=$bed/root
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    stamp_is root "$codename $node_packages" && return
    # The mirror is the one this machine's apt uses.
    # shellcheck disable=SC2016
    site=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk -v c="$codename" '$1 == c && $2 == "main" { print $3; exit }')
    [ -n "$site" ] || die "apt knows no mirror for Debian '$codename' main"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    say "making the nodes' root (about 2 minutes)"
    rm -rf --one-file-system "$root"
    # A mirror that hiccups once must not cost the whole run.
    (bootstrap_root) || { say "once more" && bootstrap_root; }
    mkdir -p "$root.new/var/log/journal" "$root.new/etc/systemd/journald.conf.d"
    printf '[Journal]\nSystemMaxUse=200M\nRateLimitIntervalSec=0\n' >"$root.new/etc/systemd/journald.conf.d/testbed.conf"
    systemctl --root="$root.new" mask apt-daily.timer apt-daily-upgrade.timer console-getty.service \
        docker-registry.service nginx.service fstrim.timer e2scrub_all.timer systemd-networkd.service 2>>"$bed/log/debootstrap.log"
    : >"$root.new/etc/machine-id"
    rm -rf "$root.new"/var/cache/apt/archives/*.deb
    mv "$root.new" "$root"
    stamp root "$codename $node_packages"
}

bootstrap_root() {
    # A run that was killed may have left its /proc mounted in there.
    awk -v dir="$root.new/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
    rm -rf --one-file-system "$root.new"
    logged debootstrap 1200 env ${proxy:+http_proxy="$proxy"} \
        debootstrap --variant=minbase --include="$node_packages" "$codename" "$root.new" "$site"
}

# Two images: the sandbox of every pod, and a shell for tests.
build_images() {
    if ! [ -s "$bed/images/pause.tar" ] || [ "$bed/bin/pause" -nt "$bed/images/pause.tar" ]; then
        "$bed/bin/k3s" image pack docker.io/rancher/mirrored-pause:3.6 "$bed/images/pause.tar" "/pause=$bed/bin/pause" -- /pause
    fi
    if ! [ -s "$bed/images/busybox.tar" ] || [ "$bed/root/bin/busybox" -nt "$bed/images/busybox.tar" ]; then
        "$bed/bin/k3s" image pack docker.io/library/busybox:testbed "$bed/images/busybox.tar" \
            "/bin/busybox=$bed/root/bin/busybox" "/bin/sh=$bed/root/bin/busybox" -- /bin/busybox
    fi
}

# --- one machine of the bed --------------------------------------------------

# The hierarchies of this machine, the empty cgroup2 one of a hybrid layout
# included: nspawn takes the node's place from there, and nodes that shared a
# place in it would share their systemd's cgroups.
hierarchies() {
    local dir
    for dir in /sys/fs/cgroup/*/; do
        if [ -e "$dir/cgroup.procs" ]; then echo "$dir"; fi
    done
}

make_cgroups() {
    local node=$1 dir level
    while read -r dir; do
        for level in "$dir$cgroup" "$dir$cgroup/$node"; do
            mkdir -p "$level"
            if [ -e "$level/cpuset.cpus" ]; then
                cat "$level/../cpuset.cpus" >"$level/cpuset.cpus"
                cat "$level/../cpuset.mems" >"$level/cpuset.mems"
            fi
        done
    done < <(hierarchies)
}

join_cgroups() { # NODE: this shell, and so what it becomes
    local dir
    while read -r dir; do
        echo "$BASHPID" >"$dir$cgroup/$1/cgroup.procs"
    done < <(hierarchies)
}

make_network() {
    local node=$1 ip
    ip=$(address "$node")
    if ! [ -e "/run/netns/$switch_ns" ]; then
        ip netns add "$switch_ns"
        ip -n "$switch_ns" link set lo up
        ip -n "$switch_ns" link add br0 type bridge
        ip -n "$switch_ns" address add "$subnet.254/24" dev br0
        ip -n "$switch_ns" link set br0 up
    fi
    [ -e "/run/netns/$switch_ns-$node" ] && return
    ip netns add "$switch_ns-$node"
    ip -n "$switch_ns" link add "v-$node" type veth peer name eth0 netns "$switch_ns-$node"
    ip -n "$switch_ns" link set "v-$node" master br0 up
    ip -n "$switch_ns-$node" link set lo up
    ip -n "$switch_ns-$node" address add "$ip/24" dev eth0
    ip -n "$switch_ns-$node" link set eth0 up
    ip -n "$switch_ns-$node" route add default via "$subnet.254"
    ip netns exec "$switch_ns-$node" sysctl -qw net.ipv4.ip_forward=1
}

hosts_file() {
    local n
    echo "127.0.0.1 localhost"
    for n in $servers $agents registry; do echo "$(address "$n") $n"; done
    for n in $registry_names; do echo "$registry_ip $n"; done
}

# The part of a node's root that is its own.
make_root() {
    local node=$1 dir=$bed/nodes/$1
    [ -d "$dir/upper" ] && return
    mkdir -p "$dir"/{work,merged,rancher,kubelet} "$dir/upper.new/etc/systemd/system/multi-user.target.wants"
    local etc=$dir/upper.new/etc
    echo "$node" >"$etc/hostname"
    hosts_file >"$etc/hosts"
    : >"$etc/resolv.conf"
    mkdir -p "$etc/ssl/certs"
    cat "$bed/root/etc/ssl/certs/ca-certificates.crt" "$bed/tls/public-ca.crt" >"$etc/ssl/certs/ca-certificates.crt"
    cat >"$etc/systemd/system/testbed-prepare.service" <<'EOF'
[Unit]
Description=Make the cgroup controllers and network settings writable
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/testbed-prepare
[Install]
WantedBy=sysinit.target
EOF
    mkdir -p "$etc/systemd/system/sysinit.target.wants"
    ln -s ../testbed-prepare.service "$etc/systemd/system/sysinit.target.wants/"
    mkdir -p "$dir/upper.new/usr/local/sbin"
    cat >"$dir/upper.new/usr/local/sbin/testbed-prepare" <<'EOF'
#!/bin/sh
set -eu
mount -o remount,rw /sys/fs/cgroup
for d in /sys/fs/cgroup/*/; do
    ! mountpoint -q "$d" || mount -o remount,bind,rw "$d"
done
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
# What kubelet wants of the kernel is for the whole machine. It gets files of
# its own that say what it wants to read, and the machine stays as it is.
set_for_node() {
    mkdir -p "/run/testbed-sysctl/$1"
    echo "$2" >"/run/testbed-sysctl/$1/value"
    mount --bind "/run/testbed-sysctl/$1/value" "/proc/sys/$1"
}
set_for_node vm/overcommit_memory 1
set_for_node vm/panic_on_oom 0
set_for_node kernel/panic 10
set_for_node kernel/panic_on_oops 1
set_for_node kernel/keys/root_maxkeys 1000000
set_for_node kernel/keys/root_maxbytes 25000000
EOF
    chmod 755 "$dir/upper.new/usr/local/sbin/testbed-prepare"
    if [ "$node" != registry ]; then make_k3s "$node" "$dir" "$etc"; fi
    mv "$dir/upper.new" "$dir/upper"
}

make_k3s() {
    local node=$1 dir=$2 etc=$3 unit role args bin
    unit=$(unit_of "$node")
    mkdir -p "$etc/rancher/k3s" "$dir/upper.new/usr/local/bin"
    ln -s /opt/testbed/k3s "$dir/upper.new/usr/local/bin/k3s"
    bin=$dir/rancher/k3s/data/testbed/bin
    mkdir -p "$bin"
    ln -s testbed "$dir/rancher/k3s/data/current"
    local name
    for name in containerd containerd-shim-runc-v2 ctr crictl kubectl; do
        ln -s "/opt/testbed/$name" "$bin/$name"
    done
    if [ "$unit" = k3s ]; then
        role=server
        if [ "$node" = "$first" ]; then args="'--cluster-init'"; else args="'--server' 'https://$first:6443'"; fi
        printf 'K3S_TOKEN=%s\n' "$token" >"$etc/systemd/system/$unit.service.env"
    else
        role=agent args=""
        printf 'K3S_TOKEN=%s\nK3S_URL=https://%s:6443\n' "$token" "$first" >"$etc/systemd/system/$unit.service.env"
    fi
    chmod 600 "$etc/systemd/system/$unit.service.env"
    cat >"$etc/systemd/system/$unit.service" <<EOF
[Unit]
Description=Lightweight Kubernetes
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/$unit.service.env
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s \\
    $role \\
$(for a in $args "'--node-ip'" "'$(address "$node")'"; do printf '\t%s \\\n' "$a"; done)

EOF
    ln -s "../$unit.service" "$etc/systemd/system/multi-user.target.wants/$unit.service"
}

alive() { # NODE: is the machine on? Its process is known by id and by start time.
    local pid started
    read -r pid started 2>/dev/null <"$run/$1.pid" || return 1
    [ "$(start_time "$pid")" = "$started" ]
}
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

leader() { # the node's PID 1, as this machine counts
    local pid _
    alive "$1" || die "$1 is not on"
    read -r pid _ <"$run/$1.pid"
    pgrep -P "$pid" -x systemd || true
}

boot() {
    local node=$1 dir=$bed/nodes/$1 pid fd binds=()
    mkdir -p "$run"
    make_cgroups "$node"
    make_network "$node"
    make_root "$node"
    mountpoint -q "$dir/merged" ||
        mount -t overlay "k3sbed-$node" -o "lowerdir=$bed/root,upperdir=$dir/upper,workdir=$dir/work" "$dir/merged"
    if [ "$node" != registry ]; then binds=("--bind=$dir/rancher:/var/lib/rancher" "--bind=$dir/kubelet:/var/lib/kubelet"); fi
    (
        join_cgroups "$node"
        # Not the caller's open files: a lock of his would be held until `down`.
        for fd in /proc/"$BASHPID"/fd/*; do
            fd=${fd##*/}
            if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then exec {fd}>&-; fi
        done
        exec setsid env -i PATH="$PATH" SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_LOCK=0 \
            systemd-nspawn --quiet --keep-unit --register=no --settings=no --boot --console=pipe \
            --directory="$dir/merged" --machine="$node" --hostname="$node" \
            --network-namespace-path="/run/netns/$switch_ns-$node" --capability=all \
            --system-call-filter='@keyring bpf' --resolv-conf=off --timezone=off --link-journal=no \
            --bind-ro="$bed/bin:/opt/testbed" --bind=/dev/kmsg "${binds[@]}"
    ) </dev/null >"$bed/log/console-$node.log" 2>&1 &
    pid=$!
    disown "$pid"
    echo "$pid $(start_time "$pid")" >"$run/$node.pid"
}

# in_node NODE COMMAND…: in all of the node's namespaces and cgroups.
in_node() {
    local node=$1 pid
    shift
    pid=$(leader "$node") || return
    if [ -z "$pid" ]; then
        echo "testbed: $node has no PID 1 yet" >&2
        return 1 # not the end: a wait may ask again
    fi
    (
        join_cgroups "$node"
        exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup -- \
            env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 "$@"
    ) 9>&-
}

# --- stopping ----------------------------------------------------------------

# within SECONDS COMMAND…: until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

gone() { ! alive "$1"; }

halt() { # as pulling the plug: PID 1 of the node is killed, and all else with it
    local node=$1 pid
    if alive "$node"; then
        pid=$(leader "$node")
        if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
        within 10 gone "$node" || {
            read -r pid _ <"$run/$node.pid"
            kill -KILL "$pid" 2>/dev/null || true
            within 10 gone "$node" || die "$node does not end"
        }
    fi
    rm -f "$run/$node.pid"
    clear_cgroups "$node"
    umount_node "$node"
}

umounted() { umount "$1" 2>/dev/null || ! mountpoint -q "$1"; }
umount_node() {
    local merged=$bed/nodes/$1/merged
    [ -d "$merged" ] || return 0
    within 10 umounted "$merged" || die "$merged stays mounted"
}

# What is left in the node's cgroups was started by the bed; end it by id.
cgroup_empty() {
    local dir pids
    for dir in /sys/fs/cgroup/*/"$cgroup/$1"; do
        [ -d "$dir" ] || continue
        pids=$(find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
        # shellcheck disable=SC2086
        if [ -n "$pids" ]; then
            kill -KILL $pids 2>/dev/null || true
            return 1
        fi
        find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || return 1
    done
}
clear_cgroups() { within 15 cgroup_empty "$1" || die "cgroups of $1 stay busy"; }

# Taken from what there is, not from what should be: an interrupted run counts.
remains() {
    local path
    for path in "$bed"/nodes/* "$run"/*.pid /sys/fs/cgroup/*/"$cgroup"/*/; do
        if [ -e "$path" ]; then basename -s .pid "$path"; fi
    done | sort -u
}

# There is one bed on a machine, and it may have been started from another
# checkout, which may be gone.
may_end() { # [--any]
    local owner
    case ${1:-} in "" | --any) ;; *) die "down [--any]" ;; esac
    owner=$(cat "$run/owner" 2>/dev/null || echo "$here")
    [ "$owner" != "$here" ] || return 0
    [ "${1:-}" = --any ] || die "the bed that is up was started from $owner; down --any ends it all the same"
    say "ending the bed of $owner"
    if [ -d "$owner/.bed" ]; then
        exec 8>"$owner/.bed/lock"
        flock -w 60 8 || die "an up or down is at work in $owner"
        others_nodes=$owner/.bed/nodes
    fi
}
others_nodes=""

end_bed() {
    local node ns dir mounted
    for node in $(remains); do
        say "stopping $node"
        halt "$node"
    done
    for ns in $(ip netns list 2>/dev/null | awk '{ print $1 }'); do
        case $ns in "$switch_ns" | "$switch_ns"-*) ip netns delete "$ns" ;; esac
    done
    for dir in /sys/fs/cgroup/*/"$cgroup"; do
        if [ -d "$dir" ]; then rmdir "$dir"; fi
    done
    # Those of another checkout.
    while read -r mounted; do
        within 10 umounted "$mounted" || die "$mounted stays mounted"
    done < <(awk '$1 ~ /^k3sbed-/ { print $2 }' /proc/mounts)
    rm -rf --one-file-system "$bed/nodes" ${others_nodes:+"$others_nodes"} "$run"
}

# --- the cluster -------------------------------------------------------------

# api NODE PATH: asks that server's API as the administrator.
api() {
    local tls=$bed/nodes/$1/rancher/k3s/server/tls
    in_switch curl -sf -m "${3:-5}" --cacert "$tls/server-ca.crt" --cert "$tls/client-admin.crt" --key "$tls/client-admin.key" \
        "https://$(address "$1"):6443$2" 2>/dev/null
}

any_api() { # PATH: asks whichever server answers
    local n
    for n in $servers; do
        if alive "$n" && api "$n" "$1"; then return; fi
    done
    return 1
}

kubeconfig() { # of a server that answers, for use in the switch's namespace
    local node
    for node in $servers; do
        if ! [ -s "$bed/nodes/$node/upper/etc/rancher/k3s/k3s.yaml" ] || ! alive "$node"; then continue; fi
        local tls=$bed/nodes/$node/rancher/k3s/server/tls config=$run/kubeconfig-$node
        sed -e "s#https://127.0.0.1:6443#https://$(address "$node"):6443#" -e "s#/var/lib/rancher/k3s/server/tls#$tls#g" \
            "$bed/nodes/$node/upper/etc/rancher/k3s/k3s.yaml" >"$config"
        if api "$node" /readyz 3 >/dev/null; then
            echo "$config"
            return
        fi
    done
    return 1
}

in_switch() { nsenter --net="/run/netns/$switch_ns" -- "$@"; }

kubectl() {
    local config
    config=$(kubeconfig) || die "no server's API answers"
    KUBECONFIG=$config in_switch "$bed/bin/kubectl" "$@"
}

load() {
    local image=$1 node nodes
    shift
    [ -s "$image" ] || die "no image archive at $image"
    image=$(readlink -f "$image")
    if [ $# = 0 ]; then mapfile -t nodes < <(nodes_up); else nodes=("$@"); fi
    for node in "${nodes[@]}"; do
        in_node "$node" k3s ctr --timeout 60s images import - <"$image" >/dev/null || die "$node does not take $image"
    done
}

try_load() (load "$bed/images/pause.tar" "$1" && load "$bed/images/busybox.tar" "$1") 2>>"$bed/log/load.log"

nodes_up() {
    local n
    for n in $servers $agents; do if alive "$n"; then echo "$n"; fi; done
}

cri_answers() { in_node "$1" timeout 5 k3s crictl --timeout 3s version >/dev/null 2>&1; }

node_ready() {
    [ "$(any_api "/api/v1/nodes/$1" | jq -r '.status.conditions[] | select(.type == "Ready").status')" = True ]
}

node_votes() {
    [ "$(any_api "/api/v1/nodes/$1" | jq -r '.status.conditions[] | select(.type == "EtcdIsVoter").status')" = True ]
}

up() {
    local node wanted=${*:-$servers $agents} limit=$((420 * patience)) end
    for node in $wanted; do address "$node" >/dev/null; done
    for node in $servers; do
        case " $wanted " in *" $node "*) first=${first:-$node} ;; esac
    done
    [ -n "$first" ] || die "a cluster needs at least one of: $servers"
    build
    if [ -e "$run/complete" ]; then
        [ "$(cat "$run/complete")" = "$here $wanted" ] || die "a bed is up already ($(cat "$run/complete")); down --any ends it"
        say "is up already"
        return
    fi
    if [ -d "$run" ] && [ "$(cat "$run/owner" 2>/dev/null)" != "$here" ]; then
        die "a bed of another checkout is there: $(cat "$run/owner" 2>/dev/null); down --any ends it"
    fi
    if [ -d "$run" ] || [ -d "$bed/nodes" ]; then
        say "clearing what an earlier run left"
        end_bed
    fi
    mkdir -p "$run"
    echo "$here" >"$run/owner"
    end=$((SECONDS + limit))
    for node in $wanted; do
        say "starting $node ($(address "$node"))"
        boot "$node"
    done
    for node in $wanted; do
        within $((end - SECONDS)) cri_answers "$node" || die "$node: containerd does not answer; see: $0 logs $node"
        within $((end - SECONDS)) try_load "$node" || die "$node does not take images; see: $0 logs $node"
    done
    for node in $wanted; do
        within $((end - SECONDS)) node_ready "$node" || die "$node is not Ready; see: $0 logs $node"
        say "$node is Ready"
    done
    for node in $wanted; do
        within $((end - SECONDS)) check_active "$node" || die "$node: the unit is not active; see: $0 logs $node"
        [ "$(unit_of "$node")" = k3s-agent ] || within $((end - SECONDS)) node_votes "$node" ||
            die "$node: no EtcdIsVoter condition; see: $0 logs $node"
    done
    echo "$here $wanted" >"$run/complete"
    say "up"
}

# --- driving it from tests ---------------------------------------------------

status() {
    local node unit
    if ! [ -d "$run" ]; then
        echo "nothing is up"
        return
    fi
    for node in $servers $agents; do
        [ -d "$bed/nodes/$node" ] || continue
        unit=$(unit_of "$node")
        if alive "$node"; then
            echo "$node: on, $(in_node "$node" systemctl show "$unit" -p ActiveState,SubState,NRestarts | paste -sd ' '), containerd $(yes_no cri_answers "$node"), kubelet $(yes_no check_kubelet "$node"), Ready $(yes_no node_ready "$node")"
        else
            echo "$node: off"
        fi
    done
    if alive registry; then
        echo "registry: on, $(in_node registry systemctl list-units --no-legend --plain 'bed-*' | awk '{ print $1, $3 }' | paste -sd ' ')"
    fi
}

yes_no() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }

net() {
    local node=$1 to
    case $2 in
        cut) to=down ;;
        restore) to=up ;;
        *) die "net NODE cut|restore" ;;
    esac
    ip -n "$switch_ns" link set "v-$node" "$to"
}

kill_unit() {
    local node=$1 what=$2 signal=${3:-KILL}
    case $what in
        containerd | etcd | kubelet | kube-*)
            # shellcheck disable=SC2016
            in_node "$node" sh -c 'set -e; pid=$(systemctl show "$1" -p MainPID --value)
                pkill --signal "$2" --parent "$pid" -f "^$3( |$)"' sh "$(unit_of "$node")" "$signal" "$what" ||
                die "$node runs no $what"
            ;;
        *) in_node "$node" systemctl kill --kill-whom=main --signal="$signal" "$what" ;;
    esac
}

power() {
    [ -d "$bed/nodes/$1/upper" ] || die "$1 is not part of this bed"
    case $2 in
        off) halt "$1" ;;
        on) alive "$1" || boot "$1" ;;
        *) die "power NODE off|on" ;;
    esac
}

switch() {
    local dir=/run/k3s-testbed
    case $2 in
        refuse) echo "${3:?a text}" | put "$1" $dir/refuse-registries-with ;;
        slow) echo "${3:?seconds}" | put "$1" $dir/start-delay-seconds ;;
        off) in_node "$1" rm -rf $dir ;;
        *) die "switch NODE refuse TEXT | slow SECONDS | off" ;;
    esac
}

put() { # NODE PATH, from stdin
    # shellcheck disable=SC2016
    in_node "$1" sh -c 'mkdir -p "$(dirname "$1")" && cat >"$1"' sh "$2"
}

timeline() {
    local node nodes
    if [ $# = 0 ]; then mapfile -t nodes < <(nodes_up); else nodes=("$@"); fi
    for node in "${nodes[@]}"; do
        in_node "$node" journalctl -o json "UNIT=$(unit_of "$node").service" _PID=1 |
            jq -c --arg node "$node" '
                { "7d4958e842da4a758f6c1cdc7b36dcc5": "starting", "39f53479d3a045ac8e11786248231fbf": "started",
                  "be02cf6855d2428ba40df7e9d022f03d": "start failed", "de5b426a63be47a7b6ac3eaac82e2f6f": "stopping",
                  "9d1aaa27d60140bd96365438aad20286": "stopped", "d9b373ed55a64feb8242e02dbe79a49c": "failed",
                  "98e322203f7a4ed290d09fe03c09fe15": "main process exited",
                  "5eb03494b6584870a536b337290809b3": "restart scheduled" } as $states
                | select($states[.MESSAGE_ID // ""])
                | { ms: (.__REALTIME_TIMESTAMP | tonumber / 1000 | floor), node: $node, unit: .UNIT,
                    state: $states[.MESSAGE_ID], invocation: .INVOCATION_ID }'
    done | jq -s -c 'sort_by(.ms)[]'
}

check_active() { [ "$(in_node "$1" systemctl is-active "$(unit_of "$1")" 2>/dev/null)" = active ]; }
check_cri() { cri_answers "$1"; }
check_kubelet() { in_node "$1" curl -sf -m 2 http://127.0.0.1:10248/healthz >/dev/null; }
check_etcd() { in_node "$1" curl -sf -m 2 http://127.0.0.1:2381/health | grep -q '"health":"true"'; }
check_api() { api "$1" /readyz >/dev/null; }
check_ready() { node_ready "$1"; }
check_ping() {
    local port=6444
    if [ "$(unit_of "$1")" = k3s ]; then port=6443; fi
    [ "$(in_node "$1" curl -skf -m 2 "https://127.0.0.1:$port/ping")" = pong ]
}
check_lease() { # renewed since the wait began
    local at
    at=$(any_api "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/$1" | jq -r .spec.renewTime) &&
        [ "$(date -d "$at" +%s%3N)" -gt "$waiting_since" ]
}

wait_for() {
    local node=$1 check=${2#!} want=0 end
    declare -F "check_$check" >/dev/null || die "no check is called $check"
    [ "$check" = "$2" ] || want=1
    waiting_since=$(date +%s%3N)
    end=$((waiting_since + $3 * patience * 1000))
    while :; do
        if "check_$check" "$node" 2>/dev/null; then [ $want = 1 ] || break; else [ $want = 0 ] || break; fi
        [ "$(date +%s%3N)" -lt $end ] || die "$node: not $2 within $(($3 * patience)) s"
        sleep 0.1
    done
    echo $(($(date +%s%3N) - waiting_since))
}

# --- registries --------------------------------------------------------------

registry() {
    local unit=bed-$1
    case $1 in docker | gitea | proxy) ;; *) die "registry docker|gitea|proxy up|down" ;; esac
    case $2 in
        up) ;;
        down)
            if alive registry; then in_node registry systemctl stop "$unit"; fi
            return
            ;;
        *) die "registry NAME up|down" ;;
    esac
    [ -e "$run/complete" ] || die "no bed is up"
    if [ "$1" = gitea ]; then build_gitea; fi
    alive registry || boot registry
    within 30 registry_booted || die "the registries' machine does not start; see .bed/log/console-registry.log"
    "registry_$1"
    in_node registry systemctl daemon-reload
    in_node registry systemctl restart "$unit"
    within 60 "answers_$1" || die "$unit does not answer; see: $0 exec registry journalctl -u $unit"
    if [ "$1" = gitea ]; then gitea_users; fi
}

registry_booted() { in_node registry systemctl is-active -q multi-user.target 2>/dev/null; }
answers() { [ "$(in_node registry curl -sk -m 3 -o /dev/null -w '%{http_code}' "$2")" = "$1" ]; }
answers_docker() { answers 200 http://127.0.0.1:5000/v2/ && answers 401 http://127.0.0.1:5001/v2/; }
answers_gitea() { answers 401 http://127.0.0.1:3000/v2/; }
answers_proxy() { in_node registry curl -sk -m 3 -o /dev/null https://docker.testbed/; }

# Docker's registry twice: 5000 open, 5001 with a password; both plain HTTP.
registry_docker() {
    local name port
    for name in open auth; do
        if [ $name = open ]; then port=5000; else port=5001; fi
        {
            printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/bed-docker/%s}, delete: {enabled: true}}\n' $name
            printf 'http: {addr: ":%s"}\n' $port
            if [ $name = auth ]; then printf 'auth: {htpasswd: {realm: bed, path: /etc/bed/htpasswd}}\n'; fi
        } | put registry /etc/bed/docker-$name.yml
    done
    in_node registry htpasswd -Bbn "$registry_user" "$registry_password" | put registry /etc/bed/htpasswd
    put registry /etc/systemd/system/bed-docker.service <<'EOF'
[Service]
KillSignal=SIGKILL
ExecStart=/bin/sh -c '/usr/bin/docker-registry serve /etc/bed/docker-open.yml & exec /usr/bin/docker-registry serve /etc/bed/docker-auth.yml'
EOF
}

# A Gitea whose token realm is on another host than its pull address.
registry_gitea() {
    put registry /etc/bed/gitea.ini <<'EOF'
RUN_USER = www-data
RUN_MODE = prod
WORK_PATH = /var/lib/bed-gitea
[server]
HTTP_PORT = 3000
ROOT_URL = https://gitea.k3s.bto.bar/
PUBLIC_URL_DETECTION = never
STATIC_ROOT_PATH = /opt/testbed/gitea-files
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = /var/lib/bed-gitea/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = test-bed
[service]
DISABLE_REGISTRATION = true
[packages]
ENABLED = true
[log]
MODE = console
LEVEL = Info
EOF
    put registry /etc/systemd/system/bed-gitea.service <<'EOF'
[Service]
User=www-data
StateDirectory=bed-gitea
Environment=HOME=/var/lib/bed-gitea
ExecStart=/opt/testbed/gitea web --config /etc/bed/gitea.ini
EOF
    in_node registry chown www-data /etc/bed/gitea.ini
}

gitea_users() {
    local user
    for user in "$registry_user" jaybrto; do
        in_node registry runuser -u www-data -- env HOME=/var/lib/bed-gitea /opt/testbed/gitea --config /etc/bed/gitea.ini \
            admin user create --admin --username "$user" --password "$registry_password" --email "$user@localhost" \
            --must-change-password=false >>"$bed/log/gitea-users.log" 2>&1 || grep -q 'already exists' "$bed/log/gitea-users.log" ||
            die "Gitea does not take the user $user; see .bed/log/gitea-users.log"
    done
}

registry_proxy() {
    local kind
    for kind in public private wrong; do
        put registry /etc/bed/tls/$kind.crt <"$bed/tls/$kind.crt"
        put registry /etc/bed/tls/$kind.key <"$bed/tls/$kind.key"
    done
    {
        # shellcheck disable=SC2016
        echo 'daemon off; events {} pid /run/bed-nginx.pid; error_log stderr; http { client_max_body_size 0;
log_format asked "$time_iso8601 $host $request_method $request_uri $status"; access_log /var/log/bed-proxy.log asked;'
        proxied public 5001 docker.testbed
        proxied public 3000 gitea.treytartt.com gitea.coulomb.social
        proxied private 3000 registry.bto.bar registry.k3s.bto.bar
        proxied wrong 3000 gitea.k3s.bto.bar
        echo '}'
    } | put registry /etc/bed/nginx.conf
    put registry /etc/systemd/system/bed-proxy.service <<'EOF'
[Service]
ExecStart=/usr/sbin/nginx -c /etc/bed/nginx.conf
EOF
}

proxied() { # CERTIFICATE PORT NAME…
    local certificate=$1 port=$2
    shift 2
    echo "server { listen 443 ssl; server_name $*;
  ssl_certificate /etc/bed/tls/$certificate.crt; ssl_certificate_key /etc/bed/tls/$certificate.key;
  location / { proxy_pass http://127.0.0.1:$port; proxy_set_header Host \$host; proxy_set_header X-Forwarded-Proto https;
    proxy_request_buffering off; } }"
}

push() { # IMAGE.tar REFERENCE [--creds …]: as the registries' machine sees them
    local image=$1
    shift
    alive registry || die "no registry is up"
    # The pushing process gets the archive as an open file, whatever its path.
    in_node registry /opt/testbed/k3s image push /dev/stdin "$1" --insecure "${@:2}" <"$image"
}

main() {
    local command=${1:-}
    shift || true
    if [ "$(id -u)" != 0 ] && [ -n "$command" ]; then die "must be root: it makes namespaces, cgroups and mounts"; fi
    case $command in
        up | down | build) # one at a time
            mkdir -p "$bed"/{bin,log,images}
            exec 9>"$bed/lock"
            flock -w 5 9 || die "another up or down is at work in this checkout"
            case $command in
                up) up "$@" ;;
                down)
                    may_end "$@"
                    end_bed
                    ;;
                build)
                    build
                    if [ "${1:-}" = --all ]; then build_gitea; fi
                    ;;
            esac
            ;;
        kubectl | load | status | timeline | push) "$command" "$@" ;;
        unit) address "${1:?a node}" >/dev/null && unit_of "$1" ;;
        net | power | switch | registry)
            [ $# -ge 2 ] || die "$command takes more; see $0 help"
            "$command" "$@"
            ;;
        exec) in_node "$@" ;;
        logs) in_node "${1:?a node}" journalctl --no-pager -u "$(unit_of "$1")" "${@:2}" ;;
        kill) kill_unit "${1:?a node}" "${2:?a unit}" "${@:3}" ;;
        wait) wait_for "${1:?a node}" "${2:?a check}" "${3:?seconds}" ;;
        help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}
main "$@"
