"""The measurements of bench.sh."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import bench_bed
import bench_fleet

EXAMPLE = pathlib.Path("examples/ghcr-migration")
SETTLE = 2.0  # seconds, the policy's default
FIRST = 30.0  # the longest wait for anything, in seconds
FLEET = 5_000  # nodes
# Thousands of simulated nodes take minutes in a debug build; a release build of the tests would build every crate again.
OPTIMIZED = [f"--config=profile.{profile}.package.agent-core.opt-level=2" for profile in ("dev", "test")]


def agent(program, log, *arguments, **environment):
    """Starts an agent; its log goes to a file."""
    environment = {"PATH": os.environ.get("PATH", ""), "RUST_BACKTRACE": "0", **environment}
    command = [program, "agent", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(condition, process, what):
    """The moment at which a condition holds, looked at every 2 ms."""
    end = time.monotonic() + FIRST
    while time.monotonic() < end:
        if condition():
            return time.monotonic()
        if process.poll() is not None:
            raise RuntimeError(f"the agent ended with {process.returncode} while waiting for {what}")
        time.sleep(0.002)
    raise RuntimeError(f"no {what} within {FIRST:.0f} s")


def resident(process):
    """VmRSS in MiB."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def identity(path):
    """Which file lies there: a replaced one is another inode or has another time."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def replaced_after(inputs, written, process, runs):
    """Seconds from settled inputs to the replaced file, for each run."""
    manifest = inputs / "registries.yaml"
    # A new host each time, so that every file differs in meaning from the one before.
    original = manifest.read_text()
    times = []
    for run in range(runs):
        before = identity(written)
        host = f'      "run-{run}.example.com":\n        tls:\n          insecure_skip_verify: true\n'
        staged = inputs / ".staged"
        staged.write_text(original.rstrip("\n") + "\n" + host)
        changed = time.monotonic()
        staged.rename(manifest)
        seen = wait_for(lambda: identity(written) != before, process, f"replaced file in run {run}")
        times.append(seen - changed - SETTLE)
    return times


def directory(program, runs, log):
    """Memory and times of an agent on a directory of inputs."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs, root = pathlib.Path(scratch, "inputs"), pathlib.Path(scratch, "node")
        shutil.copytree(EXAMPLE, inputs)
        root.mkdir()
        written = root / "etc/rancher/k3s/registries.yaml"
        process = agent(program, log, "--inputs", inputs, "--root", root)
        try:
            wait_for(lambda: identity(written), process, "first file")
            times = replaced_after(inputs, written, process, runs)
            time.sleep(3)
            return resident(process), times
        finally:
            stop(process)


def cluster(program, log):
    """Memory of an agent that watches a cluster. Its host is an empty directory, so that it touches nothing here."""
    with tempfile.TemporaryDirectory() as root:
        process = agent(
            program,
            log,
            "--root",
            root,
            "--service",
            "none",
            KUBECONFIG=os.environ["KUBECONFIG"],
            NODE_NAME=os.environ["NODE_NAME"],
        )
        try:
            time.sleep(20)
            if process.poll() is not None:
                raise RuntimeError(f"the agent ended with {process.returncode}")
            return resident(process)
        finally:
            stop(process)


def agent_rows(args, log):
    rows = []
    if args.build.startswith("static"):
        size = os.stat(args.program).st_size / 1e6
        rows.append(("binary, static", f"{size:.2f} MB", "<= 8 MB"))
    else:
        rows.append(("binary, static", "not built", "<= 8 MB"))
    memory, times = directory(args.program, args.runs, log)
    rows.append((f"agent, resident, idle, inputs from a directory ({args.build})", f"{memory:.1f} MiB", "<= 10 MiB"))
    middle, slowest = statistics.median(times), max(times)
    label = f"inputs settled to file replaced, median of {len(times)} ({args.build})"
    rows.append((label, f"{middle * 1000:.0f} ms", "<= 1000 ms"))
    rows.append(("the same, slowest", f"{slowest * 1000:.0f} ms", ""))
    if "KUBECONFIG" in os.environ and "NODE_NAME" in os.environ:
        rows.append(("agent, resident, idle, watches on a cluster", f"{cluster(args.program, log):.1f} MiB", "<= 10 MiB"))
    else:
        rows.append(("agent, resident, idle, watches on a cluster", "no KUBECONFIG and NODE_NAME", "<= 10 MiB"))
    return rows


def fleet_rows(args, log):
    """The coordinator with many nodes."""
    rows = []
    build = "release" if args.profile == "--release" else "debug"
    decisions = cargo("run", [args.profile], "--example", "fleet_time", "--", str(FLEET))
    for state, times in re.findall(r"nodes, (.+): \d+ decisions, min .+? ms, median (.+)", decisions):
        rows.append((f"a decision, {FLEET} nodes, {state}, median ({build})", times, "<= 10 ms"))
    for size in (50, 500, FLEET):
        environment = {**os.environ, "FLEET_REQUESTS_NODES": str(size)}
        counted = cargo("test", OPTIMIZED, "--test", "fleet_requests", "--", "--nocapture", env=environment)
        for name, counts in re.findall(r"nodes, maxUnavailable (\S+): (.+)", counted):
            rows.append((f"API requests a node for a rollout, {size} simulated, maxUnavailable {name}", counts, "<= 15"))
    seen = bench_fleet.coordinator(args.program, FLEET, 60, log)
    size = f"{seen['node'] / 1000:.0f} kB each"
    rows.append((f"coordinator, resident, {FLEET} nodes ({size}), steady", f"{seen['steady']:.1f} MiB", "<= 64 MiB"))
    rows.append(("the same, all ask at once, most ever", f"{seen['most']:.1f} MiB", "<= 64 MiB"))
    rows.append(("the same, processor while kubelets write their Nodes", f"{seen['millicores']:.1f} millicores", ""))
    return rows


def cargo(verb, options, *arguments, env=None):
    command = ["cargo", verb, "--quiet", "--locked", *options, "-p", "agent-core", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def show(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, value, bound in [("what", "measured", "bound"), *rows]:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {bound}".rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parsers = parser.add_subparsers(dest="where", required=True)
    local = parsers.add_parser("local")
    local.add_argument("--program", required=True)
    local.add_argument("--build", required=True)
    local.add_argument("--runs", type=int, required=True)
    local.add_argument("--profile", required=True)
    bed = parsers.add_parser("bed")
    bed.add_argument("--driver", required=True)
    bed.add_argument("--image", required=True)
    bed.add_argument("--idle", type=float, default=0)
    bed.add_argument("--patience", type=float, default=1)
    args = parser.parse_args()

    with tempfile.TemporaryFile("w+") as log:
        try:
            if args.where == "bed":
                show(bench_bed.measure(args.driver, args.image, args.idle, args.patience))
            else:
                show(agent_rows(args, log) + fleet_rows(args, log))
        except RuntimeError as error:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
