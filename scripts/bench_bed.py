"""Bench: the whole product on the test bed, which has to be up: a rollout beside bare restarts, and what it asks of the API."""

import collections
import json
import pathlib
import re
import subprocess
import sys
import time

NAMESPACE = "k3s-registry-agent"
NODES = ["dellmini1", "dellmini3", "dellmini5", "dellmini2", "lenovomini"]
FILE = "/etc/rancher/k3s/registries.yaml"
AUDIT = "/var/lib/rancher/k3s/server/logs/audit.log"
SETTLE = 2.0  # seconds, the policy's default
BESIDE = 2.0  # seconds a node that a rollout may take beside the bare restarts
BY_HAND = 35.0  # seconds a node that the manual procedure sleeps
REQUESTS = 15
LIMIT = 300.0  # the longest wait for anything, in seconds
# Where a watch begins, or begins again: design.md counts these apart. What a decision asks has no limit and no such name.
RECONNECTS = re.compile(r"[?&]limit=|/kube-node-lease/|/configmaps/registries$|/secrets/[^/?]+$")
LEASE = "/leases/k3s-registry-agent-coordinator"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bed:
    """The driver of the bed, and what is measured through it."""

    def __init__(self, driver, patience):
        self.driver, self.patience = driver, patience
        self.servers = [node for node in NODES if self.run("unit", node).strip() == "k3s"]

    def run(self, *arguments, text="", may_fail=False):
        done = subprocess.run([self.driver, *arguments], input=text, capture_output=True, text=True, timeout=600)
        if done.returncode and not may_fail:
            raise RuntimeError(f"{' '.join(arguments[:3])}…: {done.stderr.strip()[-500:]}")
        return done.stdout

    def kubectl(self, *arguments, **options):
        """Nothing that is asked here changes by being asked twice, and on a busy machine an API server may be slow."""
        for _ in range(5):
            try:
                return self.run("kubectl", *arguments, **options)
            except RuntimeError as error:
                failed = error
                time.sleep(2)
        raise failed

    def within(self, what, condition):
        end = time.time() + LIMIT * self.patience
        while True:
            try:
                found = condition()
            except (RuntimeError, ValueError):
                found = None  # the API server that was asked goes down, too
            if found:
                return found
            if time.time() > end:
                raise RuntimeError(f"no {what} within {LIMIT * self.patience:.0f} s")
            time.sleep(0.2)

    def healthy(self, node):
        checks = ["active", "cri", "kubelet", "ready"] + (["etcd", "api"] if node in self.servers else [])
        for check in checks:
            self.run("wait", node, check, "120")

    def states(self, node, since):
        events = map(json.loads, self.run("timeline", node).splitlines())
        return [(event["ms"] / 1000, event["state"]) for event in events if event["ms"] / 1000 >= since]

    def bare_restart(self, node):
        """Seconds from the command to the first renewal of the Node's Lease by the new kubelet."""
        began = time.time()
        self.run("exec", node, "systemctl", "restart", "--no-block", self.run("unit", node).strip())

        def renewed():
            text = self.kubectl("-n", "kube-node-lease", "get", "lease", node, "-o", "jsonpath={.spec.renewTime}")
            at = stamp(text)
            # The old kubelet may renew it once more while it ends.
            starts = [at for at, state in self.states(node, began) if state == "starting"] if at > began else []
            return at - began if starts and at > starts[0] else None

        took = self.within(f"renewed Lease of {node}", renewed)
        self.healthy(node)
        return took

    def told(self):
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        ours = [(node["metadata"]["name"], node["metadata"]["annotations"]) for node in nodes]
        return {name: tuple(map(all_.get, (f"{NAMESPACE}/phase", f"{NAMESPACE}/revision"))) for name, all_ in ours}

    def common_revision(self):
        """What all have proven, if they are Current."""
        told = set(self.told().values())
        phase, revision = told.pop() if len(told) == 1 else (None, None)
        return revision if phase == "Current" else None

    def rollout(self, mirror):
        """Applies another mirror, and waits until all nodes have proven it. Gives when it began, when the first file was
        replaced and when all was done."""
        before = self.common_revision()
        self.kubectl("apply", "-f", "-", text=inputs(mirror))
        began = time.time()

        def proven():
            revision = self.common_revision()
            return revision and revision != before

        self.within("end of the rollout", proven)
        ended = time.time()
        replaced = [float(self.run("exec", node, "stat", "-c", "%.6Y", FILE)) for node in NODES]
        for node in NODES:
            states = ", ".join(f"{state} {at - began:.1f}" for at, state in self.states(node, began))
            say(f"{node}: file replaced {replaced[NODES.index(node)] - began:.1f}, {states}")
        return began, min(replaced), ended

    def audit(self, since, until):
        """What our two ServiceAccounts asked of the API servers."""
        events = []
        for server in self.servers:
            for line in self.run("exec", server, "cat", AUDIT).splitlines():
                event = json.loads(line)
                if since <= stamp(event["requestReceivedTimestamp"]) < until:
                    events.append(event)
        return sorted(events, key=lambda event: event["requestReceivedTimestamp"])

    def processes(self):
        """Resident MiB and seconds of processor time of each process of ours, by node and command."""
        script = r"""
            for dir in /proc/[0-9]*; do
                line=$(tr '\0' ' ' <"$dir/cmdline" 2>/dev/null) || continue
                case $line in
                    /k3s-registry-agent\ *)
                        echo "$(echo "$line" | cut -d' ' -f2) $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "$dir/status") \
                            $(sed 's/.*) //' "$dir/stat" | cut -d' ' -f12,13)" ;;
                esac
            done"""
        found = {}
        for node in NODES:
            for line in self.run("exec", node, "sh", "-c", script).splitlines():
                command, resident, user, system = line.split()
                found[node, command] = (int(resident) / 1024, (int(user) + int(system)) / 100)
        return found


def stamp(text):
    """Seconds since the epoch of an API server's time, 0 for none."""
    import datetime

    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


def inputs(mirror):
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: registries, namespace: {NAMESPACE}}}
data:
  policy.yaml: |
    version: 1
  registries.yaml: |
    mirrors:
      docker.io:
        endpoint: ["https://{mirror}"]
"""


def kind(event):
    """How a request counts: for a node, or apart from that."""
    uri, verb = event["requestURI"].rstrip("?"), event["verb"]
    status = event.get("responseStatus", {}).get("code", 0)
    path = uri.split("?")[0]
    by_agent = event["user"]["username"].endswith(":agent")
    if verb == "watch":
        return "watches"
    if path == "/readyz":
        return "readyz"
    if status == 409:
        return "conflicts"
    if status >= 500:
        return "answered 5xx"
    # An own Node is read where its watch begins, and after a conflict.
    if RECONNECTS.search(uri) or (verb == "get" and "/api/v1/nodes/" in path):
        return "reconnects"
    if path.endswith(LEASE) and not by_agent:
        return "the coordinator's Lease"
    return "counted"


def by_node(events):
    """Requests for each node; a gate of the coordinator is for the server that it grants next."""
    counts, gates = collections.Counter(), 0
    for event in events:
        who = event["user"]
        name = event.get("objectRef", {}).get("name", "")
        if who["username"].endswith(":agent"):
            name = who["extra"]["authentication.kubernetes.io/node-name"][0]
        elif name not in NODES:
            gates += 1
            continue
        elif gates:
            counts[name] += gates
            gates = 0
        counts[name] += 1
    return counts


def tally(events):
    return collections.Counter(map(kind, events))


def spelled(counts):
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def install(bed, image):
    bed.run("load", image)
    bed.kubectl("apply", "-k", "manifests")
    ready = lambda: bed.kubectl("-n", NAMESPACE, "get", "daemonset", "agent", "-o", "jsonpath={.status.numberReady}") == "5"
    bed.within("five ready agents", ready)
    lease = ("-n", NAMESPACE, "get", "lease", LEASE.rsplit("/", 1)[1], "-o", "jsonpath={.spec.holderIdentity}")
    bed.within("coordinator that holds the Lease", lambda: bed.kubectl(*lease))


def remove(bed):
    bed.kubectl("delete", "-k", "manifests", "--ignore-not-found", "--timeout=120s", may_fail=True)
    gone = lambda: not bed.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name").strip()
    bed.within("end of the namespace", gone)
    script = f"""systemctl stop 'k3s-registry-agent*' 2>/dev/null; systemctl reset-failed 2>/dev/null
        rm -rf {FILE} /etc/rancher/k3s/registry-tls /var/lib/k3s-registry-agent"""
    for node in NODES:
        bed.run("exec", node, "sh", "-c", script, may_fail=True)


def measure(driver, image, idle, patience):
    """The rows of the table."""
    bed = Bed(driver, patience)
    say("installing")
    try:
        install(bed, image)
        bed.rollout("first.testbed")
        return rows(bed, idle)
    finally:
        remove(bed)


def rows(bed, idle):
    say("bare restarts")
    bare = [{node: bed.bare_restart(node) for node in NODES}]
    say("the rollout")
    time.sleep(20)
    began, replaced, ended = bed.rollout("second.testbed")
    time.sleep(20)
    events = bed.audit(began, time.time())
    for node in NODES:
        bed.healthy(node)
    say("bare restarts again")
    bare.append({node: bed.bare_restart(node) for node in NODES})
    for restarts in bare:
        say(", ".join(f"{node} {took:.1f} s" for node, took in restarts.items()))
    total = sum(sum(restarts.values()) for restarts in bare) / len(bare)
    # The Event of the last proof tells the end more exactly than our own looking.
    took = max((stamp(event["requestReceivedTimestamp"]) for event in events if event["verb"] == "create"), default=ended) - began
    counted = [event for event in events if kind(event) == "counted"]
    counts = by_node(counted)
    say(f"requests by node: {spelled(counts)}")
    calls = collections.Counter(
        f"{event['user']['username'].rsplit(':', 1)[1]} {event['verb']} {event['requestURI'].split('?')[0].rsplit('/', 1)[-1]}"
        for event in counted
    )
    say(f"what was counted: {spelled(calls)}")
    say(f"all requests: {spelled(tally(events))}")
    found = [
        (f"{len(NODES)} nodes, bare restarts, sum (mean of two rounds)", f"{total:.1f} s", ""),
        ("the same, rollout, from settled inputs", f"{took - SETTLE:.1f} s", f"<= {total + BESIDE * len(NODES):.1f} s"),
        ("the same, rollout, from the edit", f"{took:.1f} s", ""),
        ("the same, manual procedure", "", f"{BY_HAND * len(NODES):.0f} s"),
        ("in a cluster, inputs settled to first file replaced", f"{(replaced - began - SETTLE) * 1000:.0f} ms", "<= 1000 ms"),
        ("API requests a node for the rollout, mean", f"{sum(counts.values()) / len(NODES):.1f}", f"<= {REQUESTS}"),
        ("the same, most", f"{max(counts.values())}", f"<= {REQUESTS}"),
    ]
    if idle:
        say(f"idle for {idle:.0f} s")
        time.sleep(30)
        since, before = time.time(), bed.processes()
        time.sleep(idle)
        until, after = time.time(), bed.processes()
        counts = tally(bed.audit(since, until))
        say(f"all requests: {spelled(counts)}")
        other = sum(counts.values()) - counts["watches"] - counts["the coordinator's Lease"]
        found.append((f"requests in {idle:.0f} s, idle, besides watches and Lease", f"{other}", "0"))
        used = {of: (after[of][1] - before[of][1]) / (until - since) * 1000 for of in after if of in before}
        for command, limit in (("agent", "<= 1 millicore"), ("coordinator", "")):
            most = max((cores for (_, other), cores in used.items() if other == command), default=0.0)
            found.append((f"{command}, idle, processor, most of all", f"{most:.2f} millicores", limit))
    residents = bed.processes()
    for command, limit in (("agent", "<= 10 MiB"), ("coordinator", "<= 64 MiB")):
        most = max((resident for (_, other), (resident, _) in residents.items() if other == command), default=0.0)
        found.append((f"{command} on the bed, resident, most of all", f"{most:.1f} MiB", limit))
    return found
