#!/usr/bin/env python3
"""nabata as pods on one machine, without a cluster: each in a network namespace and a scratch file system of its own.

    rig.py run [SCENARIO ...]     play scenarios and print a table; all of them, or --quick ones
    rig.py list                   the scenarios
    rig.py up                     three pods and a prompt: kill, delete, scale, partition by hand

Needs root and Linux namespaces; exits with 77 and a line when it may not make them. Nothing of it stays on the machine:
namespaces, mounts and processes end with this process, its folder is removed (unless --keep or a failure).
"""
import argparse
import cmd
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import scenarios as book  # noqa: E402
from world import Client, Failed, World, wait_for  # noqa: E402

SKIPPED = 77
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["run", "list", "up"])
    p.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    p.add_argument("--binary", default=os.path.join(HERE, "../../../build/release/nabata"),
                   help="a static nabata (default: build/release/nabata)")
    p.add_argument("--mode", choices=book.ALL, default="statefulset",
                   help="pods that run themselves, or with the addresses of all as arguments (default: statefulset)")
    p.add_argument("--quick", action="store_true", help="the scenarios that take seconds")
    p.add_argument("--negative", type=int, default=30, metavar="SECONDS",
                   help="how long the name server goes on saying that a name does not exist (default: 30)")
    p.add_argument("--ttl", type=int, default=5, metavar="SECONDS",
                   help="how long it goes on giving an old address (default: 5)")
    p.add_argument("--grace", type=int, default=20, metavar="SECONDS", help="the pods' grace period (default: 20)")
    p.add_argument("--keep", action="store_true", help="keep the folder with logs and volumes")
    p.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    return p.parse_intermixed_args()


# ---- outside: namespaces for the rest ----

def refusal(options):
    """Why it cannot be done here, or None."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "unshare", "openssl"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}`"
    probe = "mount -t tmpfs none /run && ip link set lo up && ip link add b0 type bridge && ip netns add x &&" \
            "ip link add v0 type veth peer name eth0 netns x"
    if subprocess.run(UNSHARE + ["sh", "-c", probe], capture_output=True).returncode != 0:
        return "the kernel refuses namespaces, bridges or veth"
    if not os.access(options.binary, os.X_OK):
        return f"there is no {os.path.relpath(options.binary)} (make build)"
    return None


def outside(options):
    why = refusal(options)
    if why is not None:
        print(f"rig: skipped: {why}")
        return SKIPPED
    folder = tempfile.mkdtemp(prefix="nabata-rig.")
    os.chmod(folder, 0o755)
    child = subprocess.Popen(UNSHARE + [sys.executable, os.path.abspath(__file__)] + sys.argv[1:]
                             + ["--inside", folder])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one inside hears it too, and tells what it has found
    signal.signal(signal.SIGTERM, lambda *_: child.kill())  # --kill-child takes the one inside along
    code = child.wait()
    if code == 0 and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"rig: logs and volumes are in {folder}")
    return code if code >= 0 else 128 - code


# ---- inside: one world, scenarios one after the other ----

def say(text):
    print(f"    {text}", flush=True)


class Result:
    def __init__(self, label):
        self.label, self.error, self.soak, self.seconds = label, None, {}, 0.0


def prepare(world, function):
    """Pods for the scenario to begin with; new ones when it asks, or when the last one left them broken."""
    if function.fresh or sorted(world.pods) != [0, 1, 2] or not world.all_ready():
        world.reset()
        getattr(function, "before", lambda _: None)(world)
        world.replicas = 3
        for ordinal in range(3):
            world.create(ordinal)
        if not function.fresh:
            world.wait_ready(60)


def demand(run, told):
    """What must hold after every scenario."""
    if not told.get("ok"):
        raise Failed(f"lost: {told}")
    if told["acknowledged"] == 0 or told["failed"] != 0:
        raise Failed(f"writes failed: {told}")
    if getattr(run, "retry_limit", False) and told["retried_twice"] > 0:
        raise Failed(f"{told['retried_twice']} writes needed more than one retry")
    what, value, limit = getattr(run, "gap_limit", ("", 0, 1))
    if value >= limit:
        raise Failed(f"{what}: {value:.0f} ms, must be below {limit}")


def check(run):
    code, out = run.checker.run(["check", "--keys", "20"] + run.world.endpoints(len(run.world.pods)))
    if code != 0 or " down " in out:
        raise Failed(f"nabata check ends with {code}:\n{out}")


def play(world, writer, checker, function):
    result = Result(function.label)
    started = time.monotonic()
    run = book.Run(world, writer, checker, say)
    print(f"{function.label}: {function.__doc__}", flush=True)
    writing = False
    try:
        prepare(world, function)
        writer.begin(world.endpoints(function.endpoints))
        writing = True
        if not function.fresh:
            writer.wait_writing()
        function(run)
        world.wait_ready(60)
        writer.wait_writing()
        writing = False
        result.soak = writer.finish()
        check(run)
        demand(run, result.soak)
    except (Failed, OSError, subprocess.SubprocessError) as e:
        result.error = str(e) if isinstance(e, Failed) else traceback.format_exc()
        if writing:
            try:
                result.soak = writer.finish()
            except Failed:
                pass
        say(f"FAILED: {result.error}")
        keep_logs(world, function.label)
        world.reset()
    result.seconds = time.monotonic() - started
    return result


def keep_logs(world, label):
    folder = os.path.join(world.folder, "failed", label)
    os.makedirs(folder, exist_ok=True)
    for pod in list(world.pods.values()) + world.others:
        if not os.path.exists(pod.log):
            continue  # it was never started
        shutil.copy(pod.log, folder)
        with open(pod.log, errors="replace") as f:
            print(f"    --- end of the log of {pod.namespace}:\n" + "".join(f.readlines()[-15:]), flush=True)


def table(results):
    print(f"\n{'scenario':26} {'':6} {'took':>7} {'no leader':>10} {'write gap':>10} {'written':>8} {'again':>6} "
          f"{'lost':>5}")
    for r in results:
        s = r.soak
        spans = [f"{s[k] / 1000:.3f} s" if k in s else "-"
                 for k in ("longest_without_leader_ms", "longest_write_gap_ms")]
        print(f"{r.label:26} {'FAILED' if r.error else 'ok':6} {r.seconds:5.1f} s {spans[0]:>10} {spans[1]:>10} "
              f"{s.get('acknowledged', '-'):>8} {s.get('retried', '-'):>6} {s.get('lost', '-'):>5}")
    failed = [r.label for r in results if r.error]
    print(f"\n{len(results) - len(failed)} of {len(results)} scenarios are right"
          + (f"; failed: {' '.join(failed)}" if failed else ""), flush=True)
    return 1 if failed else 0


def chosen(options):
    every = [f for f in book.scenarios if options.mode in f.modes]
    unknown = [n for n in options.scenarios if n not in [f.label for f in every]]
    if unknown:
        sys.exit(f"rig: no such scenario in mode {options.mode}: {' '.join(unknown)} (rig.py list)")
    if options.scenarios:
        return [f for f in every if f.label in options.scenarios]
    return [f for f in every if f.quick or not options.quick]


def inside(options):
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    world = World(options.inside, os.path.realpath(options.binary), options.mode, options.ttl, options.negative,
                  options.grace)
    try:
        writer, checker = Client(world), Client(world)
        if options.what == "up":
            return Prompt(world, checker).start()
        results = []
        try:
            for function in chosen(options):
                results.append(play(world, writer, checker, function))
        except KeyboardInterrupt:
            print("\ninterrupted")
            table(results)
            return 130
        return table(results)
    finally:
        world.close()


# ---- by hand ----

class Prompt(cmd.Cmd):
    """Three pods and what Kubernetes, or bad luck, may do to them."""
    prompt = "rig> "

    def __init__(self, world, client):
        super().__init__()
        self.world, self.client = world, client

    def start(self):
        self.world.replicas = 3
        for ordinal in range(3):
            self.world.create(ordinal)
        try:
            self.world.wait_ready(60)
        except Failed as e:
            print(f"rig: {e}")
        self.do_pods("")
        print(f"logs: {self.world.folder}/logs; `help` lists the commands")
        try:
            self.cmdloop()
        except KeyboardInterrupt:
            print()
        return 0

    def onecmd(self, line):
        try:
            return super().onecmd(line)
        except (Failed, OSError, ValueError, KeyError) as e:
            print(f"rig: {type(e).__name__}: {e}")
            return False

    def emptyline(self):
        pass

    def do_pods(self, _):
        """pods: what there is"""
        for ordinal, pod in sorted(self.world.pods.items()):
            state = "gone" if not pod.alive() else "leader" if pod.leads() else "ready" if pod.ready() else "not ready"
            print(f"ss-{ordinal}  {pod.address:12} {state}{'' if pod.attached else ', cut off'}")

    def do_kill(self, line):
        """kill N: kill -9; `start N` starts the container again"""
        self.world.pods[int(line)].kill()

    def do_start(self, line):
        """start N: the same pod again, or a new one with the old volume"""
        (self.world.restart if int(line) in self.world.pods else self.world.create)(int(line))

    def do_delete(self, line):
        """delete N: as kubectl delete pod: SIGTERM, grace period, a new pod with another address"""
        print(f"exit code {self.world.delete(int(line))}")
        self.world.create(int(line))

    def do_lose(self, line):
        """lose N: the node dies with its disk; a new pod with an empty volume"""
        self.world.delete(int(line), now=True)
        self.world.create(int(line), fresh=True)

    def do_scale(self, line):
        """scale N: as kubectl scale"""
        print(self.world.scale(int(line)))

    def do_partition(self, line):
        """partition N: takes its network away; `heal N` gives it back"""
        self.world.pods[int(line)].attach(False)

    def do_heal(self, line):
        """heal N: see partition"""
        self.world.pods[int(line)].attach(True)

    def do_dns(self, line):
        """dns silent|ok: the name server"""
        self.world.tell_dns(silent=line.strip() == "silent")

    def do_api(self, line):
        """api [deny|down|deleting=true|false ...]: the API server; alone: its state"""
        print(self.world.api(**dict(word.split("=") for word in line.split())))

    def do_log(self, line):
        """log N: the end of a pod's log"""
        with open(self.world.pods[int(line)].log, errors="replace") as f:
            print("".join(f.readlines()[-30:]), end="")

    def do_nabata(self, line):
        """nabata ...: a command in the client pod, --endpoints of all pods when it names none"""
        words = shlex.split(line)
        if not any(w.startswith("--endpoints") for w in words):
            words = ["--endpoints", ",".join(f"{self.world.host(p.name)}:{self.world.client_port}"
                                             for p in self.world.pods.values())] + words
        code, out = self.client.run(words, 120)
        print(out, end="")
        if code != 0:
            print(f"exit code {code}; {self.client.pod.log}")

    def do_quit(self, _):
        """quit: ends all of it"""
        return True

    do_EOF = do_quit


def main():
    options = parse()
    if options.what == "list":
        for f in book.scenarios:
            print(f"{f.label:26} {f.__doc__}{'' if f.modes == book.ALL else ' (' + f.modes[0] + ' only)'}")
        return 0
    return inside(options) if options.inside else outside(options)


if __name__ == "__main__":
    sys.exit(main())
