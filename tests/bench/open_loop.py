#!/usr/bin/env python3
"""`nabata bench --rate` is an open loop: a server that stands still delays the requests due meanwhile, and every one of
them is sent, answered and counted from the time it was due, also those that were due when the load ended.

    open_loop.py NABATA
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NABATA = os.path.abspath(sys.argv[1])
CLUSTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support", "cluster.sh")
RATE, SECONDS, OVER = 200, 2, 0.5  # the server stands still until so long after the end


def cluster(folder: str, verb: str, *arguments: str) -> None:
    subprocess.run(["bash", CLUSTER, verb, "--dir", folder, *arguments], check=True)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def revision(endpoints: str) -> int:
    text = subprocess.run([NABATA, "endpoint", "status", "--endpoints", endpoints, "-w", "json"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text)[0]["Status"]["header"]["revision"]


def stalled(folder: str, clients: int) -> tuple[dict, float]:
    """What bench says of a load that is answered at first, until the server stands still; and how long it stood."""
    pid = int(read(os.path.join(folder, "pids")).split()[1])
    endpoints = read(os.path.join(folder, "endpoints"))
    before = revision(endpoints)
    load = subprocess.Popen([NABATA, "bench", "put", "--endpoints", endpoints, "--json", f"--rate={RATE}",
                             f"--duration={SECONDS}s", f"--clients={clients}"], stdout=subprocess.PIPE, text=True)
    while revision(endpoints) == before:
        assert load.poll() is None, "the load ended without a put"
    begun = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(SECONDS + OVER)  # this is the stall itself
    finally:
        os.kill(pid, signal.SIGCONT)
    stood = time.monotonic() - begun
    said, _ = load.communicate(timeout=60)
    return json.loads(said), stood


def check(folder: str, clients: int) -> None:
    said, stood = stalled(folder, clients)
    p50, p90 = said["latency_ms"]["p50"] / 1000, said["latency_ms"]["p90"] / 1000
    print(f"{clients} clients: p50 {p50:.2f} s, p90 {p90:.2f} s of a stall of {stood:.2f} s")
    assert said["requests"] == RATE * SECONDS, f"{said['requests']} of {RATE * SECONDS} are counted: {said}"
    assert said["failed"] == 0, said
    # Had the stall begun with the load, the p90 would be what is left of it after a tenth of the load.
    assert p90 >= OVER, f"the stall is not seen: {said}"


def main() -> None:
    folder = tempfile.mkdtemp(prefix="nabata-open-loop-")
    try:
        cluster(folder, "start", "--binary", NABATA, "--members", "1", "--owner", str(os.getpid()))
        check(folder, 1)  # nearly all wait for the one client
        check(folder, RATE * SECONDS)  # all are sent when they are due
        cluster(folder, "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
