#!/usr/bin/env python3
"""The scripts of deploy/ against stand-ins for docker, podman, kind, kubectl and make: which calls come in which
order, what a second run does, and each row of the table "kind with a local registry" in docs/kubernetes.md.

    scripts_test.py [NAME]     those whose names hold NAME
"""
import json
import os
import platform as machine
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
DEPLOY = os.path.join(ROOT, "deploy")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
tests = []


def test(function):
    tests.append(function)
    return function


class World:
    """A folder with stand-ins in the PATH, and what they know."""

    def __init__(self, tools=("docker", "kind", "kubectl", "make"), **facts):
        self.dir = tempfile.mkdtemp()
        self.bin = os.path.join(self.dir, "bin")
        os.mkdir(self.bin)
        for tool in tools:
            shutil.copy(os.path.join(HERE, "standin.py"), os.path.join(self.bin, tool))
        # Of the system, what the scripts use besides; so that nothing real of the tools above is in the way.
        for tool in ("bash", "sh", "env", "awk", "sed", "grep", "cat", "cp", "chmod", "mktemp", "rm", "dirname", "basename",
                     "head", "uname", "git", "python3", "sleep", "printf"):
            path = shutil.which(tool)
            if path:
                os.symlink(path, os.path.join(self.bin, tool))
        self.path = os.path.join(self.dir, "world.json")
        self.record = os.path.join(self.dir, "record")
        world = {"engine": True, "rootless": False, "registry": "", "networks": [], "images": [], "air_gap": False,
                 "clusters": [], "platform": "linux/" + ARCH, "ready": True}
        world.update(facts)
        with open(self.path, "w") as f:
            json.dump(world, f)
        self.binary = os.path.join(self.dir, "nabata")
        with open(self.binary, "w") as f:
            f.write("#!/bin/sh\necho nabata 1.2.3\n")
        os.chmod(self.binary, 0o755)

    def run(self, script, *args, env=None):
        self.forget()
        environment = {"PATH": self.bin, "STANDIN_WORLD": self.path, "STANDIN_RECORD": self.record, "HOME": self.dir,
                       "TMPDIR": self.dir, "NABATA_BINARY": self.binary, **(env or {})}
        done = subprocess.run([os.path.join(DEPLOY, script), *args], env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        return self

    def forget(self):
        if os.path.exists(self.record):
            os.unlink(self.record)

    def calls(self):
        if not os.path.exists(self.record):
            return []
        with open(self.record) as f:
            return [json.loads(line) for line in f]

    def lines(self):
        """The calls that change something, as text."""
        reading = ("info", "inspect", "image inspect", "get ", "network inspect")
        return [t for t in (f'{c["tool"]} {" ".join(c["argv"])}' for c in self.calls())
                if not t.split(" ", 1)[1].startswith(reading) and "jsonpath" not in t]

    def state(self):
        with open(self.path) as f:
            return json.load(f)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)


def good(w):
    assert w.code == 0, f"exit code {w.code}\n{w.out}\n{w.err}"


def in_order(lines, *wanted):
    at = 0
    for piece in wanted:
        found = [i for i in range(at, len(lines)) if piece in lines[i]]
        assert found, f'no "{piece}" after line {at} of:\n' + "\n".join(lines)
        at = found[0] + 1


def none_with(lines, piece):
    assert not [line for line in lines if piece in line], f'there is "{piece}" in:\n' + "\n".join(lines)


@test
def a_first_run_makes_registry_cluster_and_what_joins_them():
    with World() as w:
        good(w.run("kind/kind-with-registry.sh"))
        in_order(w.lines(), "docker pull registry:3",
                 "docker run -d --restart=always -p 127.0.0.1:5001:5000 --network bridge --name kind-registry registry:3",
                 "kind create cluster --name nabata",
                 "docker exec nabata-control-plane mkdir -p /etc/containerd/certs.d/localhost:5001",
                 "docker exec -i nabata-control-plane cp /dev/stdin /etc/containerd/certs.d/localhost:5001/hosts.toml",
                 "docker exec -i nabata-worker cp /dev/stdin", "docker network connect kind kind-registry",
                 "kubectl --context kind-nabata apply -f -")
        given = {c["argv"][0]: c["stdin"] for c in w.calls() if c["stdin"]}
        assert 'config_path = "/etc/containerd/certs.d"' in given["create"], given
        assert '[host."http://kind-registry:5000"]' in given["exec"], given
        assert "name: local-registry-hosting" in given["--context"] and "namespace: kube-public" in given["--context"]


@test
def a_second_run_keeps_what_runs_and_writes_the_rest_again():
    with World() as w:
        good(w.run("kind/kind-with-registry.sh"))
        good(w.run("kind/kind-with-registry.sh"))
        lines = w.lines()
        for gone in ("docker run", "docker start", "docker pull", "kind create", "network connect"):
            none_with(lines, gone)
        in_order(lines, "hosts.toml", "hosts.toml", "apply -f -")


@test
def a_stopped_registry_is_started_not_made_again():
    with World(registry="stopped", networks=["bridge", "kind"]) as w:
        good(w.run("kind/kind-with-registry.sh"))
        in_order(w.lines(), "docker start kind-registry", "kind create cluster")
        none_with(w.lines(), "docker run")


@test
def a_cluster_that_is_there_is_kept_but_told_of_the_registry():
    with World(clusters=["nabata"]) as w:
        good(w.run("kind/kind-with-registry.sh"))
        none_with(w.lines(), "kind create")
        in_order(w.lines(), "docker run -d", "hosts.toml", "network connect kind", "apply -f -")


@test
def the_clusters_name_is_given_to_every_call():
    with World() as w:
        good(w.run("kind/up.sh", "--name", "other", env={"PATH": w.bin}))
        for c in w.calls():
            if c["tool"] == "kind" and c["argv"] != ["get", "clusters"]:
                assert c["argv"][c["argv"].index("--name") + 1] == "other", c
            if c["tool"] == "kubectl":
                assert c["argv"][:2] == ["--context", "kind-other"], c
        good(w.run("kind/down.sh", "--name", "other"))
        assert w.lines() == ["kind delete cluster --name other"], w.lines()


@test
def podman_is_taken_by_one_variable():
    with World(tools=("podman", "docker", "kind", "kubectl", "make")) as w:
        good(w.run("kind/kind-with-registry.sh", env={"ENGINE": "podman"}))
        none_with(w.lines(), "docker ")
        assert all(c["provider"] == "podman" for c in w.calls() if c["tool"] == "kind"), w.calls()
        good(w.run("image/build.sh", "--binary", w.binary, "--push", env={"ENGINE": "podman"}))
        in_order(w.lines(), "podman build", "podman push --tls-verify=false localhost:5001/nabata:latest",
                 "podman push --tls-verify=false localhost:5001/nabata-client:latest")
        w.run("kind/kind-with-registry.sh", env={"ENGINE": "lxc"})
        assert w.code != 0 and "docker and podman are known" in w.err, w.err


@test
def rootless_podman_has_the_registry_on_kinds_network():
    with World(tools=("podman", "kind", "kubectl", "make"), rootless=True) as w:
        good(w.run("kind/kind-with-registry.sh"))
        in_order(w.lines(), "podman network create kind", "podman run -d --restart=always -p 127.0.0.1:5001:5000 --network kind")
        none_with(w.lines(), "network connect")


@test
def behind_an_air_gap_the_images_are_carried_into_the_nodes():
    with World(air_gap=True) as w:
        good(w.run("kind/kind-with-registry.sh"))
        assert "there is no registry" in w.out, w.out
        none_with(w.lines(), "hosts.toml")
        os.makedirs(os.path.join(w.dir, "r"))
        good(w.run("kind/up.sh"))
        lines = w.lines()
        none_with(lines, "push")
        in_order(lines, "docker build", "kind load docker-image localhost:5001/nabata:latest --name nabata",
                 "kind load docker-image localhost:5001/nabata-client:latest --name nabata", "apply -k")


@test
def images_are_built_for_the_nodes_machine():
    with World() as w:
        good(w.run("kind/up.sh"))
        in_order(w.lines(), f"docker build --platform linux/{ARCH}")
    with World(platform="linux/riscv64") as w:
        w.run("kind/up.sh")
        assert w.code != 0 and "the nodes are linux/riscv64" in w.err, w.err
        none_with(w.lines(), "docker build")


@test
def missing_tools_are_named_before_anything_is_changed():
    with World(tools=("docker",)) as w:
        w.run("kind/up.sh")
        assert w.code != 0, w.out
        for words in ("missing: kind", "kind.sigs.k8s.io", "missing: kubectl", "kubernetes.io/docs/tasks/tools", "nothing was changed"):
            assert words in w.err, w.err
        assert w.lines() == [], w.lines()
    with World(engine=False) as w:
        w.run("kind/up.sh")
        assert w.code != 0 and "its engine does not answer" in w.err, w.err
        assert w.lines() == [], w.lines()


@test
def a_dry_run_changes_nothing_and_says_all():
    with World() as w:
        for script, words in (("kind/kind-with-registry.sh", "kind create cluster"), ("kind/up.sh", "apply -k"),
                              ("kind/statefulset.sh", "delete statefulset ss"), ("kind/pods.sh", "c1.yaml"),
                              ("kind/delete-servers.sh", "delete statefulset ss")):
            good(w.run(script, "--dry-run"))
            assert w.lines() == [], (script, w.lines())
            assert words in w.out, (script, w.out)


@test
def the_whole_path_in_order():
    with World() as w:
        good(w.run("kind/up.sh"))
        in_order(w.lines(), "docker run -d", "kind create cluster", "hosts.toml", "make -C", "docker build",
                 "docker push localhost:5001/nabata:latest", "docker build", "docker push localhost:5001/nabata-client:latest",
                 "delete statefulset ss", "wait --for=delete pod", "delete persistentvolumeclaim", "apply -k",
                 "rollout status statefulset/ss", "delete pod c1", "c1.yaml", "wait --for=condition=Ready pod/c1",
                 "exec c1 -- nabata check ss-0.ss-service.default.svc.cluster.local:6000 "
                 "ss-1.ss-service.default.svc.cluster.local:6000 ss-2.ss-service.default.svc.cluster.local:6000")
        good(w.run("kind/up.sh", "--keep-data"))
        none_with(w.lines(), "persistentvolumeclaim")


@test
def servers_are_replaced_and_keep_their_volumes_unless_told():
    with World(clusters=["nabata"]) as w:
        good(w.run("kind/statefulset.sh"))
        in_order(w.lines(), "delete statefulset ss", "wait --for=delete pod", "apply -k", "rollout status")
        none_with(w.lines(), "persistentvolumeclaim")
        good(w.run("kind/statefulset.sh", "--fresh"))
        in_order(w.lines(), "delete statefulset ss", "delete persistentvolumeclaim", "apply -k")
        good(w.run("kind/delete-servers.sh", "--volumes"))
        in_order(w.lines(), "delete statefulset ss", "delete persistentvolumeclaim")
        none_with(w.lines(), "apply")


@test
def servers_that_do_not_become_ready_show_what_they_say():
    with World(clusters=["nabata"], ready=False) as w:
        w.run("kind/statefulset.sh", "--timeout", "1")
        assert w.code != 0 and "did not become ready within 1 s" in w.err, w.err
        in_order([" ".join(c["argv"]) for c in w.calls()], "get pods", "logs -l")


@test
def cleaning_up_removes_the_registry_only_if_told():
    with World(registry="running", networks=["bridge", "kind"], clusters=["nabata"]) as w:
        good(w.run("kind/down.sh"))
        assert w.lines() == ["kind delete cluster --name nabata"], w.lines()
        good(w.run("kind/down.sh", "--registry"))
        assert w.lines() == ["docker rm -f -v kind-registry"], w.lines()
        good(w.run("kind/down.sh", "--registry"))
        assert w.lines() == [] and "there is no registry" in w.out, w.out


@test
def images_carry_their_labels_and_hold_the_binary_alone():
    with World() as w:
        good(w.run("image/build.sh", "--binary", w.binary, "--base", "mirror/alpine:3"))
        server, client = [line for line in w.lines() if line.startswith("docker build")]
        assert "--build-arg VERSION=1.2.3" in server and "-t localhost:5001/nabata:latest" in server, server
        assert "--build-arg BASE=mirror/alpine:3" in client and "-t localhost:5001/nabata-client:latest" in client
        none_with(w.lines(), "push")
        w.run("image/build.sh", "--binary", "/nowhere/nabata")
        assert w.code != 0 and "make build" in w.err, w.err


@test
def every_script_has_help_and_refuses_what_it_does_not_know():
    with World() as w:
        for script in ("kind/up.sh", "kind/down.sh", "kind/kind-with-registry.sh", "kind/statefulset.sh", "kind/pods.sh",
                       "kind/delete-servers.sh", "image/build.sh"):
            good(w.run(script, "--help"))
            assert script in w.out and "--dry-run" in w.out, (script, w.out)
            w.run(script, "--nonsense")
            assert w.code != 0 and "unknown argument --nonsense" in w.err, (script, w.err)
            w.run(script, "--name") if "image" not in script else w.run(script, "--tag")
            assert w.code != 0 and "needs a value" in w.err, (script, w.err)


def main():
    failed = 0
    chosen = [t for t in tests if len(sys.argv) < 2 or sys.argv[1] in t.__name__]
    for t in chosen:
        try:
            t()
            print(f"[ ok ] {t.__name__}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            failed += 1
            print(f"[FAIL] {t.__name__}: {e}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
