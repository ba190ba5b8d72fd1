"""Bench: the coordinator with thousands of Nodes, served by a small stand-in for the API server."""

import http.server
import json
import os
import pathlib
import queue
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse

NAMESPACE = "k3s-registry-agent"
OURS = "k3s-registry-agent/"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/k3s-registry-agent-coordinator"
NODES = "/api/v1/nodes"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
LISTS = {NODES: ("v1", "Node"), PODS: ("v1", "Pod"), CONFIG_MAPS: ("v1", "ConfigMap")}
REVISION, NEXT = "0123456789ab", "ba9876543210"
# A kubelet names up to fifty images and writes its Node's status every five minutes when nothing happens.
IMAGES, STATUS_EVERY = 50, 300.0
LIMIT = 300.0  # the longest wait for anything, in seconds


def node(number, count):
    """A Node as k3s's kubelet writes it, some 20 kB of JSON."""
    name = f"node-{number:05}.example.com"
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/instance-type": "k3s",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "k3s",
        "topology.kubernetes.io/region": "eu-central",
        "topology.kubernetes.io/zone": f"eu-central-{number % 3}",
    }
    # The servers are the last by name.
    if number + 5 >= count:
        labels |= {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"}
    annotations = {
        "alpha.kubernetes.io/provided-node-ip": address,
        "csi.volume.kubernetes.io/nodeid": json.dumps({"driver.longhorn.io": name}),
        "flannel.alpha.coreos.com/backend-data": json.dumps({"VNI": 1, "VtepMAC": f"2a:54:{number:012x}"[:17]}),
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/public-ip": address,
        "k3s.io/hostname": name,
        "k3s.io/internal-ip": address,
        "k3s.io/node-args": json.dumps(["agent", "--server", "https://k3s.example.com:6443", "--node-label", "a=b"]),
        "k3s.io/node-config-hash": f"{number:052X}====",
        "k3s.io/node-env": json.dumps({"K3S_TOKEN": "********", "K3S_URL": "https://k3s.example.com:6443"}),
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        OURS + "phase": "Current",
        OURS + "reason": "proven by its own evidence",
        OURS + "since": "2026-01-02T03:04:05Z",
        OURS + "revision": REVISION,
        OURS + "answered": "00c0ffee",
    }
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "lastHeartbeatTime": "2026-01-02T03:04:05Z",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": f"Kubelet{kind}",
            "message": f"kubelet says how it is with {kind} on this node",
        }
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    digest = f"{number:064x}"
    images = [
        {
            "names": [
                f"registry.example.com/team-{image}/application-{image}@sha256:{digest}",
                f"registry.example.com/team-{image}/application-{image}:v1.{image}.{number}",
            ],
            "sizeBytes": 100_000_000 + image,
        }
        for image in range(IMAGES)
    ]
    fields = {"f:metadata": {"f:annotations": {f"f:{key}": {} for key in annotations}}, "f:status": {}}
    return {
        "metadata": {
            "name": name,
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": labels,
            "annotations": annotations,
            "finalizers": ["wrangler.cattle.io/node"],
            "managedFields": [
                {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsV1": fields}
                for manager in ("k3s", "kubelet", "k3s-registry-agent")
            ],
        },
        "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"], "providerID": f"k3s://{name}"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images,
            "nodeInfo": {"kubeletVersion": "v1.33.0+k3s1", "operatingSystem": "linux", "machineID": digest[:32]},
        },
    }


def pod(number):
    """The agent's pod there."""
    environment = [{"name": f"NAME_{index}", "value": "a value of some length"} for index in range(10)]
    return {
        "metadata": {
            "name": f"agent-{number:05}",
            "namespace": NAMESPACE,
            "uid": f"10000000-0000-0000-0000-{number:012}",
            "labels": {"app.kubernetes.io/name": NAMESPACE, "app.kubernetes.io/component": "agent"},
        },
        "spec": {
            "nodeName": f"node-{number:05}.example.com",
            "containers": [{"name": "agent", "image": "localhost/k3s-registry-agent:0.1.0", "env": environment}],
            "tolerations": [{"operator": "Exists"}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.1"},
    }


class Cluster:
    """Objects by path, versions, and open watches."""

    def __init__(self, count):
        self.lock = threading.RLock()
        self.version = 1
        self.objects = {LEASE: {"metadata": {"name": LEASE.rsplit("/", 1)[1], "uid": "lease"}, "spec": {}}}
        self.watches = {}
        self.patches = 0
        for number in range(count):
            self.objects[f"{NODES}/{node(number, count)['metadata']['name']}"] = node(number, count)
            self.objects[f"{PODS}/agent-{number:05}"] = pod(number)
        self.objects[f"{CONFIG_MAPS}/registries"] = {"metadata": {"name": "registries"}, "data": {}}
        for item in self.objects.values():
            item["metadata"]["resourceVersion"] = "1"
        self.names = {path: sorted(key for key in self.objects if key.startswith(path + "/")) for path in LISTS}

    def change(self, path, patch):
        """A merge patch; none if it was for another version."""
        with self.lock:
            item = self.objects[path]
            wanted = patch.get("metadata", {}).pop("resourceVersion", None)
            if wanted not in (None, item["metadata"]["resourceVersion"]):
                return None
            merge(item, patch)
            self.version += 1
            item["metadata"]["resourceVersion"] = str(self.version)
            text = json.dumps(item)
            for watch in self.watches.get(path.rsplit("/", 1)[0], ()):
                watch.put(f'{{"type":"MODIFIED","object":{text}}}\n')
            return text


def merge(into, patch):
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def handler(cluster):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def answer(self, status, text):
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refuse(self, status):
            self.answer(status, json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}))

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            if url.path not in LISTS:
                with cluster.lock:
                    item = cluster.objects.get(url.path)
                    text = item and json.dumps(item)
                return self.answer(200, text) if text else self.refuse(404)
            if "watch" in query:
                return self.watch(url.path)
            version, kind = LISTS[url.path]
            start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0)
            with cluster.lock:
                names = cluster.names[url.path]
                end = min(start + limit, len(names)) if limit else len(names)
                items = ",".join(json.dumps(cluster.objects[name]) for name in names[start:end])
                meta = {"resourceVersion": str(cluster.version), "continue": str(end) if end < len(names) else ""}
            head = f'{{"kind":"{kind}List","apiVersion":"{version}","metadata":{json.dumps(meta)}'
            return self.answer(200, f'{head},"items":[{items}]}}')

        def watch(self, path):
            # Nothing changes between a list and its watch here: versions are not looked at.
            events = queue.Queue()
            with cluster.lock:
                cluster.watches.setdefault(path, []).append(events)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    event = events.get().encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            except OSError:
                with cluster.lock:
                    cluster.watches[path].remove(events)

        def do_PATCH(self):
            patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.split("?")[0] not in cluster.objects:
                return self.refuse(404)
            text = cluster.change(self.path.split("?")[0], patch)
            cluster.patches += self.path.startswith(NODES)
            return self.answer(200, text) if text else self.refuse(409)

    return Handler


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a connection that the coordinator closed


def memory(process, field):
    """VmRSS or VmHWM in MiB."""
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text).group(1)) / 1024


def processor(process):
    """Processor time used, in seconds."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition, process, what):
    end = time.monotonic() + LIMIT
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"the coordinator ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > end:
            raise RuntimeError(f"no {what} within {LIMIT:.0f} s")
        time.sleep(0.1)


def coordinator(program, count, seconds, log):
    """Runs the coordinator on so many Nodes: steady for so many seconds, then all of them ask for a turn at once."""
    cluster = Cluster(count)
    server = Server(("127.0.0.1", 0), handler(cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        command = [program, "coordinator", "--kubeconfig", file.name, "--listen", "off"]
        environment = {"PATH": os.environ.get("PATH", ""), "RUST_BACKTRACE": "0"}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return measure(cluster, process, count, seconds)
        finally:
            process.kill()
            process.wait()
            server.shutdown()


def measure(cluster, process, count, seconds):
    rollout = lambda: cluster.objects[LEASE]["metadata"].get("annotations", {}).get(OURS + "rollout", "")
    wait_for(lambda: f"{count} of {count} nodes are Current" in rollout(), process, "sentence of a steady fleet")
    names = cluster.names[NODES]
    began, used, written = time.monotonic(), processor(process), 0
    while time.monotonic() - began < seconds:
        # Kubelets write their Nodes one after the other.
        while written < (time.monotonic() - began) * count / STATUS_EVERY:
            stamp = {"status": {"nodeInfo": {"bootID": str(written)}}}
            cluster.change(names[written % count], stamp)
            written += 1
        time.sleep(0.05)
    millicores = (processor(process) - used) / (time.monotonic() - began) * 1000
    steady = memory(process, "VmRSS")
    before = cluster.patches
    for number, name in enumerate(names):
        ask = {OURS + "phase": "Pending", OURS + "wanted": f"{NEXT}/{number:08x}"}
        cluster.change(name, {"metadata": {"annotations": ask}})
    began = time.monotonic()
    wait_for(lambda: cluster.patches >= before + count, process, "word for each of them")
    return {
        "steady": steady,
        "millicores": millicores,
        "asked": memory(process, "VmRSS"),
        "most": memory(process, "VmHWM"),
        "told": time.monotonic() - began,
        "node": len(json.dumps(cluster.objects[names[0]])),
    }


if __name__ == "__main__":
    import sys

    print(coordinator(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stderr))
