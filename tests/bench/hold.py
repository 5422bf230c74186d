#!/usr/bin/env python3
"""`nabata bench hold` holds as many connections and streams as it says, until its time is over or the server ends them.

    hold.py NABATA
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

NABATA = os.path.abspath(sys.argv[1])
CLUSTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support", "cluster.sh")
CONNS, STREAMS = 50, 3


def cluster(folder: str, verb: str, *arguments: str) -> None:
    subprocess.run(["bash", CLUSTER, verb, "--dir", folder, *arguments], check=True)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def sockets(pid: int) -> int:
    folder = f"/proc/{pid}/fd"
    return sum(os.readlink(os.path.join(folder, fd)).startswith("socket:") for fd in os.listdir(folder))


def hold(endpoints: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([NABATA, "bench", "hold", "--endpoints", endpoints, f"--conns={CONNS}", "--json", *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def held_until_interrupted(endpoints: str, pid: int) -> None:
    before = sockets(pid)
    process = hold(endpoints)
    said = json.loads(process.stdout.readline())
    assert (said["conns"], said["streams"], said["failed"]) == (CONNS, 0, 0), said
    assert sockets(pid) >= CONNS > before, (before, sockets(pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0, process.communicate()


def ends_after_its_duration(endpoints: str) -> None:
    process = hold(endpoints, f"--streams={STREAMS}", "--duration=100ms")
    out, err = process.communicate(timeout=30)
    said = json.loads(out)
    assert process.returncode == 0 and (said["conns"], said["streams"]) == (CONNS, CONNS * STREAMS), (said, err)


def streams_that_the_server_ends_are_told(endpoints: str, folder: str) -> None:
    process = hold(endpoints, f"--streams={STREAMS}")
    process.stdout.readline()
    cluster(folder, "stop")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and f"{CONNS * STREAMS} streams ended" in err, (process.returncode, err)


def nobody_there(endpoints: str) -> None:
    process = hold(endpoints)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2 and out == "" and "refused" in err, (process.returncode, out, err)


def main() -> None:
    folder = tempfile.mkdtemp(prefix="nabata-hold-")
    try:
        cluster(folder, "start", "--binary", NABATA, "--members", "1", "--owner", str(os.getpid()))
        endpoints, pid = read(os.path.join(folder, "endpoints")), int(read(os.path.join(folder, "pids")).split()[1])
        held_until_interrupted(endpoints, pid)
        ends_after_its_duration(endpoints)
        streams_that_the_server_ends_are_told(endpoints, folder)
        nobody_there(endpoints)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
