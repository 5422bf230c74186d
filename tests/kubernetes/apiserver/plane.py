"""A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager, and requests to it.

It is to run inside the namespaces that tests/kubernetes/rig/rig.py makes: ports and addresses are fixed, and the
processes end with those namespaces. Authorization is RBAC, admission the default one, PodSecurity among it. There is
no scheduler and no kubelet.
"""
import http.client
import json
import os
import secrets
import ssl
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "support", "kubernetes"))
sys.path.insert(0, os.path.join(HERE, "..", "rig"))
import apiserver as stand_in  # noqa: E402
from world import Failed, wait_for  # noqa: E402

CONTROLLERS = ["statefulset-controller", "disruption-controller", "serviceaccount-controller",
               "endpointslice-controller", "root-ca-certificate-publisher-controller"]


class Plane:
    """`binaries`: a folder with etcd and control-plane; `address`: the API's, on some interface, and of its service."""

    def __init__(self, folder, binaries, address):
        self.folder, self.binaries, self.address = folder, binaries, address
        self.processes = []
        self.admin, self.manager = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        os.makedirs(folder)
        stand_in.make_certificates(folder, [f"IP:{address}", "IP:127.0.0.1", "DNS:kubernetes.default.svc"])
        stand_in.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.at("account.key"))
        with open(self.at("tokens.csv"), "w") as f:
            f.write(f'{self.admin},admin,1,"system:masters"\n{self.manager},system:kube-controller-manager,2\n')
        self.write_kubeconfig("admin.conf", self.admin)
        self.write_kubeconfig("manager.conf", self.manager)
        self.context = ssl.create_default_context(cafile=self.at("ca.crt"))
        self.start()

    def at(self, name):
        return os.path.join(self.folder, name)

    def write_kubeconfig(self, name, token):
        with open(self.at(name), "w") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                       "clusters": [{"name": "c", "cluster": {"server": f"https://{self.address}:443",
                                                              "certificate-authority": self.at("ca.crt")}}],
                       "users": [{"name": "u", "user": {"token": token}}],
                       "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}, f)

    def launch(self, program, *arguments):
        with open(self.at(arguments[0] + ".log" if program == "control-plane" else program + ".log"), "ab") as log:
            self.processes.append(subprocess.Popen([os.path.join(self.binaries, program), *arguments],
                                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def start(self):
        self.launch("etcd", "--data-dir", self.at("etcd"), "--unsafe-no-fsync")
        self.launch("control-plane", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443",
                    f"--advertise-address={self.address}", f"--service-cluster-ip-range={self.address}/24",
                    f"--tls-cert-file={self.at('server.crt')}", f"--tls-private-key-file={self.at('server.key')}",
                    "--authorization-mode=Node,RBAC", f"--token-auth-file={self.at('tokens.csv')}",
                    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                    f"--service-account-key-file={self.at('account.key')}",
                    f"--service-account-signing-key-file={self.at('account.key')}")
        wait_for("the API server is ready", self.ready, 120, every=0.2)
        self.launch("control-plane", "kube-controller-manager", f"--kubeconfig={self.at('manager.conf')}",
                    "--controllers=" + ",".join(CONTROLLERS), "--use-service-account-credentials",
                    "--leader-elect=false",
                    f"--service-account-private-key-file={self.at('account.key')}",
                    f"--root-ca-file={self.at('ca.crt')}")

    def ready(self):
        dead = [p.args for p in self.processes if p.poll() is not None]
        if dead:
            raise Failed(f"ended: {dead[0]}; its log is in {self.folder}")
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, token=None, kind="application/json"):
        """(code, object or text, warnings)."""
        connection = http.client.HTTPSConnection(self.address, 443, timeout=30, context=self.context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": f"Bearer {token or self.admin}", "Content-Type": kind,
                                "Accept": "application/json"})
            reply = connection.getresponse()
            text = reply.read().decode()
            try:
                value = json.loads(text)
            except ValueError:
                value = text
            return reply.status, value, reply.headers.get_all("Warning") or []
        finally:
            connection.close()

    def must(self, method, path, body=None, **more):
        code, value, warnings = self.request(method, path, body, **more)
        if code not in (200, 201) or warnings:
            raise Failed(f"{method} {path}: {code} {value} {warnings}")
        return value

    def kubectl(self, *arguments):
        """What it says; fails when it fails, or warns."""
        done = subprocess.run([os.path.join(self.binaries, "control-plane"), "kubectl", "--kubeconfig",
                               self.at("admin.conf"), "--cache-dir", self.at("cache"), *arguments],
                              capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        if done.returncode != 0 or "warning" in done.stderr.lower():
            raise Failed(f"kubectl {' '.join(arguments)}: {done.returncode} {done.stderr}")
        return done.stdout

    def token(self, namespace, account):
        """As the kubelet gets it for a pod."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return self.must("POST", path, body)["status"]["token"]

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
