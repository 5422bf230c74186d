#!/usr/bin/env python3
"""Pods of a StatefulSet that runs itself, without Kubernetes and without namespaces.

Each pod is a `nabata server --statefulset` on an address of its own in 127.0.0.0/8; a small DNS server has the
StatefulSet's names, tests/support/kubernetes/apiserver.py answers for the StatefulSet.

    statefulset.py NABATA [name of one test]
"""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
APISERVER = os.path.join(HERE, "..", "support", "kubernetes", "apiserver.py")
PATIENCE = 60
OWN = 1 + os.getpid() % 250  # two runs on one machine do not meet


class Names(threading.Thread):
    """A DNS server for <set>-<i>.<service>.<namespace>.svc; what is not there does not exist."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.table = {}
        self.start()

    def run(self):
        while True:
            try:
                query, asker = self.socket.recvfrom(2048)
            except OSError:
                return
            labels, at = [], 12
            while query[at] != 0:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            question = query[12:at + 5]
            address = self.table.get(".".join(labels).lower())
            answer = b""
            if address is not None and kind == 1:
                answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address)
            flags = 0x8180 if address is not None else 0x8183
            head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
            self.socket.sendto(head + question + answer, asker)


class Api:
    def __init__(self, folder, replicas):
        self.account = os.path.join(folder, "account")
        self.process = subprocess.Popen(
            [sys.executable, APISERVER, "--account-dir", self.account, "--replicas", str(replicas)],
            stdout=subprocess.PIPE, text=True)
        self.port, self.control = map(int, self.process.stdout.readline().split()[1:3])

    def set(self, **what):
        query = "&".join(f"{k}={v}" for k, v in what.items())
        urllib.request.urlopen(urllib.request.Request(
            f"http://127.0.0.1:{self.control}/set?{query}", method="POST"), timeout=5).read()

    def state(self):
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.control}/state", timeout=5))

    def end(self):
        self.process.kill()
        self.process.wait()


class Pod:
    def __init__(self, world, ordinal, address=None, folder=None):
        self.world, self.ordinal, self.name = world, ordinal, f"ss-{ordinal}"
        self.address = address or f"127.{OWN}.{world.net}.{10 + ordinal}"
        self.folder = folder or os.path.join(world.folder, self.name)
        self.log = os.path.join(world.folder, f"{self.name}.log")
        self.process = None

    @property
    def client(self):
        return f"{self.address}:2379"

    def start(self, dns=True):
        if dns:
            self.world.names.table[f"{self.name}.ss-service.default.svc"] = self.address
        variables = dict(os.environ, POD_NAME=self.name, POD_NAMESPACE="default",
                         NABATA_NAME_SERVERS=f"127.0.0.1:{self.world.names.port}")
        if self.world.api is not None:
            variables.update(KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT_HTTPS=str(self.world.api.port),
                             NABATA_SERVICE_ACCOUNT_DIR=self.world.api.account)
        urls = [f"--listen-{what}-urls=http://{self.address}:{port}"
                for what, port in (("peer", 2380), ("client", 2379), ("metrics", 2381))]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.world.nabata, "server", "--statefulset", "ss-service", "--data-dir", self.folder,
                 "--statefulset-replicas", str(self.world.replicas), "--termination-grace", "20",
                 "--heartbeat-interval", "100", "--election-timeout", "1000"] + urls,
                stdout=log, stderr=log, env=variables)

    def says(self, phrase, since=0):
        with open(self.log, errors="replace") as f:
            return phrase in f.read()[since:]

    def log_size(self):
        return os.path.getsize(self.log)

    def ready(self, verbose=False):
        try:
            with urllib.request.urlopen(f"http://{self.address}:2381/readyz?verbose", timeout=2) as r:
                return r.read().decode() if verbose else True
        except urllib.error.HTTPError as e:
            return e.read().decode() if verbose else False
        except OSError as e:
            return str(e) if verbose else False

    def alive(self):
        with urllib.request.urlopen(f"http://{self.address}:2381/livez", timeout=2) as r:
            return r.status == 200

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, wait=True):
        self.process.send_signal(signal.SIGTERM)
        if wait:
            return self.process.wait(timeout=40)

    def wipe(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def identity(self):
        with open(os.path.join(self.folder, "member", "identity"), "rb") as f:
            b = f.read()
        return struct.unpack("<QQ", b[16:32])  # cluster, member


class World:
    net = 1

    def __init__(self, nabata, replicas=3, api=True):
        self.nabata, self.replicas = nabata, replicas
        self.folder = tempfile.mkdtemp(prefix="statefulset-")
        self.names = Names()
        self.api = Api(self.folder, replicas) if api else None
        self.pods = {}
        self.written = 0

    def pod(self, ordinal):
        if ordinal not in self.pods:
            self.pods[ordinal] = Pod(self, ordinal)
        return self.pods[ordinal]

    def start(self, *ordinals):
        for i in ordinals:
            self.pod(i).start()

    def until(self, what, condition, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                value = condition()
                if value:
                    return value
            except (OSError, AssertionError, KeyError, ValueError, subprocess.SubprocessError):
                pass
            time.sleep(0.05)
        self.fail(f"not within {seconds} s: {what}")

    def fail(self, why):
        for p in self.pods.values():
            print(f"---- {p.name}: {p.ready(verbose=True)}", file=sys.stderr)
            with open(p.log, errors="replace") as f:
                sys.stderr.write("".join(f.readlines()[-15:]))
        raise SystemExit(f"FAILED: {why}")

    def expect(self, truth, why):
        if not truth:
            self.fail(why)

    def all_ready(self, *ordinals):
        self.until(f"pods {ordinals} are ready", lambda: all(self.pod(i).ready() for i in ordinals))

    def run(self, *words, endpoints=None):
        endpoints = endpoints or [p.client for p in self.pods.values() if p.process.poll() is None]
        return subprocess.run([self.nabata, *words, "--endpoints", ",".join(endpoints)], capture_output=True,
                              text=True, timeout=20)

    def members(self):
        r = self.run("member", "list", "-w", "json")
        assert r.returncode == 0, r.stderr
        return json.loads(r.stdout)["members"]

    def has_voters(self, *ordinals):
        members = self.members()
        return sorted(m["name"] for m in members) == sorted(f"ss-{i}" for i in ordinals) and not any(
            m.get("isLearner") for m in members)

    def settled(self, *ordinals):
        self.until(f"the voters are {ordinals}", lambda: self.has_voters(*ordinals))
        self.all_ready(*ordinals)

    def write(self, count=10):
        for _ in range(count):
            def put():
                return self.run("put", f"key-{self.written:05}", f"value-{self.written}").returncode == 0
            self.until("a write is acknowledged", put, 20)
            self.written += 1

    def nothing_lost(self):
        def there():
            r = self.run("get", "key-", "--prefix", "-w", "json")
            assert r.returncode == 0, r.stderr
            return int(json.loads(r.stdout).get("count", 0)) == self.written
        self.until("every acknowledged write is there", there, 20)

    def leader(self):
        def find():
            for p in self.pods.values():
                if p.process.poll() is None:
                    text = urllib.request.urlopen(f"http://{p.address}:2381/metrics", timeout=2).read().decode()
                    if "\netcd_server_is_leader 1\n" in text:
                        return p
            return None
        return self.until("there is a leader", find)

    def end(self):
        for p in self.pods.values():
            if p.process is not None and p.process.poll() is None:
                p.kill()
        if self.api is not None:
            self.api.end()
        self.names.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def founded(w):
    """K07: nobody founds before all are there; then one cluster."""
    w.start(0, 1)
    w.until("pod 0 says whom it waits for", lambda: "1 did not answer" in w.pod(0).ready(verbose=True))
    w.expect(w.pod(0).alive() and w.pod(1).alive(), "a pod that waits is alive")
    w.expect(not w.pod(0).ready(), "a pod that waits is not ready")
    w.expect(w.pod(1).stop() == 0, "a pod that waits ends when it is told to")
    w.start(1, 2)
    w.settled(0, 1, 2)
    w.expect(w.pod(0).says("founded the cluster"), "pod 0 founded the cluster")
    w.expect(len({w.pod(i).identity()[0] for i in range(3)}) == 1, "all are of one cluster")
    w.write()


def annotated(w):
    want = f"{w.pod(0).identity()[0]:016x}"
    w.until("the StatefulSet names the cluster",
            lambda: w.api.state()["annotations"].get("nabata/cluster-id") == want)


def killed_leader(w):
    """A killed leader is succeeded, and comes back with its data."""
    old = w.leader()
    old.kill()
    w.write()
    old.start()
    w.settled(0, 1, 2)
    w.nothing_lost()


def lost_volume(w):
    """K04: a pod whose volume is lost comes back as a new member in the place of the old."""
    p = next(w.pod(i) for i in range(3) if w.pod(i) is not w.leader())
    before = p.identity()
    p.kill()
    p.wipe()
    w.write()
    p.start()
    w.until("it has another id", lambda: p.identity()[0] == before[0] and p.identity()[1] != before[1])
    w.until("the old id is gone", lambda: f"{before[1]:x}" not in {f"{int(m['ID']):x}" for m in w.members()})
    w.settled(0, 1, 2)
    w.expect(any(w.pod(i).says("replaced member") for i in range(3)), "the leader says what it did")
    w.nothing_lost()


def scaled_up(w):
    w.api.set(replicas=5)
    w.start(3, 4)
    w.settled(0, 1, 2, 3, 4)
    w.write()


def scaled_down(w):
    """Pods beyond the replicas leave for good, and end in good order."""
    w.api.set(replicas=3)
    for i in (3, 4):
        w.pod(i).stop(wait=False)
    for i in (3, 4):
        w.expect(w.pod(i).process.wait(timeout=40) == 0, f"ss-{i} ends well")
        w.expect(w.pod(i).says("leaving for good"), f"ss-{i} says that it leaves")
    w.settled(0, 1, 2)
    w.nothing_lost()


def kept_volume(w):
    """K08, M08: a volume kept through a scale-down holds a removed id: it is set aside."""
    w.api.set(replicas=4)
    before = w.pod(3).identity()
    w.pod(3).start()
    w.settled(0, 1, 2, 3)
    w.expect(w.pod(3).says("moved the data of a removed member aside"), "the data is kept aside")
    w.expect(w.pod(3).identity()[1] != before[1], "with another id")
    w.api.set(replicas=3)
    w.expect(w.pod(3).stop() == 0, "ss-3 ends well")
    w.settled(0, 1, 2)
    w.nothing_lost()


def two_stop(w):
    """E04, K10: two are told to stop at once; the second waits until the first is back."""
    p, q = [w.pod(i) for i in range(3) if w.pod(i) is not w.leader()]
    sizes = {x.name: x.log_size() for x in (p, q)}
    p.stop(wait=False)
    q.stop(wait=False)
    gone = w.until("one of them ends", lambda: next((x for x in (p, q) if x.process.poll() is not None), None))
    stays = q if gone is p else p
    w.until("the other says why it waits", lambda: stays.says("may not stop yet", sizes[stays.name]))
    w.expect(not stays.ready(), "who is told to stop is not ready")
    w.write(3)
    gone.start()
    w.expect(stays.process.wait(timeout=40) == 0, "the other ends when the first is back")
    stays.start()
    w.settled(0, 1, 2)
    w.nothing_lost()


def rolled(w):
    """Restarts of all, one after the other, the leader too, cost no write."""
    for i in (2, 1, 0):
        w.expect(w.pod(i).stop() == 0, f"ss-{i} ends well")
        w.pod(i).start()
        w.settled(0, 1, 2)
        w.write(3)
    w.nothing_lost()


def same_name(w):
    """K05: a second process with the name of a pod that is there is not let in."""
    twin = Pod(w, 1, address=f"127.{OWN}.{w.net}.99", folder=os.path.join(w.folder, "twin"))
    twin.log = os.path.join(w.folder, "twin.log")
    twin.start(dns=False)
    try:
        w.until("it is told why", lambda: "which is connected" in twin.ready(verbose=True))
        w.expect(w.has_voters(0, 1, 2), "the members are as they were")
    finally:
        twin.kill()


def all_gone(w):
    """All pods gone and back: one cluster still, nothing lost."""
    for i in range(3):
        w.pod(i).kill()
    w.start(0, 1, 2)
    w.settled(0, 1, 2)
    w.nothing_lost()


def deleted(w):
    """A StatefulSet that is being deleted: nobody waits for anybody, nobody leaves."""
    w.api.set(deleting="true")
    began = time.monotonic()
    for i in range(3):
        w.pod(i).stop(wait=False)
    for i in range(3):
        w.expect(w.pod(i).process.wait(timeout=40) == 0, f"ss-{i} ends well")
    w.expect(time.monotonic() - began < 10, "at once")
    w.api.set(deleting="false")
    w.start(0, 1, 2)
    w.settled(0, 1, 2)
    w.nothing_lost()


def to_one(w):
    """5 to 1: four leave at once in one change."""
    w.api.set(replicas=5)
    w.start(3, 4)
    w.settled(0, 1, 2, 3, 4)
    w.api.set(replicas=1)
    for i in (1, 2, 3, 4):
        w.pod(i).stop(wait=False)
    for i in (1, 2, 3, 4):
        w.expect(w.pod(i).process.wait(timeout=40) == 0, f"ss-{i} ends well")
    w.settled(0)
    w.nothing_lost()


def not_twice(w):
    """K07: pod 0 with an empty volume and nobody else alive founds nothing."""
    w.pod(0).kill()
    w.pod(0).wipe()
    w.pod(0).start()
    w.until("it says so", lambda: "not founding a second one" in w.pod(0).ready(verbose=True))
    w.pod(0).kill()


def known_beyond(w):
    """K07: scaled up, and no API says so: three lost volumes found nothing while a pod beyond them knows the cluster."""
    w.start(3, 4)
    w.settled(0, 1, 2, 3, 4)
    for i in range(5):
        w.pod(i).kill()
    for i in range(3):
        w.pod(i).wipe()
    since = w.pod(0).log_size()
    w.start(3)
    w.until("ss-3 runs", lambda: w.pod(3).alive())
    w.start(0, 1, 2)
    w.until("pod 0 knows", lambda: "which has no leader now" in w.pod(0).ready(verbose=True))
    w.expect(not w.pod(0).says("founded the cluster", since), "pod 0 founds nothing")


STORY = [founded, annotated, killed_leader, lost_volume, scaled_up, scaled_down, kept_volume, two_stop, rolled,
         same_name, all_gone, deleted, to_one, not_twice]


def denied(w):
    """An API that refuses hinders nothing but scaling down: who is told to stop is restarted."""
    w.expect(w.pod(2).stop() == 0, "ss-2 ends well")
    w.expect(w.pod(2).says("denies access"), "it says what is missing")
    w.expect(not w.pod(2).says("leaving for good"), "it does not leave")
    w.pod(2).start()
    w.settled(0, 1, 2)
    w.nothing_lost()


def tell(w, story, only):
    try:
        for step in story:
            if only and step is not founded and step.__name__ not in only:
                continue
            began = time.monotonic()
            step(w)
            print(f"{step.__name__}: ok, {time.monotonic() - began:.1f} s", flush=True)
    finally:
        w.end()


def main():
    nabata, only = os.path.abspath(sys.argv[1]), sys.argv[2:]
    tell(World(nabata), STORY, only)
    tell(World(nabata, api=False), [founded, lost_volume, rolled, all_gone, known_beyond], only)
    w = World(nabata)
    w.api.set(deny="true", replicas=1)
    tell(w, [founded, denied], only)


if __name__ == "__main__":
    main()
