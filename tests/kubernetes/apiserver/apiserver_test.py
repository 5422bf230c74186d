#!/usr/bin/env python3
"""nabata's manifests and pods under a real Kubernetes API server and its StatefulSet controller.

    apiserver_test.py [--binary NABATA] [--kubernetes FOLDER] [--keep]

FOLDER is what build.sh made. There is no node: the test acts as the kubelet for each pod that the controller makes. It
binds it, runs nabata in a network namespace (tests/kubernetes/rig/world.py) with the pod's own arguments, a token of
its service account and its volume, tells the API what /readyz says, and sends SIGTERM when the pod is deleted. Needs
root; exits with 77 and a line when something is missing.
"""
import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
sys.path.insert(0, os.path.join(HERE, "..", "rig"))
import rig  # noqa: E402
import world as rig_world  # noqa: E402
from plane import Plane  # noqa: E402
from world import Client, Failed, World, wait_for  # noqa: E402

OVERLAYS = os.path.join(ROOT, "deploy", "kubernetes", "overlays")
NAMESPACE = "nabata"
CORE, SETS = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
BUDGET = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/ss"
MERGE = "application/merge-patch+json"


def equal(what, got, want):
    if got != want:
        raise Failed(f"{what}: {got}, not {want}")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def names(objects):
    return sorted(o["metadata"]["name"] for o in objects["items"])


# ---- the manifests ----

def apply(plane, overlay):
    plane.kubectl("apply", "--server-side", "--validate=strict", "-k", os.path.join(OVERLAYS, overlay))


def production_is_accepted(plane):
    """overlay production: no rejection, no warning, and the controller makes all three pods at once"""
    apply(plane, "production")
    apply(plane, "production")  # again: nothing that it would fight over with itself
    wait_for("three pods", lambda: names(plane.must("GET", CORE + "/pods")) == ["ss-0", "ss-1", "ss-2"], 30)
    pods = plane.must("GET", CORE + "/pods")["items"]
    for pod in pods:
        pod_is_as_expected(pod)
    claims = plane.must("GET", CORE + "/persistentvolumeclaims")
    equal("volume claims", names(claims), ["data-ss-0", "data-ss-1", "data-ss-2"])
    equal("their owners", [c["metadata"].get("ownerReferences") for c in claims["items"]], [None] * 3)
    events = plane.must("GET", CORE + "/events")["items"]
    equal("warnings of the controller", [e["message"] for e in events if e["type"] != "Normal"
                                         and e["involvedObject"]["kind"] == "StatefulSet"], [])
    headless = plane.must("GET", CORE + "/services/ss-service")["spec"]
    equal("the headless service", (headless["clusterIP"], headless["publishNotReadyAddresses"]), ("None", True))
    client = plane.must("GET", CORE + "/services/ss-client")["spec"]
    equal("the clients' service", [p["port"] for p in client["ports"]], [2379])
    wait_for("the disruption budget counts three pods",
             lambda: plane.must("GET", BUDGET)["status"].get("expectedPods") == 3, 30)


def pod_is_as_expected(pod):
    name, spec = pod["metadata"]["name"], pod["spec"]
    container = spec["containers"][0]
    equal(f"{name}: host name", (spec["hostname"], spec["subdomain"]), (name, "ss-service"))
    equal(f"{name}: grace", spec["terminationGracePeriodSeconds"], 120)
    equal(f"{name}: account", spec["serviceAccountName"], "nabata")
    fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    equal(f"{name}: environment", fields, {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"})
    probes = [container[p]["httpGet"]["path"] for p in ("startupProbe", "livenessProbe", "readinessProbe")]
    equal(f"{name}: probes", probes, ["/livez", "/livez", "/readyz"])
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    equal(f"{name}: volume", claims, [f"data-{name}"])
    mounts = [m["mountPath"] for m in container["volumeMounts"]]
    equal(f"{name}: mounts", sorted(mounts), ["/data", "/" + rig_world.ACCOUNT])


def a_pod_that_is_not_restricted_is_refused(plane):
    """PodSecurity is at work in the namespace: a pod without our security context is refused"""
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"},
            "spec": {"serviceAccountName": "nabata", "containers": [{"name": "c", "image": "x"}]}}
    code, value, _ = plane.request("POST", CORE + "/pods?dryRun=All", body)
    equal("a loose pod", (code, "PodSecurity" in value.get("message", "")), (403, True))


def kind_is_accepted(plane):
    """overlay kind: no rejection, no warning; the client pod too"""
    wait_for("the default service account",
             lambda: plane.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200, 30)
    apply(plane, "kind")
    pods = "/api/v1/namespaces/default/pods"
    wait_for("its pods", lambda: names(plane.must("GET", pods)) == ["c1", "ss-0", "ss-1", "ss-2"], 30)
    for pod in plane.must("GET", pods)["items"]:
        mounts = [m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]]
        equal(pod["metadata"]["name"], [m for m in mounts if "serviceaccount" in m], [])  # no token


# ---- the role ----

def role_is_exact(plane):
    """the pods' token: get and patch of StatefulSet ss, nothing else"""
    token = plane.token(NAMESPACE, "nabata")
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": NAMESPACE}}
    told = plane.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body, token=token)
    # Everybody may ask about himself, and since 1.37 read the cluster's trust bundles: groups that end in .k8s.io.
    ours = [r for r in told["status"]["resourceRules"]
            if not all(g.endswith(".k8s.io") for g in r.get("apiGroups", []))]
    equal("its rules", ours, [{"verbs": ["get", "patch"], "apiGroups": ["apps"], "resources": ["statefulsets"],
                               "resourceNames": ["ss"]}])
    for verb, group, resource, name, allowed in (
            ("get", "apps", "statefulsets", "ss", True), ("patch", "apps", "statefulsets", "ss", True),
            ("get", "apps", "statefulsets", "other", False), ("update", "apps", "statefulsets", "ss", False),
            ("delete", "apps", "statefulsets", "ss", False), ("list", "apps", "statefulsets", "", False),
            ("watch", "apps", "statefulsets", "", False), ("create", "apps", "statefulsets", "", False),
            ("get", "", "pods", "ss-0", False), ("get", "", "secrets", "x", False),
            ("create", "", "pods", "", False), ("get", "", "configmaps", "kube-root-ca.crt", False)):
        ask = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
            "resourceAttributes": {"namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource,
                                   "name": name}}}
        said = plane.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ask, token=token)
        equal(f"may {verb} {resource} {name}", said["status"]["allowed"], allowed)
    requests_are_as_the_role_says(plane, token)


def requests_are_as_the_role_says(plane, token):
    note = {"metadata": {"annotations": {"nabata/test": "1"}}}
    for method, path, body, want in (
            ("GET", SETS + "/ss", None, 200), ("PATCH", SETS + "/ss", note, 200),
            ("PATCH", SETS + "/ss", {"metadata": {"annotations": {"nabata/test": None}}}, 200),
            ("GET", SETS + "/other", None, 403), ("GET", SETS, None, 403), ("DELETE", SETS + "/ss", None, 403),
            ("GET", SETS + "/ss/scale", None, 403), ("GET", CORE + "/pods", None, 403),
            ("GET", "/apis/apps/v1/namespaces/default/statefulsets/ss", None, 403)):
        code, value, _ = plane.request(method, path, body, token=token, kind=MERGE)
        equal(f"{method} {path} ({value})"[:300], code, want)
    equal("a wrong token", plane.request("GET", SETS + "/ss", token="x" * 40)[0], 401)


# ---- pods that run ----

class RealWorld(World):
    """The rig's world, with the real API in place of the stand-in; its pods are those of the StatefulSet controller."""

    def __init__(self, folder, binary, binaries):
        rig_world.NAMESPACE, rig_world.DOMAIN = NAMESPACE, f"{NAMESPACE}.svc.{rig_world.ZONE}"
        self.binaries, self.plane, self.objects = binaries, None, {}
        super().__init__(folder, binary, "statefulset")

    def begin_api(self):
        self.plane = self.api_process = Plane(os.path.join(self.folder, "plane"), self.binaries, rig_world.API_ADDRESS)

    def fill_account(self):
        for name, text in (("token", self.plane.token(NAMESPACE, "nabata")), ("namespace", NAMESPACE)):
            with open(os.path.join(self.account, name), "w") as f:
                f.write(text)
        shutil.copy(self.plane.at("ca.crt"), self.account)

    def arguments(self, ordinal):
        return self.objects[ordinal]["spec"]["containers"][0]["args"]

    def environment(self):
        return super().environment() | {"POD_NAMESPACE": NAMESPACE}  # POD_NAME: the host name is the same

    def close(self):
        for pod in list(self.pods.values()):
            pod.kill()
        if self.plane is not None:
            self.plane.close()
        self.dns.kill()
        self.dns.wait()


class Kubelet:
    """The life of the set's pods, a step at a time."""

    def __init__(self, world):
        self.world, self.plane = world, world.plane
        self.running = {}  # by uid: what is told, when it must be over
        self.exit_codes = []

    def step(self):
        for pod in self.plane.must("GET", CORE + "/pods")["items"]:
            uid, ordinal = pod["metadata"]["uid"], int(pod["metadata"]["name"].rsplit("-", 1)[1])
            if "nodeName" not in pod["spec"]:
                if "deletionTimestamp" not in pod["metadata"]:
                    self.bind(pod)
            elif uid not in self.running:
                self.world.objects[ordinal] = pod
                self.world.create(ordinal)
                self.running[uid] = {"ready": None, "end": None}
            elif "deletionTimestamp" in pod["metadata"]:
                self.finish(pod, ordinal, self.running[uid])
            else:
                self.tell(pod, ordinal, self.running[uid])

    def path(self, pod, what=""):
        return f"{CORE}/pods/{pod['metadata']['name']}{what}"

    def bind(self, pod):
        self.plane.must("POST", self.path(pod, "/binding"), {
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "here"}})

    def tell(self, pod, ordinal, life):
        if not self.world.pods[ordinal].alive():
            raise Failed(f"ss-{ordinal} ended by itself: {self.world.pods[ordinal].log}")
        ready = self.world.pods[ordinal].ready()
        if ready == life["ready"]:
            return
        life["ready"] = ready
        code, value, _ = self.plane.request("PATCH", self.path(pod, "/status"), {
            "metadata": {"uid": pod["metadata"]["uid"]},
            "status": {"phase": "Running", "podIP": self.world.pods[ordinal].address, "startTime": now(),
                       "podIPs": [{"ip": self.world.pods[ordinal].address}],
                       "conditions": [{"type": kind, "status": str(ready), "lastTransitionTime": now()}
                                      for kind in ("Ready", "ContainersReady")]}}, kind=MERGE)
        if code not in (200, 404, 409):
            raise Failed(f"status of ss-{ordinal}: {code} {value}")

    def finish(self, pod, ordinal, life):
        process = self.world.pods[ordinal]
        if life["end"] is None:
            process.signal(signal.SIGTERM)
            life["end"] = time.monotonic() + pod["metadata"]["deletionGracePeriodSeconds"]
        if process.alive() and time.monotonic() < life["end"]:
            return
        self.exit_codes.append((pod["metadata"]["name"], process.process.poll()))
        self.world.forget(ordinal)
        del self.running[pod["metadata"]["uid"]]
        self.plane.must("DELETE", self.path(pod), {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                                                   "preconditions": {"uid": pod["metadata"]["uid"]}})

    def until(self, what, test, seconds):
        def turn():
            self.step()
            return test()
        return wait_for(what, turn, seconds, every=0.05)


class Run:
    def __init__(self, world, kubelet):
        self.world, self.kubelet, self.plane = world, kubelet, world.plane
        self.writer, self.checker = Client(world), Client(world)

    def set_is_whole(self, replicas):
        """All pods are there, ready and of the newest revision, as the controller tells."""
        told = self.plane.must("GET", SETS + "/ss")
        status = told["status"]
        return status.get("observedGeneration") == told["metadata"]["generation"] and \
            status.get("readyReplicas") == status.get("updatedReplicas") == status.get("replicas") == replicas and \
            sorted(self.world.pods) == list(range(replicas))

    def members(self):
        endpoints = ",".join(self.world.endpoints(3))
        code, out = self.checker.run(["--endpoints", endpoints, "member", "list", "-w", "json"], 20)
        return {m.get("name", ""): m.get("isLearner", False) for m in json.loads(out)["members"]} if code == 0 else {}

    def wait_group(self, replicas, seconds=120):
        expected = {f"ss-{i}": False for i in range(replicas)}
        self.kubelet.until(f"{replicas} ready pods", lambda: self.set_is_whole(replicas), seconds)
        self.kubelet.until(f"{replicas} voters", lambda: self.members() == expected, seconds)

    def check(self, replicas):
        code, out = self.checker.run(["check", "--keys", "20"] + self.world.endpoints(replicas))
        if code != 0 or " down " in out:
            raise Failed(f"nabata check ends with {code}:\n{out}")

    def written(self):
        told = self.writer.finish()
        if not told.get("ok") or told["acknowledged"] == 0 or told["failed"] != 0:
            raise Failed(f"the client: {told}")
        print(f"    {told['acknowledged']} writes, longest gap {told['longest_write_gap_ms']} ms, lost {told['lost']}",
              flush=True)


def pods_form_a_group(run):
    """three pods found a cluster, are ready, and its id is on the StatefulSet"""
    run.world.fill_account()
    run.wait_group(3)
    annotations = run.plane.must("GET", SETS + "/ss")["metadata"].get("annotations", {})
    equal("the cluster's id is annotated", annotations.get("nabata/cluster-id", "") != "", True)
    run.kubelet.until("the disruption budget allows one",
                      lambda: run.plane.must("GET", BUDGET)["status"]["disruptionsAllowed"] == 1, 30)
    apply(run.plane, "production")  # it does not fight over the annotation
    equal("the annotation after another apply", run.plane.must("GET", SETS + "/ss")["metadata"].get("annotations", {})
          .get("nabata/cluster-id"), annotations["nabata/cluster-id"])
    run.check(3)


def scaled_with_the_real_api(run):
    """kubectl scale to 5 and back to 3 while a client writes: members join, and leave before they end"""
    run.writer.begin(run.world.endpoints(3))
    run.plane.kubectl("-n", NAMESPACE, "scale", "statefulset/ss", "--replicas=5")
    run.wait_group(5)
    run.plane.kubectl("-n", NAMESPACE, "scale", "statefulset/ss", "--replicas=3")
    run.wait_group(3)
    run.written()
    equal("exit codes", sorted(run.kubelet.exit_codes), [("ss-3", 0), ("ss-4", 0)])
    run.check(3)


def rolled_by_the_controller(run):
    """kubectl rollout restart while a client writes: one pod after the other, nothing lost"""
    run.kubelet.exit_codes.clear()
    before = {p["metadata"]["uid"] for p in run.plane.must("GET", CORE + "/pods")["items"]}
    run.writer.begin(run.world.endpoints(3))
    run.plane.kubectl("-n", NAMESPACE, "rollout", "restart", "statefulset/ss")
    run.wait_group(3)
    run.written()
    after = {p["metadata"]["uid"] for p in run.plane.must("GET", CORE + "/pods")["items"]}
    equal("pods that were not replaced", before & after, set())
    equal("the order", run.kubelet.exit_codes, [("ss-2", 0), ("ss-1", 0), ("ss-0", 0)])
    run.check(3)


def play(options):
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    folder = options.inside
    started = time.monotonic()
    world = RealWorld(folder, os.path.realpath(options.binary), os.path.realpath(options.kubernetes))
    try:
        version = world.plane.must("GET", "/version")["gitVersion"]
        print(f"Kubernetes {version} serves after {time.monotonic() - started:.1f} s", flush=True)
        run = Run(world, Kubelet(world))
        for function, what in ((production_is_accepted, world.plane),
                               (a_pod_that_is_not_restricted_is_refused, world.plane), (kind_is_accepted, world.plane),
                               (role_is_exact, world.plane), (pods_form_a_group, run), (scaled_with_the_real_api, run),
                               (rolled_by_the_controller, run)):
            since = time.monotonic()
            print(f"{function.__name__}: {function.__doc__}", flush=True)
            function(what)
            print(f"    ok, {time.monotonic() - since:.1f} s", flush=True)
        return 0
    except Failed as e:
        print(f"    FAILED: {e}", flush=True)
        for pod in world.pods.values():
            with open(pod.log, errors="replace") as f:
                print(f"    --- end of the log of {pod.namespace}:\n" + "".join(f.readlines()[-10:]), flush=True)
        return 1
    finally:
        world.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default=os.path.join(ROOT, "build/release/nabata"), help="a static nabata")
    p.add_argument("--kubernetes", default=os.path.join(ROOT, "build/kubernetes"), help="folder that build.sh filled")
    p.add_argument("--keep", action="store_true", help="keep the folder with logs and volumes")
    p.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.inside:
        return play(options)
    for program in ("control-plane", "etcd"):
        if not os.access(os.path.join(options.kubernetes, program), os.X_OK):
            print("skipped: Kubernetes' control plane is not built: make test-apiserver")
            return rig.SKIPPED
    why = rig.refusal(options)
    if why is not None:
        print(f"skipped: {why}")
        return rig.SKIPPED
    folder = tempfile.mkdtemp(prefix="nabata-apiserver.")
    os.chmod(folder, 0o755)
    child = subprocess.Popen(rig.UNSHARE + [sys.executable, os.path.abspath(__file__)] + sys.argv[1:]
                             + ["--inside", folder])
    signal.signal(signal.SIGTERM, lambda *_: child.kill())  # the kernel takes the rest along
    code = child.wait()
    if code == 0 and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs and volumes are in {folder}")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
