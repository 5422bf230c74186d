"""A small machine room: pods in network namespaces of their own, a bridge between them, names and the API.

World makes it, inside namespaces that tests/kubernetes/rig/rig.py has made for it: a network namespace that has the
bridge, a mount namespace, and a process namespace. When the process that called it is gone, however it went, the
kernel takes all of it down: no namespace, mount, interface or process is left on the machine.

A pod is what Kubernetes makes of one, as far as a server can tell: its own address, host name, a file system with
nothing but the binary, /etc/resolv.conf, its volume at /data and its service account; read-only but for the volume;
user 65532 without capabilities. A pod that is deleted and made again has another address.
"""
import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
APISERVER = os.path.join(HERE, "..", "..", "support", "kubernetes", "apiserver.py")
NAMESPACE, SET, SERVICE, ZONE = "default", "ss", "ss-service", "cluster.local"
DOMAIN = f"{NAMESPACE}.svc.{ZONE}"
API_ADDRESS, DNS_ADDRESS, FRESH_DNS_ADDRESS = "10.97.0.1", "10.97.0.10", "10.97.0.11"
USER = 65532
ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x20000, 0x4000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, CAP_COUNT = 24, 38, 64

libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A scenario did not show what it must."""


def call(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, flags, kind=None):
    call(libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), None),
         f"mount {target}")


def ip(*lines):
    """`ip` with one command a line."""
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, capture_output=True)
    if done.returncode != 0:
        raise OSError(f"ip: {done.stderr.strip()} ({'; '.join(lines)})")


def wait_for(what, test, seconds, every=0.02):
    """Until `test()` is true; its value. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)


def enter(root, binds, hostname, namespace):
    """What a new process does before it becomes the pod's: see the head of this file."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    call(libc.setns(fd, CLONE_NEWNET), "setns")
    os.close(fd)
    call(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare")
    name = hostname.encode()
    call(libc.sethostname(name, len(name)), "sethostname")
    mount("none", "/", MS_REC | MS_PRIVATE)
    mount(root, root, MS_BIND)
    for source, target, writable in binds:
        mount(source, f"{root}/{target}", MS_BIND)
        if not writable:
            mount("none", f"{root}/{target}", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
    mount("none", root, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
    os.chroot(root)
    os.chdir("/")
    for capability in range(CAP_COUNT):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


class Pod:
    """One life of a pod: a namespace with an address, a root, and one process at a time."""

    def __init__(self, world, name, volume, published=True, dns=DNS_ADDRESS):
        self.world, self.name, self.volume, self.published = world, name, volume, published
        world.pods_made += 1
        number = world.pods_made
        self.address = f"10.97.{1 + number // 200}.{1 + number % 200}"
        self.namespace, self.link = f"{name}.{number}", f"v{number}"
        self.root = os.path.join(world.folder, "pods", self.namespace)
        self.log = os.path.join(world.folder, "logs", f"{self.namespace}.log")
        self.process = None
        self.attached = True
        os.makedirs(os.path.join(self.root, ACCOUNT))
        for inside in ("data", "etc"):
            os.makedirs(os.path.join(self.root, inside))
        open(os.path.join(self.root, "nabata"), "w").close()
        with open(os.path.join(self.root, "etc/resolv.conf"), "w") as f:
            f.write(f"search {DOMAIN} svc.{ZONE} {ZONE}\nnameserver {dns}\noptions ndots:5\n")
        os.makedirs(volume, exist_ok=True)
        os.chown(volume, USER, USER)
        ip(f"netns add {self.namespace}",
           f"link add {self.link} type veth peer name eth0 netns {self.namespace}",
           f"link set {self.link} master br0 up")
        subprocess.run(["ip", "-n", self.namespace, "-batch", "-"], check=True, text=True,
                       input=f"link set lo up\naddress add {self.address}/16 dev eth0\nlink set eth0 up\n")

    def start(self, arguments, environment=None, output=None):
        binds = [(self.world.binary, "nabata", False), (self.volume, "data", True),
                 (self.world.account, ACCOUNT, False)]
        log = open(self.log, "ab")
        self.process = subprocess.Popen(
            ["/nabata"] + arguments, env=environment or {}, stdin=subprocess.DEVNULL, stdout=output or log, stderr=log,
            preexec_fn=lambda: enter(self.root, binds, self.name.split("~")[0], self.namespace))
        log.close()
        return self.process

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def end(self, grace):
        """SIGTERM, the grace period, SIGKILL. The exit code; None: it had to be killed."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def attach(self, attached):
        """Off the bridge and on it again."""
        ip(f"link set {self.link} {'master br0' if attached else 'nomaster'}")
        self.attached = attached

    def remove(self):
        self.kill()
        ip(f"link delete {self.link}", f"netns delete {self.namespace}")
        shutil.rmtree(self.root, ignore_errors=True)

    def said(self, text):
        with open(self.log, errors="replace") as f:
            return text in f.read()

    def get(self, path, port, timeout=1.0):
        """(code, body) of its HTTP; (0, "") when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{port}{path}", timeout=timeout) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def ready(self):
        return self.alive() and self.get("/readyz", self.world.metrics_port)[0] == 200

    def leads(self):
        if not self.alive():
            return False
        body = self.get("/metrics", self.world.metrics_port)[1]
        return "\netcd_server_is_leader 1\n" in body


class World:
    """Pods, their names and the API. `mode`: "statefulset" or "addresses" (all replicas named in the arguments)."""

    def __init__(self, folder, binary, mode, ttl=5, negative=30, grace=20):
        self.folder, self.binary, self.mode, self.negative, self.grace = folder, binary, mode, negative, grace
        self.client_port, self.peer_port, self.metrics_port = \
            (2379, 2380, 2381) if mode == "statefulset" else (6000, 6001, 6002)
        self.pods, self.others, self.pods_made, self.replicas, self.volumes_made = {}, [], 0, 0, 0
        self.volumes = {}
        self.account = os.path.join(folder, "account")
        for name in ("pods", "logs", "volumes", "account", "authority"):
            os.makedirs(os.path.join(folder, name))
        # with an address of its own: else it has the least of its ports', and the pods' ARP entries go stale
        ip("link set lo up", "link add br0 address 02:00:00:00:00:01 type bridge",
           "link set br0 up",
           f"address add {API_ADDRESS}/16 dev br0", f"address add {DNS_ADDRESS}/16 dev br0",
           f"address add {FRESH_DNS_ADDRESS}/16 dev br0")
        self.dns = subprocess.Popen([sys.executable, os.path.join(HERE, "dns.py"), "--listen", DNS_ADDRESS,
                                     "--listen-fresh", FRESH_DNS_ADDRESS,
                                     "--ttl", str(ttl), "--negative", str(negative)],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect(self.dns, "ready")
        self.begin_api()
        self.publish()

    def begin_api(self):
        """The stand-in; its token and authority into the pods' service account."""
        self.api_process = subprocess.Popen(
            [sys.executable, APISERVER, "--account-dir", os.path.join(self.folder, "authority"), "--host", API_ADDRESS,
             "--port", "443", "--names", f"IP:{API_ADDRESS},DNS:kubernetes.default.svc", "--namespace", NAMESPACE,
             "--name", SET, "--service", SERVICE, "--replicas", "3"], stdout=subprocess.PIPE, text=True)
        self.control = int(self.expect(self.api_process, "ready").split()[2])
        for name in ("token", "ca.crt", "namespace"):
            shutil.copy(os.path.join(self.folder, "authority", name), os.path.join(self.account, name))

    @staticmethod
    def expect(process, word):
        line = process.stdout.readline()
        if not line.startswith(word):
            raise OSError(f"{process.args}: said {line!r}")
        return line

    # ---- the API and the names ----

    def api(self, **changes):
        """Changes what the API says; its state."""
        query = "&".join(f"{k}={str(v).lower()}" for k, v in changes.items())
        url = f"http://127.0.0.1:{self.control}/" + (f"set?{query}" if changes else "state")
        request = urllib.request.Request(url, data=b"" if changes else None)
        with urllib.request.urlopen(request, timeout=5) as reply:
            return json.loads(reply.read())

    def tell_dns(self, **words):
        self.dns.stdin.write(json.dumps(words) + "\n")
        self.dns.stdin.flush()
        self.expect(self.dns, "ok")

    def publish(self):
        """The names of the pods there are, ready or not (publishNotReadyAddresses)."""
        records = {f"kubernetes.default.svc.{ZONE}": [API_ADDRESS]}
        every = [p for p in list(self.pods.values()) + self.others if p.published]
        targets = sorted({self.host(p.name.split("~")[0]) for p in every})
        for pod in every:
            records.setdefault(self.host(pod.name.split("~")[0]), []).append(pod.address)
        service = f"{SERVICE}.{DOMAIN}"
        if every:
            records[service] = [p.address for p in every]
        ports = {"client": self.client_port, "peer": self.peer_port}
        self.tell_dns(records=records, services={f"_{name}._tcp.{service}": [[t, port] for t in targets]
                                                 for name, port in ports.items()} if every else {})

    @staticmethod
    def host(name):
        return f"{name}.{SERVICE}.{DOMAIN}"

    # ---- pods ----

    def arguments(self, ordinal):
        name = f"{SET}-{ordinal}"
        if self.mode == "statefulset":
            return ["server", "--statefulset", SERVICE, "--data-dir", "/data", "--log-format", "console",
                    "--termination-grace", str(self.grace)]
        peers = ",".join(f"{SET}-{i}=http://{self.host(f'{SET}-{i}')}:{self.peer_port}" for i in range(3))
        return ["server", "--name", name, "--data-dir", "/data", "--log-format", "console",
                "--listen-client-urls", f"http://0.0.0.0:{self.client_port}",
                "--listen-peer-urls", f"http://0.0.0.0:{self.peer_port}",
                "--listen-metrics-urls", f"http://0.0.0.0:{self.metrics_port}",
                "--advertise-client-urls", f"http://{self.host(name)}:{self.client_port}",
                "--initial-advertise-peer-urls", f"http://{self.host(name)}:{self.peer_port}",
                "--initial-cluster", peers]

    def environment(self):
        if self.mode != "statefulset":
            return {}
        return {"KUBERNETES_SERVICE_HOST": API_ADDRESS, "KUBERNETES_SERVICE_PORT_HTTPS": "443"}

    def volume(self, ordinal, fresh=False):
        if fresh or ordinal not in self.volumes:
            self.volumes_made += 1
            self.volumes[ordinal] = os.path.join(self.folder, "volumes", f"{SET}-{ordinal}.{self.volumes_made}")
        return self.volumes[ordinal]

    def create(self, ordinal, fresh=False):
        """The pod of an ordinal, with its volume (or an empty one) and a new address."""
        pod = Pod(self, f"{SET}-{ordinal}", self.volume(ordinal, fresh))
        self.pods[ordinal] = pod
        self.publish()
        pod.start(self.arguments(ordinal), self.environment())
        return pod

    def restart(self, ordinal):
        """The container alone: the same pod, address and volume."""
        pod = self.pods[ordinal]
        pod.kill()
        pod.start(self.arguments(ordinal), self.environment())

    def delete(self, ordinal, now=False):
        """Ends the pod as the kubelet does; its exit code."""
        pod = self.pods[ordinal]
        code = None
        if now:
            pod.kill()
        else:
            code = pod.end(self.grace)
        self.forget(ordinal)
        return code

    def forget(self, ordinal):
        pod = self.pods.pop(ordinal)
        self.publish()
        pod.remove()

    def another(self, ordinal):
        """A second process with the name of one that runs, and an empty volume."""
        self.volumes_made += 1
        pod = Pod(self, f"{SET}-{ordinal}~", os.path.join(self.folder, "volumes", f"second.{self.volumes_made}"))
        self.others.append(pod)
        self.publish()
        pod.start(self.arguments(ordinal), self.environment())
        return pod

    def drop_others(self):
        others, self.others = self.others, []
        self.publish()
        for pod in others:
            pod.remove()

    def scale(self, replicas):
        """As the controller with podManagementPolicy Parallel: all at once. Exit codes of those that stop."""
        self.api(replicas=replicas)
        self.replicas = replicas
        for ordinal in range(replicas):
            if ordinal not in self.pods:
                self.create(ordinal)
        leaving = [o for o in self.pods if o >= replicas]
        for ordinal in leaving:
            self.pods[ordinal].signal(signal.SIGTERM)
        codes = {}
        end = time.monotonic() + self.grace
        for ordinal in leaving:
            try:
                codes[ordinal] = self.pods[ordinal].process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                codes[ordinal] = None
            self.forget(ordinal)
        return codes

    def all_ready(self):
        return bool(self.pods) and all(p.ready() for p in self.pods.values())

    def leader(self):
        """The ordinal of the one pod that leads, or None."""
        leading = [o for o, p in self.pods.items() if p.attached and p.leads()]
        return leading[0] if len(leading) == 1 else None

    def wait_ready(self, seconds=30):
        wait_for("all pods ready", self.all_ready, seconds)
        return wait_for("a leader", lambda: [self.leader()] if self.leader() is not None else None, seconds)[0]

    def reset(self):
        """No pods, empty volumes, the API as in the beginning."""
        for ordinal in list(self.pods):
            self.pods[ordinal].kill()
            self.forget(ordinal)
        self.drop_others()
        self.volumes.clear()
        self.tell_dns(silent=False, forget=True)
        self.replicas = 3
        self.api(replicas=3, deleting="false", deny="false", down="false")
        self.patch({"metadata": {"annotations": {"nabata/cluster-id": None}}})

    def patch(self, body):
        """As somebody with kubectl would."""
        context = ssl.create_default_context(cafile=os.path.join(self.account, "ca.crt"))
        with open(os.path.join(self.account, "token")) as f:
            token = f.read()
        request = urllib.request.Request(
            f"https://{API_ADDRESS}/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}", method="PATCH",
            data=json.dumps(body).encode(), headers={"Authorization": f"Bearer {token}",
                                                     "Content-Type": "application/merge-patch+json"})
        with urllib.request.urlopen(request, timeout=5, context=context) as reply:
            return json.loads(reply.read())

    def endpoints(self, count=3):
        return [f"{self.host(f'{SET}-{i}')}:{self.client_port}" for i in range(count)]

    def close(self):
        for pod in list(self.pods.values()) + self.others:
            pod.kill()
        for process in (self.dns, self.api_process):
            process.kill()
            process.wait()


class Client:
    """The client pod: `nabata soak` that writes all the while, and single commands.

    Its names come without a cache, so that the gaps it sees are the servers'.
    """

    def __init__(self, world):
        self.world = world
        self.pod = Pod(world, "c1", os.path.join(world.folder, "volumes", "c1"), published=False,
                       dns=FRESH_DNS_ADDRESS)
        self.record = os.path.join(self.pod.volume, "record")

    def begin(self, endpoints, rate=200):
        self.pod.start(["soak", "--json", "--rate", str(rate), "--timeout", "60s", "--record", "/data/record"]
                       + endpoints, output=subprocess.PIPE)

    def acknowledged(self):
        """Times of acknowledged writes so far, in ns of the monotonic clock."""
        try:
            with open(self.record) as f:
                return [int(line.split(" ", 1)[0]) for line in f if " ack " in line and line.endswith("\n")]
        except FileNotFoundError:
            return []

    def wait_writing(self, seconds=20):
        """Until a write that was begun after this call is acknowledged."""
        since = time.monotonic_ns() + 1_000_000
        wait_for("a write is acknowledged", lambda: (self.acknowledged() or [0])[-1] > since, seconds, every=0.05)

    def finish(self):
        """Ends the writing; what it says."""
        self.pod.signal(signal.SIGINT)
        try:
            out, _ = self.pod.process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            self.pod.kill()
            raise Failed("the client did not end")
        try:
            return json.loads(out)
        except ValueError:
            with open(self.pod.log) as f:
                raise Failed(f"the client said {out!r} {f.read()[-500:]}")

    def run(self, arguments, seconds=60):
        """(exit code, stdout) of one command."""
        process = self.pod.start(arguments, output=subprocess.PIPE)
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.pod.kill()
            return None, ""
        return process.returncode, out.decode()
