"""What is measured, each by a name: functions that take a Run and give figures. What the figures mean and should be is
in rows.py."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Iterable

from cluster import Cluster, call

KEYS = 100_000  # that loads write and read
HELD = 3_000  # idle connections, and then idle streams
STREAMS_PER_CONNECTION = 100
COMPACTION_RATE = 1_000  # puts a second beside it


@dataclass(frozen=True)
class Load:
    name: str
    label: str
    verb: str
    arguments: tuple[str, ...]


def _load(name: str, label: str, verb: str, clients: int, conns: int, *more: str) -> Load:
    return Load(name, label, verb, (f"--clients={clients}", f"--conns={conns}", *more))


# Reads first: then each key has one version with both, however many puts each of them does later.
LOADS = [
    _load("page", "page of 500 out of 100,000 keys, 1 client", "range", 1, 1, "--consistency=l", "--limit=500",
          "--sequential-keys"),
    _load("range-l-1", "range linearizable, 1 client", "range", 1, 1, "--consistency=l"),
    _load("range-l-64", "range linearizable, 64 clients", "range", 64, 64, "--consistency=l"),
    _load("range-l-256x1", "range linearizable, 256 connections x 1", "range", 256, 256, "--consistency=l"),
    _load("range-l-8x64", "range linearizable, 8 connections x 64", "range", 512, 8, "--consistency=l"),
    _load("range-s-64", "range serializable, 64 clients", "range", 64, 64, "--consistency=s"),
    _load("range-s-256x1", "range serializable, 256 connections x 1", "range", 256, 256, "--consistency=s"),
    _load("range-s-8x64", "range serializable, 8 connections x 64", "range", 512, 8, "--consistency=s"),
    _load("put-1", "put, 1 client", "put", 1, 1),
    _load("put-64", "put, 64 clients", "put", 64, 64),
    _load("put-256x1", "put, 256 connections x 1", "put", 256, 256),
    _load("put-100", "put, 100 connections, 1,000 in flight", "put", 1000, 100),
    _load("put-8x64", "put, 8 connections x 64", "put", 512, 8),
    _load("put-500", "put, 500/s", "put", 64, 64, "--rate=500"),
    _load("put-open", "put, 5,000/s open loop", "put", 10000, 100, "--rate=5000"),
    _load("txn-64", "txn, 64 clients", "txn", 64, 64),
]


class Run:
    """One kind of server in one round. Its cluster starts when a measure needs it, and anew after a failure."""

    def __init__(self, kind: str, binary: str, nabata: str, seconds: float, wanted: set[str],
                 record: Callable[[str, str, dict], None]) -> None:
        self.kind, self.binary, self.nabata, self.seconds = kind, binary, nabata, seconds
        self.wanted, self.record = wanted, record
        self._cluster: Cluster | None = None
        self._filled = False

    def cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self.nabata, self.binary)
            self._filled = False
        return self._cluster

    def filled_cluster(self) -> Cluster:
        """One that holds all the keys that loads use."""
        c = self.cluster()
        if not self._filled:
            fill(c, KEYS, KEYS)
            self._filled = True
        return c

    def drop(self) -> None:
        c, self._cluster = self._cluster, None
        if c is not None:
            c.stop()

    def attempt(self, name: str, measure: Callable[[], dict]) -> None:
        """Records what it gives, or why it gives nothing; the others go on."""
        if name not in self.wanted:
            return
        try:
            result = measure()
        except Exception as e:  # noqa: BLE001: whatever it is, it is the row's result
            result = {"error": f"{e or type(e).__name__}"}
            self.drop_quietly()
        self.record(self.kind, name, result)

    def drop_quietly(self) -> None:
        try:
            self.drop()
        except RuntimeError as e:
            print(f"  {self.kind}: {e}", flush=True)


# ---- loads ----

def load_command(c: Cluster, verb: str, arguments: Iterable[str]) -> list[str]:
    return [c.nabata, "bench", verb, "--endpoints", c.endpoints, "--key-size=8", "--val-size=256", "--json", *arguments]


def fill(c: Cluster, puts: int, keys: int) -> None:
    call(load_command(c, "put", [f"--total={puts}", f"--key-space-size={keys}", "--sequential-keys", "--clients=512",
                                 "--conns=8"]), timeout=60 + puts / 500)


def figures(said: dict, server_cpu_s: float) -> dict:
    """What `nabata bench --json` said, in the units of the tables."""
    ops = said["requests"] - said["failed"]
    if ops == 0:
        raise RuntimeError(f"no request succeeded: {said['errors']}")
    latency = said["latency_ms"]
    return {"ops": ops, "failed": said["failed"], "errors": said["errors"], "ops_per_s": said["per_second"],
            "p50_us": latency["p50"] * 1e3, "p99_us": latency["p99"] * 1e3, "max_us": latency["max"] * 1e3,
            "late_p99_us": said["late_ms"]["p99"] * 1e3,
            "client_cores": sum(said["client_cpu_seconds"].values()) / said["seconds"],
            "server_cpu_us": server_cpu_s / ops * 1e6, "server_cores": server_cpu_s / said["seconds"]}


def measure_load(run: Run, load: Load) -> dict:
    c = run.filled_cluster()
    before = c.cpu_s()
    said = json.loads(call(load_command(c, load.verb, [f"--key-space-size={KEYS}", f"--duration={run.seconds}s",
                                                       *load.arguments]), timeout=run.seconds + 60))
    return figures(said, c.cpu_s() - before)


# ---- idle ----

def measure_idle(run: Run) -> dict:
    c = run.cluster()
    time.sleep(1)
    before = c.cpu_fine_s()
    time.sleep(run.seconds)
    members = len(c.pids())
    return {"cpu_share": (c.cpu_fine_s() - before) / run.seconds / members,
            "resident": max(resident for resident, _ in c.memory())}


class Holder:
    """Idle connections, with or without streams, for as long as the block runs."""

    def __init__(self, c: Cluster, connections: int, streams: int) -> None:
        self.command = [c.nabata, "bench", "hold", "--endpoints", c.endpoints, f"--conns={connections}",
                        f"--streams={streams}", "--json"]

    def __enter__(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():  # said once all are open
            raise RuntimeError(self.process.communicate()[1].strip() or "bench hold said nothing")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)


def measure_held(run: Run) -> dict:
    """Resident bytes that an idle connection, and an idle stream, costs the server: both held at the same time, as
    memory that is free again would be used for the second. Sockets in the kernel are not in it."""
    run.drop()
    c = run.cluster()
    time.sleep(1)
    empty = c.resident()
    with Holder(c, HELD, 0):
        time.sleep(1)
        connected = c.resident()
        with Holder(c, HELD // STREAMS_PER_CONNECTION, STREAMS_PER_CONNECTION):
            time.sleep(1)
            streaming = c.resident()
    return {"connection": (connected - empty) / HELD, "stream": (streaming - connected) / HELD}


# ---- faults and compaction ----

def measure_outage(run: Run) -> dict:
    """From kill -9 of the leader to the next acknowledged write through the survivors. A put that was forwarded to the
    dead leader is answered only after 7 s by both, so no try waits longer than a moment."""
    c = run.cluster()
    member, endpoint = c.leader()
    rest = ",".join(e for e in c.endpoints.split(",") if not e.endswith(":" + endpoint.rsplit(":", 1)[1]))
    put = [c.nabata, "put", "--endpoints", rest, "--command-timeout=100ms", "outage", "over"]
    c.kill(member)
    begun = time.monotonic()
    while subprocess.run(put, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        if time.monotonic() - begun > 60:
            raise RuntimeError("no write for 60 s after the leader was killed")
    took = time.monotonic() - begun
    run.drop()  # a member is missing
    return {"s": took}


def measure_compaction(run: Run) -> dict:
    """Puts at a steady rate, open loop: first alone, then from half a second before a compaction of many revisions of
    few keys until it has removed them."""
    run.drop()
    c = run.cluster()
    revisions = int(40_000 * run.seconds)
    fill(c, revisions, 1_000)
    steady = [f"--rate={COMPACTION_RATE}", "--clients=5000", "--conns=64", "--key-space-size=1000"]
    quiet = json.loads(call(load_command(c, "put", [*steady, f"--duration={run.seconds}s"]), timeout=run.seconds + 60))
    at = max(row["Status"]["header"]["revision"] for row in c.status())
    load = subprocess.Popen(load_command(c, "put", [*steady, "--duration=300s"]), stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        begun = time.monotonic()
        call([c.nabata, "compaction", "--endpoints", c.endpoints, "--command-timeout=240s", "--physical", str(at)],
             timeout=250)
        took = time.monotonic() - begun
    finally:
        load.send_signal(signal.SIGINT)
        text, _ = load.communicate(timeout=60)
    said = figures(json.loads(text), 0)
    quiet_p99_us = quiet["latency_ms"]["p99"] * 1e3
    return {"revisions": revisions, "took_s": took, "p99_us": said["p99_us"], "max_us": said["max_us"],
            "failed": said["failed"], "quiet_p99_us": quiet_p99_us, "over_quiet": said["p99_us"] / quiet_p99_us}


# ---- many keys ----

def restart_times(c: Cluster) -> list[float] | dict:
    """Seconds from starting a killed member until its /health says true, of each member in turn; after one that does
    not come back those before it count."""
    times: list[float] = []
    for member in sorted(c.pids()):
        try:
            c.manage("kill", member)
            begun = time.monotonic()
            c.manage("restart", member)
        except RuntimeError as e:
            return times or {"error": str(e)}
        times.append(time.monotonic() - begun)
    return times


def measure_keys(run: Run, keys: int) -> dict:
    """Memory of a member that holds so many keys, and the time to start with them."""
    c = run.cluster()
    call(load_command(c, "put", [f"--total={keys}", f"--key-space-size={keys}", "--sequential-keys", "--clients=512",
                                 "--conns=8", "--key-size=16"]), timeout=300 + keys / 500)
    time.sleep(2)  # a commit of the backend, which both do every 100 ms, and what follows it
    memory = c.memory()
    return {"keys": keys, "resident": max(r for r, _ in memory), "anonymous": max(a for _, a in memory),
            "restart_s": restart_times(c)}


# ---- all of a round ----

def measure_round(run: Run) -> None:
    try:
        run.attempt("idle", lambda: measure_idle(run))
        run.attempt("held", lambda: measure_held(run))
        run.drop_quietly()
        for load in LOADS:
            run.attempt(load.name, lambda load=load: measure_load(run, load))
        run.attempt("outage", lambda: measure_outage(run))
        run.attempt("compaction", lambda: measure_compaction(run))
    finally:  # also when a person interrupts it
        run.drop_quietly()


def measure_many_keys(run: Run) -> None:
    """The measures keys-1000000 and so on, of which each takes minutes: once, not each round."""
    try:
        for name in sorted(run.wanted):
            if name.startswith("keys-"):
                run.drop_quietly()
                run.attempt(name, lambda name=name: measure_keys(run, int(name.removeprefix("keys-"))))
    finally:
        run.drop_quietly()


def size(binaries: list[str]) -> dict:
    return {"bytes": sum(os.path.getsize(os.path.realpath(b)) for b in binaries),
            "of": " + ".join(os.path.basename(b) for b in binaries)}
