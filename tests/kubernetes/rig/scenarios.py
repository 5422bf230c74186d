"""What is done to the pods, and what must hold afterwards.

A scenario is a function that takes a Run; its doc string is what it shows. It finds three pods that serve, unless it
is marked `fresh`, and a client that writes all the while. When it returns, the run waits until all pods are ready again
and then demands: nothing acknowledged is lost on any pod, no write has failed, `nabata check` finds all pods alike.
"""
import json
import signal
import statistics
import time

from world import Failed, wait_for

# Bound on what takes two seconds; two members that were both told "no such name" of each other wait until that is over.
ELECTION_S = 15
ALL, STATEFULSET, ADDRESSES = ("statefulset", "addresses"), ("statefulset",), ("addresses",)
scenarios = []


def scenario(modes=ALL, endpoints=3, fresh=False, quick=False):
    def add(function):
        function.modes, function.endpoints, function.fresh, function.quick = modes, endpoints, fresh, quick
        function.label = function.__name__.replace("_", "-")
        scenarios.append(function)
        return function
    return add


class Run:
    """One scenario under way: the world, the writing client, and what is to be told of it."""

    def __init__(self, world, writer, checker, say):
        self.world, self.writer, self.checker, self.say = world, writer, checker, say
        self.notes = []

    def note(self, text):
        self.notes.append(text)
        self.say(text)

    def follower(self):
        leader = self.world.wait_ready()
        return max(o for o in self.world.pods if o != leader)

    def new_leader(self, old):
        return wait_for(f"a leader other than ss-{old}",
                        lambda: [self.world.leader()] if self.world.leader() not in (None, old) else None,
                        ELECTION_S)[0]

    def members(self):
        """{name: is a learner} as the leader tells."""
        endpoints = ",".join(self.world.endpoints(self.world.replicas or 3))
        code, out = self.checker.run(["--endpoints", endpoints, "member", "list", "-w", "json"], 20)
        if code != 0:
            return {}
        return {m.get("name", ""): m.get("isLearner", False) for m in json.loads(out).get("members", [])}

    def wait_members(self, count, seconds=60):
        expected = {f"ss-{i}": False for i in range(count)}
        wait_for(f"members are ss-0 to ss-{count - 1}, all voters (now {self.members()})",
                 lambda: self.members() == expected, seconds, every=0.2)


@scenario(fresh=True, quick=True)
def form(run):
    """three pods make a cluster out of nothing"""
    founded_in_time(run)


def founded_in_time(run):
    """ss-0 asks for names that do not exist yet; pods that run themselves do not wait until that is forgotten."""
    since = time.monotonic()
    run.world.wait_ready(60)
    took = time.monotonic() - since
    if run.world.mode == "statefulset" and run.world.negative >= 30 and took >= run.world.negative - 5:
        raise Failed(f"the name server's \"no such name\" was waited for: {took:.1f} s")


@scenario(quick=True)
def kill_leader(run):
    """kill -9 of the leader: the others go on; its container starts again"""
    leader = run.world.wait_ready()
    run.world.pods[leader].kill()
    run.new_leader(leader)
    run.writer.wait_writing()
    run.world.restart(leader)


@scenario(quick=True)
def another_address(run):
    """the leader's pod is lost and comes back with another address"""
    leader = run.world.wait_ready()
    run.world.delete(leader, now=True)
    run.new_leader(leader)
    run.writer.wait_writing()
    run.world.create(leader)


@scenario(modes=STATEFULSET, quick=True)
def empty_volume(run):
    """a pod comes back with another address and an empty volume"""
    lost = run.follower()
    run.world.delete(lost, now=True)
    run.world.create(lost, fresh=True)
    run.world.wait_ready(60)
    run.wait_members(3)


@scenario(modes=STATEFULSET)
def empty_volume_of_the_first(run):
    """ordinal 0 loses its volume: it joins, it does not found a second cluster"""
    run.world.wait_ready()
    run.world.delete(0, now=True)
    run.world.create(0, fresh=True)
    run.world.wait_ready(60)
    run.wait_members(3)


@scenario(quick=True)
def roll(run):
    """a rolling update: each pod stops with SIGTERM and comes back with another address"""
    for ordinal in sorted(run.world.pods, reverse=True):
        run.world.wait_ready()
        code = run.world.delete(ordinal)
        if code != 0:
            raise Failed(f"ss-{ordinal} ended with {code} after SIGTERM")
        run.world.create(ordinal)


@scenario()
def partition_leader(run):
    """the leader's network is cut and comes back"""
    leader = run.world.wait_ready()
    run.world.pods[leader].attach(False)
    run.new_leader(leader)
    run.writer.wait_writing()
    run.world.pods[leader].attach(True)


@scenario()
def dns_down(run):
    """the name server is silent while a pod's container starts again"""
    ordinal = run.follower()
    run.world.tell_dns(silent=True)
    try:
        run.world.pods[ordinal].kill()
        run.world.restart(ordinal)
        run.writer.wait_writing()
        run.world.wait_ready()
        run.note("ready without DNS")
    finally:
        run.world.tell_dns(silent=False)


@scenario()
def all_gone(run):
    """kill -9 of all pods at once; all come back with other addresses"""
    run.world.wait_ready()
    for pod in run.world.pods.values():
        pod.kill()
    everyone = sorted(run.world.pods)
    for ordinal in everyone:
        run.world.forget(ordinal)
    for ordinal in everyone:
        run.world.create(ordinal)
    run.world.wait_ready(60)


@scenario()
def stop_leader_often(run):
    """SIGTERM of the leader, again and again: a short gap, no write that fails beyond one retry"""
    gaps = []
    for _ in range(9):
        leader = run.world.wait_ready()
        run.writer.wait_writing()
        since = time.monotonic_ns()
        pod = run.world.pods[leader]
        code = pod.end(run.world.grace)
        if code != 0:
            raise Failed(f"ss-{leader} ended with {code} after SIGTERM")
        run.writer.wait_writing()
        gaps.append(longest(run.writer.acknowledged(), since) / 1e6)
        run.world.restart(leader)
    median = statistics.median(gaps)
    run.note(f"gaps in ms: {', '.join(f'{g:.0f}' for g in sorted(gaps))}; median {median:.0f}")
    run.gap_limit = ("median gap of a stopped leader", median, 100)
    run.retry_limit = True


def longest(times, since):
    """The longest span between two of the times, of those that end after `since`."""
    return max((b - a for a, b in zip(times, times[1:]) if b > since), default=0)


@scenario(modes=STATEFULSET, endpoints=5)
def scale_up_and_down(run):
    """kubectl scale to 5 and to 3"""
    run.world.wait_ready()
    run.world.scale(5)
    run.world.wait_ready(60)
    run.wait_members(5)
    codes = run.world.scale(3)
    if any(codes.values()):
        raise Failed(f"exit codes of the pods that left: {codes}")
    run.wait_members(3)


@scenario(modes=STATEFULSET, endpoints=5)
def kept_volumes(run):
    """scaled up again: the old volumes of removed pods are no harm"""
    run.world.wait_ready()
    run.world.scale(5)
    run.world.wait_ready(60)
    run.wait_members(5)
    aside = [o for o in (3, 4) if run.world.pods[o].said("moved the data of a removed member aside")]
    run.note(f"data set aside by {', '.join(f'ss-{o}' for o in aside) or 'nobody'}")
    run.world.scale(3)
    run.wait_members(3)


@scenario(modes=STATEFULSET, endpoints=5)
def five_to_one(run):
    """kubectl scale from 5 to 1, four pods at once, and back to 3"""
    run.world.scale(5)
    run.world.wait_ready(60)
    run.wait_members(5)
    codes = run.world.scale(1)
    if any(codes.values()) or None in codes.values():
        raise Failed(f"exit codes of the pods that left: {codes}")
    run.wait_members(1)
    run.writer.wait_writing()
    run.world.scale(3)
    run.world.wait_ready(60)
    run.wait_members(3)


@scenario(modes=STATEFULSET)
def drain_two(run):
    """SIGTERM to two of three at once: the second one waits until the first is back"""
    leader = run.world.wait_ready()
    first, second = sorted(o for o in run.world.pods if o != leader)
    run.world.pods[first].signal(signal.SIGTERM)
    run.world.pods[second].signal(signal.SIGTERM)
    gone = wait_for("one of the two stops",
                    lambda: [o for o in (first, second) if not run.world.pods[o].alive()], run.world.grace)
    time.sleep(1.0)  # the time in which a second one would be gone, if nothing held it
    held = [o for o in (first, second) if run.world.pods[o].alive()]
    if len(gone) != 1 or len(held) != 1:
        raise Failed("both stopped: nothing held the second")
    run.writer.wait_writing()
    wait_for(f"ss-{held[0]} says why it waits", lambda: run.world.pods[held[0]].said("may not stop yet"), 10)
    run.world.forget(gone[0])
    run.world.create(gone[0])
    code = run.world.pods[held[0]].process.wait(run.world.grace)
    run.note(f"ss-{held[0]} was held until ss-{gone[0]} was back, then ended with {code}")
    run.world.forget(held[0])
    run.world.create(held[0])


@scenario(modes=STATEFULSET)
def one_name_twice(run):
    """a second process with the name of a pod that runs: refused, the first one stays"""
    run.world.wait_ready()
    before = run.members()
    second = run.world.another(1)
    time.sleep(5.0)  # joining takes less
    if second.ready() or run.members() != before:
        raise Failed("the second process of one name was let in")
    run.world.drop_others()
    run.world.wait_ready()


@scenario(modes=STATEFULSET)
def no_second_cluster(run):
    """ordinal 0 comes back empty with everybody else down: it waits, it founds nothing"""
    run.world.wait_ready()
    for ordinal in list(run.world.pods):
        run.world.delete(ordinal, now=True)
    run.world.create(0, fresh=True)
    time.sleep(6.0)  # founding takes less
    if run.world.pods[0].ready() or run.world.pods[0].said("founded the cluster"):
        raise Failed("an empty ordinal 0 founded a second cluster")
    run.world.create(1)
    run.world.create(2)
    run.world.wait_ready(60)
    run.wait_members(3)


@scenario(modes=STATEFULSET)
def api_denied(run):
    """the API answers 403: all goes on; a pod that loses its volume is still replaced"""
    run.world.api(deny="true")
    try:
        lost = run.follower()
        run.world.delete(lost, now=True)
        run.world.create(lost, fresh=True)
        run.world.wait_ready(60)
        run.wait_members(3)
        leader = run.world.wait_ready()
        if run.world.delete(leader) != 0:
            raise Failed("the leader did not stop")
        run.world.create(leader)
        run.world.wait_ready(60)
    finally:
        run.world.api(deny="false")


@scenario(modes=STATEFULSET, fresh=True)
def form_without_api(run):
    """three pods make a cluster while the API is denied"""
    founded_in_time(run)


form_without_api.before = lambda world: world.api(deny="true")
