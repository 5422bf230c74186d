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
RATE, SECONDS, STALL = 200, 1, 1.5


def cluster(folder: str, verb: str, *arguments: str) -> None:
    subprocess.run(["bash", CLUSTER, verb, "--dir", folder, *arguments], check=True)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def stalled(folder: str, clients: int) -> dict:
    """What bench says of a load that begins and ends while the server stands still."""
    pid = int(read(os.path.join(folder, "pids")).split()[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        load = subprocess.Popen([NABATA, "bench", "put", "--endpoints", read(os.path.join(folder, "endpoints")), "--json",
                                 f"--rate={RATE}", f"--duration={SECONDS}s", f"--clients={clients}"],
                                stdout=subprocess.PIPE, text=True)
        time.sleep(STALL)  # this is the stall itself
    finally:
        os.kill(pid, signal.SIGCONT)
    said, _ = load.communicate(timeout=60)
    return json.loads(said)


def check(folder: str, clients: int) -> None:
    said = stalled(folder, clients)
    least = STALL - SECONDS - 0.2  # the last one was due that long before the server went on; a start-up aside
    assert said["requests"] == RATE * SECONDS, f"{clients} clients: {said['requests']} of {RATE * SECONDS} are counted: {said}"
    assert said["failed"] == 0, said
    assert said["latency_ms"]["min"] >= least * 1000, f"{clients} clients: the stall is not seen: {said}"
    assert said["latency_ms"]["p50"] >= (least + SECONDS / 2) * 1000, f"{clients} clients: the stall is not seen: {said}"
    print(f"{clients} clients: p50 {said['latency_ms']['p50']:.0f} ms, sent late by {said['late_ms']}")


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
