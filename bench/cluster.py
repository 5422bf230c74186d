"""Three members of nabata or etcd on this machine, by tests/support/cluster.sh, and what they use of it."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile

CLUSTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support", "cluster.sh")
TICK = os.sysconf("SC_CLK_TCK")
FLAGS = ["--snapshot-count=10000", "--quota-backend-bytes=17179869184", "--log-level=error"]
HEALTHY_WITHIN_S = 300  # a start with millions of keys takes its time
WORDS_MAX = 300  # of a failure


def call(command: list[str], timeout: float = 120) -> str:
    """What the command prints. RuntimeError with its last words when it fails or does not end."""
    name = " ".join(os.path.basename(word) for word in (command[1:3] if command[0] == "bash" else command[:2]))
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=timeout, env=dict(os.environ, CLUSTER_DEADLINE=str(HEALTHY_WITHIN_S)))
    except subprocess.TimeoutExpired as e:
        raise RuntimeError(f"{name} did not end within {timeout:.0f} s") from e
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise RuntimeError(f"{name} failed with {done.returncode}: {words[:WORDS_MAX]}")
    return done.stdout


class Cluster:
    def __init__(self, nabata: str, binary: str, members: int = 3) -> None:
        self.nabata = nabata  # the client
        self.dir = tempfile.mkdtemp(prefix="nabata-bench-")
        try:
            self.manage("start", "--binary", binary, "--members", str(members), "--owner", str(os.getpid()), "--", *FLAGS)
        except RuntimeError:
            shutil.rmtree(self.dir, ignore_errors=True)
            raise
        with open(os.path.join(self.dir, "endpoints"), encoding="utf-8") as f:
            self.endpoints = f.read().strip()

    def manage(self, verb: str, *arguments: str) -> None:
        call(["bash", CLUSTER, verb, "--dir", self.dir, *arguments], timeout=HEALTHY_WITHIN_S + 60)

    def pids(self) -> dict[str, int]:
        with open(os.path.join(self.dir, "pids"), encoding="utf-8") as f:
            return {line.split()[0]: int(line.split()[1]) for line in f}

    def stop(self) -> None:
        try:
            self.manage("stop")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    # what the members use

    def cpu_s(self) -> float:
        """CPU seconds of all members since they began."""
        total = 0
        for pid in self.pids().values():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def cpu_fine_s(self) -> float:
        """The same to the nanosecond, of the threads that live: for idle ones, whose CPU is less than a tick."""
        total = 0
        for pid in self.pids().values():
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="utf-8") as f:
                    total += int(f.read().split()[0])
        return total / 1e9

    def memory(self) -> list[tuple[int, int]]:
        """Bytes of each member: (resident, of it anonymous)."""
        out = []
        for pid in self.pids().values():
            values = {}
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                for line in f:
                    if line.startswith(("VmRSS", "RssAnon")):
                        values[line.split(":")[0]] = int(line.split()[1]) * 1024
            out.append((values["VmRSS"], values["RssAnon"]))
        return out

    def resident(self) -> int:
        """Bytes of all members together."""
        return sum(resident for resident, _ in self.memory())

    # the leader

    def status(self) -> list[dict]:
        text = call([self.nabata, "endpoint", "status", "--endpoints", self.endpoints, "-w", "json"])
        return json.loads(text)

    def leader(self) -> tuple[str, str]:
        """(member, endpoint) of the leader."""
        for row in self.status():
            if row["Status"]["header"]["member_id"] == row["Status"]["leader"]:
                return self.member_at(row["Endpoint"]), row["Endpoint"]
        raise RuntimeError("no member says that it is the leader")

    def member_at(self, endpoint: str) -> str:
        port = endpoint.rsplit(":", 1)[1]
        for member in self.pids():
            with open(os.path.join(self.dir, "command", member), encoding="utf-8") as f:
                words = f.read().split("\n")
            if words[words.index("--listen-client-urls") + 1].endswith(":" + port):
                return member
        raise RuntimeError(f"no member listens on {endpoint}")

    def kill(self, member: str) -> None:
        """SIGKILL. The member is taken off the list of those that run, so that its end is no failure."""
        pids = self.pids()
        with open(os.path.join(self.dir, "pids"), "w", encoding="utf-8") as f:
            f.writelines(f"{m} {p}\n" for m, p in pids.items() if m != member)
        os.kill(pids[member], signal.SIGKILL)
