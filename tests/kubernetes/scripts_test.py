#!/usr/bin/env python3
"""The scripts of deploy/ against stand-ins for docker, podman, kind, kubectl and make that record how they are called
and answer from a small model of the world (a JSON file): which clusters, containers and images there are.
"""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
KIND = "deploy/kind/"
REVISION = "localhost:5001/nabata:latest"
CLIENT = "localhost:5001/nabata-client:latest"
HOSTS = "/etc/containerd/certs.d/localhost:5001/hosts.toml"

STAND_IN = r'''#!%(python)s -IS
import json, os, sys
folder = %(folder)r
tool, args = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(folder + "/world.json") as f:
    world = json.load(f)
reads_stdin = any(a in ("--config=-", "/dev/stdin", "-") for a in args)
with open(folder + "/calls", "a") as f:
    f.write(json.dumps({"argv": [tool] + args, "stdin": sys.stdin.read() if reads_stdin else "",
        "provider": os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "")}) + "\n")
def answer(text="", status=0):
    with open(folder + "/world.json", "w") as f:
        json.dump(world, f)
    if text:
        print(text)
    sys.exit(status)
line = " ".join(args)
if tool in ("docker", "podman"):
    if args[0] == "info":
        if tool not in world["engines"]:
            answer("", 1)
        answer(str(world["rootless"]).lower() if "--format" in args else "")
    if args[0] == "inspect" and args[-1] != "kind-registry":
        answer(str(args[-1] not in world["stopped"]).lower())
    if args[0] == "inspect":
        if world["registry"] is None:
            answer("", 1)
        if "Running" in line:
            answer(str(world["registry"] == "running").lower())
        answer('{"IPAMConfig":null}' if world["joined"] else "null")
    if args[:2] == ["image", "inspect"]:
        answer("", 0 if world["registry_image"] else 1)
    if args[0] == "pull":
        answer("", 0 if world["network"] else 1)
    if args[0] == "run":
        world["registry"] = "running"
        world["joined"] = "kind" in args
    if args[0] == "start" and args[1] in world["stopped"]:
        world["stopped"].remove(args[1])
    elif args[0] == "start":
        world["registry"] = "running"
    if args[:2] == ["network", "connect"]:
        world["joined"] = True
    if args[0] == "rm":
        world["registry"] = None
if tool == "kind":
    if args == ["get", "clusters"]:
        answer("\n".join(world["clusters"]))
    if args[:2] == ["get", "nodes"]:
        answer(args[3] + "-control-plane\n" + args[3] + "-worker")
    if args[:2] == ["create", "cluster"]:
        world["clusters"].append(args[3])
    if args[:2] == ["delete", "cluster"]:
        world["clusters"].remove(args[3])
if tool == "kubectl" and "get-contexts" in args:
    answer("\n".join("kind-" + c for c in world["clusters"] if c not in world["no_context"]))
if tool == "kubectl" and "rollout" in args:
    answer("", world["rollout"])
if tool == "kubectl" and "nodes" in args:
    answer(world["arch"])
answer()
'''


class World:
    """A PATH of stand-ins, and the model that they answer from."""

    def __init__(self, tools=("docker", "podman", "kind", "kubectl", "make"), **changes):
        self.folder = tempfile.mkdtemp()
        world = {"engines": ["docker"], "rootless": False, "registry": None, "joined": False, "registry_image": False,
                 "network": True, "clusters": [], "arch": "amd64", "stopped": [], "no_context": [], "rollout": 0}
        world.update(changes)
        with open(self.folder + "/world.json", "w", encoding="utf-8") as f:
            json.dump(world, f)
        self.bin = self.folder + "/bin"
        os.mkdir(self.bin)
        for tool in tools:
            with open(f"{self.bin}/{tool}", "w", encoding="utf-8") as f:
                f.write(STAND_IN % {"python": os.path.realpath(shutil.which("python3", path="/usr/bin:/bin") or "python3"),
                                    "folder": self.folder})
            os.chmod(f"{self.bin}/{tool}", 0o755)
        for tool in ("bash", "sed", "grep", "dirname", "cat", "mktemp", "rm", "rmdir", "install", "ln", "mkdir", "od", "tr",
                     "git"):
            os.symlink(shutil.which(tool), f"{self.bin}/{tool}")

    def run(self, script, *args, **env):
        """Returns (exit code, all that was printed, the calls that change something)."""
        calls = self.folder + "/calls"
        open(calls, "w", encoding="utf-8").close()
        done = subprocess.run([f"{ROOT}/{script}", *args], env={"PATH": self.bin, "HOME": self.folder, **env}, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(calls, encoding="utf-8") as f:
            self.all = [json.loads(line) for line in f]
        return done.returncode, done.stdout, [c for c in self.all if changes(c["argv"])]


def changes(argv):
    words = " ".join(argv[1:])
    reads = words.startswith(("info", "inspect", "image inspect", "get ", "config get-contexts"))
    return not reads and " get nodes " not in f" {words} " and " get --raw " not in words


def lines(calls):
    return [" ".join(c["argv"]) for c in calls]


class ScriptsTest(unittest.TestCase):
    def world(self, **changes_):
        w = World(**changes_)
        self.addCleanup(shutil.rmtree, w.folder)
        return w

    def fine(self, world, script, *args, **env):
        code, said, calls = world.run(script, *args, **env)
        self.assertEqual(code, 0, said)
        return calls

    def in_order(self, calls, *starts):
        """Each of `starts` begins a call, in this order; others may stand between."""
        at = iter(lines(calls))
        for start in starts:
            self.assertTrue(any(line.startswith(start) for line in at), f"no '{start}' in its place in {lines(calls)}")

    def none(self, calls, *parts):
        for part in parts:
            self.assertFalse([line for line in lines(calls) if part in line], part)

    def test_from_nothing_registry_cluster_hosts_network_configmap(self):
        calls = self.fine(self.world(), KIND + "kind-with-registry.sh")
        self.assertEqual(lines(calls), [
            "docker pull registry:3",
            "docker run --detach --restart always --publish 127.0.0.1:5001:5000 --network bridge --name kind-registry registry:3",
            "kind create cluster --name nabata --config=-",
            "docker exec nabata-control-plane mkdir -p /etc/containerd/certs.d/localhost:5001",
            "docker exec --interactive nabata-control-plane cp /dev/stdin " + HOSTS,
            "docker exec nabata-worker mkdir -p /etc/containerd/certs.d/localhost:5001",
            "docker exec --interactive nabata-worker cp /dev/stdin " + HOSTS,
            "docker network connect kind kind-registry",
            "kubectl --context kind-nabata apply --filename -"])
        self.assertIn('config_path = "/etc/containerd/certs.d"', calls[2]["stdin"])
        self.assertEqual(calls[4]["stdin"].strip(), '[host."http://kind-registry:5000"]')
        self.assertIn("name: local-registry-hosting\n  namespace: kube-public", calls[8]["stdin"])
        self.assertIn('host: "localhost:5001"', calls[8]["stdin"])

    def test_run_again_keeps_all_and_writes_hosts_and_configmap(self):
        w = self.world()
        self.fine(w, KIND + "kind-with-registry.sh")
        calls = self.fine(w, KIND + "kind-with-registry.sh")
        self.none(calls, "docker run", "docker pull", "create cluster", "network connect")
        self.assertEqual(len([line for line in lines(calls) if line.endswith(HOSTS)]), 2)
        self.in_order(calls, "docker exec", "kubectl --context kind-nabata apply")

    def test_a_stopped_registry_is_started(self):
        calls = self.fine(self.world(registry="stopped", clusters=["nabata"]), KIND + "kind-with-registry.sh")
        self.none(calls, "docker run", "create cluster")
        self.in_order(calls, "docker start kind-registry", "docker exec", "docker network connect kind kind-registry")

    def test_stopped_nodes_are_started(self):
        # as podman leaves them when the machine was restarted
        w = self.world(clusters=["nabata"], registry="running", joined=True, stopped=["nabata-worker"])
        calls = self.fine(w, KIND + "kind-with-registry.sh")
        self.in_order(calls, "docker start nabata-worker", "docker exec nabata-control-plane")
        self.none(calls, "kind create", "start nabata-control-plane")

    def test_a_cluster_that_kubectl_does_not_know_is_made_known(self):
        w = self.world(clusters=["nabata"], registry="running", joined=True, no_context=["nabata"])
        self.in_order(self.fine(w, KIND + "kind-with-registry.sh"), "kind export kubeconfig --name nabata", "docker exec")

    def test_no_registry_on_purpose_pushes_to_none_that_runs(self):
        calls = self.fine(self.world(registry="running"), KIND + "up.sh", "--no-registry")
        self.none(calls, "push")
        self.in_order(calls, "make", f"kind load docker-image --name nabata {REVISION} {CLIENT}")

    def test_servers_that_do_not_get_ready_end_with_what_to_look_at(self):
        code, said, _ = self.world(clusters=["nabata"], rollout=1).run(KIND + "statefulset.sh")
        self.assertEqual(code, 1, said)
        self.assertIn("kubectl --context kind-nabata describe pod", said)

    def test_the_name_goes_to_every_call(self):
        w = self.world(clusters=["nabata", "another-one"])
        calls = self.fine(w, KIND + "up.sh", "--name", "another")
        self.in_order(calls, "kind create cluster --name another ", "docker exec another-control-plane ")
        for call in w.all:
            line = " ".join(call["argv"])
            if call["argv"][0] == "kind" and line != "kind get clusters":
                self.assertIn("--name another", line)
            if call["argv"][0] == "kubectl":
                self.assertIn("--context kind-another ", line)

    def test_podman_is_taken_when_docker_does_not_answer(self):
        w = self.world(engines=["podman"])
        calls = self.fine(w, KIND + "up.sh")
        self.none(calls, "docker ")
        self.in_order(calls, "podman run", "kind create", "make --no-print-directory image ENGINE=podman ARCH=amd64",
                      "podman push --tls-verify=false " + REVISION, "podman push --tls-verify=false " + CLIENT)
        self.assertEqual({c["provider"] for c in w.all if c["argv"][0] == "kind"}, {"podman"})
        self.assertIn("--name kind-registry docker.io/library/registry:3", "\n".join(lines(calls)))

    def test_one_variable_chooses_the_engine(self):
        calls = self.fine(self.world(engines=["docker", "podman"]), KIND + "kind-with-registry.sh", ENGINE="podman")
        self.none(calls, "docker run")
        code, said, calls = self.world().run(KIND + "up.sh", ENGINE="lxc")
        self.assertNotEqual(code, 0)
        self.assertEqual(calls, [])
        self.assertIn("lxc", said)

    def test_rootless_podman_starts_the_registry_on_the_network_kind(self):
        calls = self.fine(self.world(engines=["podman"], rootless=True), KIND + "kind-with-registry.sh")
        self.in_order(calls, "kind create cluster", "podman run --detach --restart always --publish 127.0.0.1:5001:5000 "
                      "--network kind --name kind-registry", "podman exec")
        self.none(calls, "network connect")

    def test_air_gap_loads_the_images_into_the_nodes(self):
        w = self.world(network=False)
        calls = self.fine(w, KIND + "up.sh")
        self.in_order(calls, "kind create cluster", "make", f"kind load docker-image --name nabata {REVISION} {CLIENT}",
                      "kubectl --context kind-nabata --namespace default apply --kustomize")
        self.none(calls, "docker run", "docker push", "hosts.toml", "network connect")

    def test_air_gap_with_podman_loads_archives(self):
        calls = self.fine(self.world(network=False, engines=["podman"]), KIND + "up.sh")
        self.in_order(calls, "podman save --output", "kind load image-archive --name nabata", "podman save --output",
                      "kind load image-archive --name nabata")

    def test_air_gap_uses_a_registry_image_that_is_there(self):
        calls = self.fine(self.world(network=False, registry_image=True), KIND + "up.sh")
        self.in_order(calls, "docker run", "docker push " + REVISION, "docker push " + CLIENT)

    def test_no_registry_on_purpose(self):
        calls = self.fine(self.world(), KIND + "up.sh", "--no-registry")
        self.none(calls, "registry:3", "docker push")
        self.in_order(calls, "kind load docker-image")

    def test_images_are_built_for_the_nodes_architecture(self):
        calls = self.fine(self.world(arch="arm64"), KIND + "up.sh")
        self.in_order(calls, "kind create", "make --no-print-directory image ENGINE=docker ARCH=arm64")

    def test_a_binary_of_another_architecture_is_refused(self):
        w = self.world()
        binary = w.folder + "/nabata"
        with open(binary, "wb") as f:
            f.write(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00" + bytes(44))
        code, said, calls = w.run("deploy/image/build.sh", BINARY=binary, ARCH="arm64")
        self.assertNotEqual(code, 0)
        self.assertIn("arm64", said)
        self.assertEqual(calls, [])
        calls = self.fine(w, "deploy/image/build.sh", BINARY=binary)
        self.in_order(calls, "docker build --platform linux/amd64 --file", "docker build --platform linux/amd64 --file")
        self.assertIn("--tag " + REVISION, lines(calls)[0])
        self.assertIn("--tag " + CLIENT, lines(calls)[1])
        self.assertIn("--build-arg BASE=alpine:", lines(calls)[1])
        self.assertRegex(lines(calls)[0], r"--build-arg VERSION=[0-9]\S* --build-arg REVISION=\w+")

    def test_no_engine_is_a_clear_error(self):
        for script in ("deploy/image/build.sh", KIND + "up.sh"):
            code, said, calls = self.world(engines=[]).run(script, BINARY=ROOT + "/README.md", ARCH="unknown")
            self.assertNotEqual(code, 0)
            self.assertIn("no container engine answers", said)
            self.assertEqual(calls, [])

    def test_missing_tools_are_all_named_before_anything_changes(self):
        code, said, calls = self.world(tools=("make",)).run(KIND + "up.sh")
        self.assertNotEqual(code, 0)
        for word in ("https://kind.sigs.k8s.io", "https://kubernetes.io/docs/tasks/tools", "podman"):
            self.assertIn(word, said)
        self.assertEqual(calls, [])

    def test_a_dry_run_changes_nothing(self):
        for script in ("kind-with-registry.sh", "statefulset.sh", "pods.sh", "delete-servers.sh", "down.sh", "up.sh"):
            calls = self.fine(self.world(clusters=["nabata"]), KIND + script, "--dry-run")
            self.assertEqual(lines(calls), [], script)
        code, said, _ = self.world(tools=(), engines=[]).run(KIND + "up.sh", "--dry-run")
        self.assertEqual(code, 0, said)
        self.assertIn("+ kind create cluster --name nabata", said)

    def test_help_needs_nothing(self):
        for script in ("kind-with-registry.sh", "statefulset.sh", "pods.sh", "delete-servers.sh", "down.sh", "up.sh"):
            w = self.world(tools=(), engines=[])
            code, said, _ = w.run(KIND + script, "--help")
            self.assertEqual((code, w.all), (0, []), said)
            for word in ("usage:", "--name", "--dry-run"):
                self.assertIn(word, said)
            self.assertEqual(w.run(KIND + script, "--nonsense")[0], 2)

    def test_statefulset_removes_earlier_servers_and_launches_three(self):
        calls = self.fine(self.world(clusters=["nabata"]), KIND + "statefulset.sh")
        start = "kubectl --context kind-nabata --namespace default "
        self.in_order(calls, start + "delete statefulset", start + "delete pod",
                      start + "apply --kustomize deploy/kubernetes/overlays/kind --selector "
                      "app.kubernetes.io/name=nabata,app.kubernetes.io/component=server",
                      start + "rollout status statefulset/ss")
        self.none(calls, "persistentvolumeclaim", "component=client")

    def test_pods_launches_the_client_only(self):
        calls = self.fine(self.world(clusters=["nabata"]), KIND + "pods.sh")
        self.in_order(calls, "kubectl --context kind-nabata --namespace default delete pod",
                      "kubectl --context kind-nabata --namespace default apply",
                      "kubectl --context kind-nabata --namespace default wait --for condition=Ready pod/c1")
        self.none(calls, "component=server")

    def test_delete_servers_keeps_the_volumes_unless_told(self):
        w = self.world(clusters=["nabata"])
        calls = self.fine(w, KIND + "delete-servers.sh")
        self.none(calls, "persistentvolumeclaim", "component=client")
        calls = self.fine(w, KIND + "delete-servers.sh", "--volumes")
        start = "kubectl --context kind-nabata --namespace default delete "
        self.in_order(calls, start + "statefulset", start + "pod", start + "service", start + "persistentvolumeclaim")

    def test_down_removes_the_cluster_and_the_registry_when_told(self):
        w = self.world(clusters=["nabata", "other"], registry="running")
        self.assertEqual(lines(self.fine(w, KIND + "down.sh")), ["kind delete cluster --name nabata"])
        self.assertEqual(lines(self.fine(w, KIND + "down.sh", "--registry")), ["docker rm --force --volumes kind-registry"])
        self.assertEqual(self.fine(w, KIND + "down.sh", "--registry"), [])

    def test_up_does_the_whole_path_in_order_and_again(self):
        w = self.world()
        nodes = " ".join(f"ss-{i}.ss-service.default.svc.cluster.local:6000" for i in range(3))
        path = ("make --no-print-directory image ENGINE=docker ARCH=amd64", "docker push " + REVISION,
                "docker push " + CLIENT, "kubectl --context kind-nabata --namespace default delete statefulset",
                "kubectl --context kind-nabata --namespace default apply",
                "kubectl --context kind-nabata --namespace default rollout status",
                "kubectl --context kind-nabata --namespace default apply",
                "kubectl --context kind-nabata --namespace default exec c1 -- nabata check " + nodes,
                "kubectl --context kind-nabata --namespace default exec c1 -- nabata check")
        self.in_order(self.fine(w, KIND + "up.sh"), "docker run", "kind create cluster", *path)
        calls = self.fine(w, KIND + "up.sh")
        self.none(calls, "docker run", "kind create")
        self.in_order(calls, *path)

    @unittest.skipUnless(shutil.which("shellcheck"), "there is no shellcheck here")
    def test_shellcheck_is_content(self):
        found = subprocess.run(["git", "ls-files", "deploy/*.sh", "tests/kubernetes/*.sh"], cwd=ROOT, check=True,
                               stdout=subprocess.PIPE, text=True).stdout.split()
        done = subprocess.run(["shellcheck", *found], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
