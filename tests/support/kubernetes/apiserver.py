#!/usr/bin/env python3
"""A Kubernetes API server that knows one StatefulSet, for tests.

Serves GET and PATCH of /apis/apps/v1/namespaces/NS/statefulsets/NAME over HTTPS to whoever has the token, as the real
one does (merge patch of annotations; a resourceVersion in it that is not the present one: 409); everything else is 404.
What it says can be changed while it runs, through a control port of plain HTTP on loopback (or --control-host):

    POST /set?replicas=5&deleting=true&deny=true&down=true     any of them; deny: 403, down: nothing is answered,
             &cluster=ID&start=1                               the annotation, spec.ordinals.start
    GET  /state                                                JSON of all of it, with the annotations and a count

The folder --account-dir gets `token`, `ca.crt` and `namespace`, as a pod's service account has them; certificates
are made with the openssl command. Prints "ready PORT CONTROL-PORT" when it serves.
"""
import argparse
import http.server
import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse


def run(*command, **kwargs):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)


def make_certificates(folder, names):
    """An authority, and a server certificate for `names` ("DNS:x" or "IP:1.2.3.4")."""
    at = lambda name: os.path.join(folder, name)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=kubernetes", "-keyout", at("ca.key"), "-out", at("ca.crt"))
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=kube-apiserver", "-keyout", at("server.key"), "-out", at("server.csr"))
    with open(at("server.ext"), "w") as f:
        f.write("subjectAltName=" + ",".join(names) + "\n")
    run("openssl", "x509", "-req", "-in", at("server.csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"),
        "-CAcreateserial", "-days", "2", "-extfile", at("server.ext"), "-out", at("server.crt"))


# Who set which field: every object has it, and it makes the answer longer than what Go's HTTP server sends in one piece.
MANAGED_FIELDS = [{"manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
                   "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {f"f:field{i}": {} for i in range(100)}}}
                  for manager in ("kubectl", "kube-controller-manager")]
PIECE = 2048


class State:
    def __init__(self, options):
        self.lock = threading.Lock()
        self.path = f"/apis/apps/v1/namespaces/{options.namespace}/statefulsets/{options.name}"
        self.options = options
        self.replicas, self.start = options.replicas, 0
        self.deleting, self.gone, self.deny, self.down = False, False, False, False
        self.annotations, self.requests, self.version = {}, 0, 1
        self.token = secrets.token_urlsafe(24)

    def object(self):
        metadata = {"name": self.options.name, "namespace": self.options.namespace, "annotations": self.annotations,
                    "resourceVersion": str(self.version), "managedFields": MANAGED_FIELDS}
        if self.deleting:
            metadata["deletionTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": metadata,
                "spec": {"replicas": self.replicas, "serviceName": self.options.service,
                         "podManagementPolicy": "Parallel", "ordinals": {"start": self.start}},
                "status": {"replicas": self.replicas}}

    def told(self):
        return {"replicas": self.replicas, "deleting": self.deleting, "gone": self.gone, "deny": self.deny, "down": self.down,
                "annotations": self.annotations, "requests": self.requests, "token": self.token}

    def change(self, query):
        for name, values in urllib.parse.parse_qs(query, strict_parsing=True).items():
            if name in ("replicas", "start"):
                setattr(self, name, int(values[0]))
            elif name in ("deleting", "gone", "deny", "down"):
                setattr(self, name, values[0] == "true")
            elif name == "cluster":  # somebody else annotates it
                self.annotations["nabata/cluster-id"] = values[0]
            elif name == "rotate":
                self.token = secrets.token_urlsafe(24)
                write_account(self)
            else:
                raise ValueError(name)
        self.version += 1


def write_account(state):
    folder = state.options.account_dir
    for name, text in (("token", state.token), ("namespace", state.options.namespace)):
        with open(os.path.join(folder, name + ".new"), "w") as f:
            f.write(text)
        os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None

    def log_message(self, *_):
        pass

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        if len(body) <= PIECE:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), PIECE):
            piece = body[at:at + PIECE]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


class Api(Quiet):
    def status(self, code, reason, message):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
                           "reason": reason, "code": code})

    def handle_one(self, change):
        s = self.state
        with s.lock:
            s.requests += 1
            down = s.down
        while down:  # a server that takes connections and says nothing
            time.sleep(0.1)
            with s.lock:
                down = s.down
        with s.lock:
            if self.headers.get("Authorization") != "Bearer " + s.token:
                self.status(401, "Unauthorized", "Unauthorized")
            elif s.deny or self.path != s.path:
                verb = {"GET": "get", "PATCH": "patch"}[self.command]
                self.status(403, "Forbidden", f'statefulsets.apps "{self.path.rsplit("/", 1)[1]}" is forbidden: User '
                             f'"system:serviceaccount:{s.options.namespace}:nabata" cannot {verb} resource "statefulsets"')
            elif s.gone:
                self.status(404, "NotFound", f'statefulsets.apps "{s.options.name}" not found')
            elif self.command == "PATCH" and self.headers.get("Content-Type") != "application/merge-patch+json":
                self.status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            elif not change(s):
                self.status(409, "Conflict", f'Operation cannot be fulfilled on statefulsets.apps "{s.options.name}": '
                            "the object has been modified; please apply your changes to the latest version")
            else:
                self.answer(200, s.object())

    def do_GET(self):
        self.handle_one(lambda s: True)

    def do_PATCH(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        patch = json.loads(body)

        def change(s):
            if patch.get("metadata", {}).get("resourceVersion", str(s.version)) != str(s.version):
                return False
            for key, value in patch.get("metadata", {}).get("annotations", {}).items():
                if value is None:
                    s.annotations.pop(key, None)
                else:
                    s.annotations[key] = value
            s.version += 1
            return True

        self.handle_one(change)


class Control(Quiet):
    def do_GET(self):
        with self.state.lock:
            self.answer(200, self.state.told())

    def do_POST(self):
        try:
            with self.state.lock:
                self.state.change(urllib.parse.urlsplit(self.path).query)
                self.answer(200, self.state.told())
        except ValueError as e:
            self.answer(400, {"error": str(e)})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    context = None

    def finish_request(self, request, client_address):
        if self.context is not None:  # the handshake in the connection's own thread
            request.settimeout(10)
            request = self.context.wrap_socket(request, server_side=True)
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass  # clients that do not trust us, or go: their matter


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--account-dir", required=True)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--control-host", default="127.0.0.1")
    p.add_argument("--control-port", type=int, default=0)
    p.add_argument("--names", default="IP:127.0.0.1,DNS:kubernetes.default.svc,DNS:localhost")
    p.add_argument("--namespace", default="default")
    p.add_argument("--name", default="ss")
    p.add_argument("--service", default="ss-service")
    p.add_argument("--replicas", type=int, default=3)
    options = p.parse_args()
    os.makedirs(options.account_dir, exist_ok=True)
    state = State(options)
    write_account(state)
    make_certificates(options.account_dir, options.names.split(","))
    Quiet.state = state
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(options.account_dir, "server.crt"),
                            os.path.join(options.account_dir, "server.key"))
    api = Server((options.host, options.port), Api)
    api.context = context
    control = Server((options.control_host, options.control_port), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    print("ready", api.server_address[1], control.server_address[1], flush=True)
    try:
        api.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
