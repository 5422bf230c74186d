#!/usr/bin/env python3
"""nabata and etcd under the same load, in turns within one run.

Each round starts a fresh cluster of three members of one kind, runs every workload with `nabata bench`,
and stops it; then the other kind. Medians of the rounds are compared; min and max are shown. CPU is that of the
three servers, read from /proc around each workload. Results go to a JSON file, from which
bench/plot.py draws docs/performance.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
CLUSTER = os.path.join(HERE, "..", "tests", "support", "cluster.sh")
TICK = os.sysconf("SC_CLK_TCK")

# name, bench arguments, seconds at scale 1
WORKLOADS = [
    ("put, 1 client", "put", ["--clients=1", "--conns=1"]),
    ("put, 64 clients", "put", ["--clients=64", "--conns=64"]),
    ("put, 1,000 clients", "put", ["--clients=1000", "--conns=100"]),
    ("put, 8 connections x 64", "put", ["--clients=512", "--conns=8"]),
    ("range linearizable, 1 client", "range", ["--clients=1", "--conns=1", "--consistency=l"]),
    ("range linearizable, 64 clients", "range", ["--clients=64", "--conns=64", "--consistency=l"]),
    ("range linearizable, 8 x 64", "range", ["--clients=512", "--conns=8", "--consistency=l"]),
    ("range serializable, 64 clients", "range", ["--clients=64", "--conns=64", "--consistency=s"]),
    ("range serializable, 8 x 64", "range", ["--clients=512", "--conns=8", "--consistency=s"]),
    ("txn, 64 clients", "txn", ["--clients=64", "--conns=64"]),
]


class Cluster:
    def __init__(self, kind, binary, members=3):
        self.kind = kind
        self.dir = tempfile.mkdtemp(prefix="nabata-bench-")
        self.binary = binary
        flags = ["--snapshot-count=10000", "--quota-backend-bytes=8589934592", "--log-level=error"]
        self.call("start", "--binary", binary, "--members", str(members), "--owner", str(os.getpid()), "--", *flags)
        with open(os.path.join(self.dir, "endpoints")) as f:
            self.endpoints = f.read().strip()

    def call(self, verb, *arguments):
        subprocess.run(["bash", CLUSTER, verb, "--dir", self.dir, *arguments], check=True)

    def pids(self):
        with open(os.path.join(self.dir, "pids")) as f:
            return {line.split()[0]: int(line.split()[1]) for line in f}

    def forget(self, member):
        """Takes a member off the list of those that run, so that its end is no failure; its pid."""
        pids = self.pids()
        with open(os.path.join(self.dir, "pids"), "w") as f:
            f.writelines(f"{m} {p}\n" for m, p in pids.items() if m != member)
        return pids[member]

    def cpu(self):
        total = 0
        for pid in self.pids().values():
            try:
                with open(f"/proc/{pid}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
            except FileNotFoundError:
                pass
        return total / TICK

    def memory(self):
        """Bytes of each member: (resident, of it anonymous)."""
        out = []
        for pid in self.pids().values():
            values = {}
            with open(f"/proc/{pid}/status") as f:
                for line in f:
                    if line.startswith(("VmRSS", "RssAnon")):
                        values[line.split(":")[0]] = int(line.split()[1]) * 1024
            out.append((values["VmRSS"], values["RssAnon"]))
        return out

    def stop(self):
        try:
            self.call("stop")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


def bench(nabata, cluster, verb, arguments, seconds):
    cpu = cluster.cpu()
    command = [nabata, "bench", verb, "--endpoints", cluster.endpoints, f"--duration={seconds}s",
               "--key-size=8", "--val-size=256", "--key-space-size=100000", "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}")
    said = json.loads(done.stdout)
    if said["failed"]:
        print(f"  {said['failed']} of {said['requests']} requests failed: {said['errors']}")
    return {"ops": said["requests"] - said["failed"], "ops_per_s": said["per_second"],
            "p50_us": said["latency_ms"]["p50"] * 1e3, "p99_us": said["latency_ms"]["p99"] * 1e3,
            "client_cpu_s": sum(said["client_cpu_seconds"].values()), "server_cpu_s": cluster.cpu() - cpu}


def leader_of(nabata, cluster):
    text = subprocess.run([nabata, "endpoint", "status", "--endpoints", cluster.endpoints, "-w", "json"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    for row in json.loads(text):
        if row["Status"]["header"]["member_id"] == row["Status"]["leader"]:
            return row["Endpoint"]
    return None


def member_at(cluster, endpoint):
    port = endpoint.rsplit(":", 1)[1]
    for member in cluster.pids():
        with open(os.path.join(cluster.dir, "command", member)) as f:
            words = f.read().split("\n")
        if any(port in word for word in words[words.index("--listen-client-urls"):][:2]):
            return member
    raise SystemExit(f"no member listens on {endpoint}")


def outage(nabata, cluster):
    """Seconds from kill -9 of the leader to the next acknowledged write through the survivors. A put that was
    forwarded to the dead leader is answered only after 7 s by both, so no try waits longer than a moment."""
    leader = leader_of(nabata, cluster)
    member = member_at(cluster, leader)
    rest = ",".join(e for e in cluster.endpoints.split(",") if not e.endswith(":" + leader.rsplit(":", 1)[1]))
    pid = cluster.forget(member)
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    while True:
        put = subprocess.run([nabata, "put", "--endpoints", rest, "--command-timeout=100ms", "outage", "over"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if put.returncode == 0:
            break
    took = time.monotonic() - begun
    cluster.call("restart", member)
    return took


def restart_time(cluster):
    """Seconds from starting a stopped member until its /health says true."""
    member = sorted(cluster.pids())[0]
    time.sleep(1)  # a commit of the backend, which both do every 100 ms
    cluster.call("kill", member)
    begun = time.monotonic()
    cluster.call("restart", member)
    return time.monotonic() - begun


def idle_cpu(cluster, seconds):
    before = cluster.cpu()
    time.sleep(seconds)
    return (cluster.cpu() - before) / seconds / 3


def one_round(kind, binary, options):
    cluster = Cluster(kind, binary)
    results = {}
    try:
        results["memory_idle"] = max(rss for rss, _ in cluster.memory())
        results["cpu_idle"] = idle_cpu(cluster, 3)
        for name, verb, arguments in WORKLOADS:
            results[name] = bench(options.nabata, cluster, verb, arguments, options.seconds)
            print(f"  {kind:7} {name:32} {results[name]['ops_per_s']:12,.0f}/s   p50 "
                  f"{results[name]['p50_us']:9,.0f} us   p99 {results[name]['p99_us']:9,.0f} us", flush=True)
        results["outage_s"] = outage(options.nabata, cluster)
    finally:
        cluster.stop()
    return results


def million(kind, binary, options):
    """Memory with many keys, and the time to start with them."""
    cluster = Cluster(kind, binary)
    try:
        subprocess.run([options.nabata, "bench", "put", "--endpoints", cluster.endpoints, f"--total={options.keys}",
                        f"--key-space-size={options.keys}", "--sequential-keys", "--clients=512", "--conns=8", "--key-size=16",
                        "--val-size=256", "--json"], stdout=subprocess.DEVNULL, check=True)
        time.sleep(2)
        memory = cluster.memory()
        return {"keys": options.keys, "resident": max(r for r, _ in memory), "anonymous": max(a for _, a in memory),
                "restart_s": restart_time(cluster)}
    finally:
        cluster.stop()


def median(rounds, get):
    values = [get(r) for r in rounds]
    return statistics.median(values), min(values), max(values)


def print_table(data):
    kinds = [k for k in ("nabata", "etcd") if k in data["rounds"]]
    print(f"\n{'':34}" + "".join(f"{k:>30}" for k in kinds) + (f"{'ratio':>9}" if len(kinds) == 2 else ""))

    def row(label, get, form, higher_is_better):
        cells, medians = [], []
        for k in kinds:
            mid, low, high = median(data["rounds"][k], get)
            medians.append(mid)
            cells.append(f"{form(mid)} ({form(low)}..{form(high)})")
        ratio = ""
        if len(kinds) == 2 and min(medians) > 0:
            ratio = medians[0] / medians[1] if higher_is_better else medians[1] / medians[0]
            ratio = f"{ratio:8.1f}x"
        print(f"{label:34}" + "".join(f"{c:>30}" for c in cells) + ratio)

    for name, _, _ in WORKLOADS:
        row(name + ", /s", lambda r: r[name]["ops_per_s"], lambda v: f"{v:,.0f}", True)
        row("   p50 us", lambda r: r[name]["p50_us"], lambda v: f"{v:,.0f}", False)
        row("   p99 us", lambda r: r[name]["p99_us"], lambda v: f"{v:,.0f}", False)
        row("   server CPU us a request", lambda r: r[name]["server_cpu_s"] / max(1, r[name]["ops"]) * 1e6,
            lambda v: f"{v:,.1f}", False)
    row("leader killed: next write, ms", lambda r: r["outage_s"] * 1e3, lambda v: f"{v:,.0f}", False)
    row("idle CPU a member, %", lambda r: r["cpu_idle"] * 100, lambda v: f"{v:.2f}", False)
    row("idle memory a member, MiB", lambda r: r["memory_idle"] / 2**20, lambda v: f"{v:.1f}", False)
    if "million" in data:
        print(f"\nwith {data['million'][kinds[0]]['keys']:,} keys of 256-byte values")
        for key, label, scale in (("resident", "resident memory, MiB", 2**20), ("anonymous", "of it anonymous, MiB", 2**20),
                                  ("restart_s", "restart until healthy, s", 1)):
            values = [data["million"][k][key] / scale for k in kinds]
            ratio = f"{values[1] / values[0]:8.1f}x" if len(kinds) == 2 else ""
            print(f"{label:34}" + "".join(f"{v:>30,.2f}" for v in values) + ratio)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--nabata", required=True)
    p.add_argument("--etcd")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=int, default=5, help="a workload's length")
    p.add_argument("--keys", type=int, default=1_000_000, help="for the memory figures; 0 leaves them out")
    p.add_argument("--out", default=os.path.join(HERE, "..", "build", "bench.json"))
    options = p.parse_args()
    kinds = {"nabata": options.nabata}
    if options.etcd:
        kinds["etcd"] = options.etcd
    data = {"rounds": {k: [] for k in kinds}, "seconds": options.seconds, "cores": os.cpu_count()}
    for i in range(options.rounds):
        print(f"round {i + 1} of {options.rounds}", flush=True)
        for kind, binary in kinds.items():
            data["rounds"][kind].append(one_round(kind, binary, options))
    if options.keys:
        data["million"] = {}
        for kind, binary in kinds.items():
            print(f"{kind}: {options.keys:,} keys", flush=True)
            data["million"][kind] = million(kind, binary, options)
    print_table(data)
    with open(options.out, "w") as f:
        json.dump(data, f, indent=1)
    print(f"\nwritten to {os.path.relpath(options.out)}; bench/plot.py draws it")


if __name__ == "__main__":
    sys.exit(main())
