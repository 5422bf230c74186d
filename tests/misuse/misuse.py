#!/usr/bin/env python3
"""Misuse: bad flags, bad folders, damaged logs, garbage on the ports. Each gets a clear error, and nothing is lost.

    misuse.py NABATA
"""
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

NABATA = os.path.abspath(sys.argv[1])
SEED = int(os.environ.get("NABATA_SEED", random.SystemRandom().randrange(1, 2**31)))
RANDOM = random.Random(SEED)
WORK = tempfile.mkdtemp(prefix="nabata-misuse-")
DEADLINE = 30

tests = []


def test(function):
    tests.append(function)
    return function


GIVEN = set()


def free_port():
    """Below those that the kernel gives to connections: one of these could take it before the server does."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


class Member:
    """One member that is a cluster of its own."""

    def __init__(self, name, folder=None, extra=()):
        self.name, self.folder = name, folder or os.path.join(WORK, name)
        self.client, self.peer = free_port(), free_port()
        self.extra, self.process = list(extra), None
        self.log = os.path.join(WORK, name + ".log")

    def command(self):
        return [NABATA, "server", "--name", self.name, "--data-dir", self.folder,
                "--listen-client-urls", f"http://127.0.0.1:{self.client}",
                "--advertise-client-urls", f"http://127.0.0.1:{self.client}",
                "--listen-peer-urls", f"http://127.0.0.1:{self.peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.peer}",
                "--initial-cluster", f"{self.name}=http://127.0.0.1:{self.peer}", "--log-format=json", *self.extra]

    def start(self):
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=open(self.log, "a"))
        return self

    def ready(self):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}: {self.text()[-600:]}")
            if http(self.client, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 1).startswith(b"HTTP/1.1 200"):
                return self
            time.sleep(0.02)  # between two looks, not as synchronisation: the deadline decides
        raise AssertionError(f"{self.name} is not ready: {self.text()[-600:]}")

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(DEADLINE)
        return code

    def fails(self, code, *patterns):
        """Runs it to its end; asserts the exit code and what it says."""
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=DEADLINE)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"exit {done.returncode}, expected {code}: {said[-600:]}"
        for pattern in patterns:
            assert re.search(pattern, said), f"/{pattern}/ not in: {said[-600:]}"
        return said

    def text(self):
        with open(self.log, "a+") as f:
            f.seek(0)
            return f.read()

    def ctl(self, *arguments):
        done = subprocess.run([NABATA, *arguments, "--endpoints", f"127.0.0.1:{self.client}"], capture_output=True,
                              text=True, timeout=DEADLINE)
        return done.returncode, done.stdout, done.stderr


def http(port, request, timeout=5):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.settimeout(timeout)
            s.sendall(request if isinstance(request, bytes) else request.encode())
            out = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    return out
                out += piece
    except OSError:
        return b""


def fill(member, count=20):
    for i in range(count):
        code, _, err = member.ctl("put", f"key{i}", f"value{i}")
        assert code == 0, err


def holds(member, count=20):
    for i in range(count):
        code, out, err = member.ctl("get", f"key{i}", "--print-value-only")
        assert code == 0 and out == f"value{i}\n", (i, code, out, err)


def wal_files(member):
    folder = os.path.join(member.folder, "member", "wal")
    return sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".wal"))


@test
def unknown_flag_names_the_nearest():
    m = Member("flag", extra=["--lisen-client-urls=http://127.0.0.1:1"])
    m.fails(2, r"--lisen-client-urls.*--listen-client-urls")


@test
def version_as_a_flag_is_the_command():
    as_flag, as_command = (subprocess.run([NABATA, word], capture_output=True) for word in ("--version", "version"))
    assert as_flag.returncode == 0 and as_flag.stdout == as_command.stdout != b"", as_flag


@test
def flag_without_support_is_refused_with_a_word():
    Member("tls", extra=["--cert-file=/x"]).fails(2, r"cert-file.*not supported")


@test
def bad_values_are_refused():
    Member("election", extra=["--election-timeout=100"]).fails(1, r"election-timeout")
    Member("number", extra=["--snapshot-count=many"]).fails(2, r"snapshot-count")


@test
def own_name_must_be_in_the_initial_cluster():
    m = Member("stranger")
    m.extra = ["--initial-cluster", "other=http://127.0.0.1:1"]
    m.fails(1, r"stranger")


@test
def a_folder_that_cannot_be_made_is_named():
    blocker = os.path.join(WORK, "a-file")
    open(blocker, "w").close()
    Member("nofolder", folder=os.path.join(blocker, "data")).fails(1, re.escape(blocker))


@test
def W17_second_process_on_one_folder_is_refused():
    m = Member("twice").start().ready()
    try:
        other = Member("twice", folder=m.folder)
        other.fails(1, r"[Ll]ock|in use|another")
        fill(m, 3)
        holds(m, 3)
    finally:
        m.stop()


@test
def Z07_closed_standard_descriptors_are_not_taken_by_files():
    m = Member("closed")
    m.process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *m.command()])
    m.ready()
    for fd in range(3):
        assert os.readlink(f"/proc/{m.process.pid}/fd/{fd}") == "/dev/null", os.readlink(f"/proc/{m.process.pid}/fd/{fd}")
    fill(m)
    assert m.stop() == 0
    m.start().ready()
    holds(m)
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", NABATA, "get", "key1", "--endpoints",
                           f"127.0.0.1:{m.client}"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 6 and done.stderr == "Error: writing output: Bad file descriptor\n", done
    assert m.stop() == 0


@test
def a_port_in_use_is_named():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        m = Member("port")
        m.client = s.getsockname()[1]
        m.fails(1, str(m.client))


@test
def a_folder_of_another_member_keeps_its_identity():
    m = Member("mine").start().ready()
    fill(m, 3)
    m.stop()
    log = os.path.join(m.folder, "member", "wal")
    other = Member("theirs").start().ready()
    other.stop()
    shutil.rmtree(os.path.join(other.folder, "member", "wal"))
    shutil.copytree(log, os.path.join(other.folder, "member", "wal"))
    said = other.fails(1, r"wal")
    assert re.search(r"another|belongs|cluster|member", said), said
    m.start().ready()
    holds(m, 3)
    m.stop()


@test
def W01_torn_tail_is_cut_and_nothing_acknowledged_is_lost():
    m = Member("torn").start().ready()
    fill(m)
    m.stop(signal.SIGKILL)
    m.start().ready()
    holds(m)
    m.stop()


@test
def W02_damage_in_the_middle_is_reported_with_file_and_offset():
    m = Member("damage").start().ready()
    fill(m)
    m.stop(signal.SIGKILL)
    path = [f for f in wal_files(m) if os.path.getsize(f)][0]
    with open(path, "r+b") as f:
        f.seek(2 * 4096 + 100)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x10]))
    said = m.fails(4, re.escape(os.path.basename(path)))
    assert re.search(r"offset|at \d+", said), said
    with open(path, "r+b") as f:  # mended, it starts again with all it had
        f.seek(2 * 4096 + 100)
        f.write(byte)
    m.start().ready()
    holds(m)
    m.stop()


@test
def garbage_on_the_ports_costs_little_and_kills_nothing():
    m = Member("garbage").start().ready()
    fill(m)
    h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    shapes = [
        lambda: RANDOM.randbytes(RANDOM.randrange(1, 5000)),
        lambda: h2 + RANDOM.randbytes(RANDOM.randrange(1, 5000)),
        lambda: h2 + struct.pack(">I", RANDOM.randrange(2**24) << 8)[:3] + bytes([RANDOM.randrange(12)]) + RANDOM.randbytes(40),
        lambda: b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 100000 + b"\r\n\r\n",
        lambda: b"POST /v3/kv/put HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        lambda: b"NABATA" + RANDOM.randbytes(64),
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + RANDOM.randbytes(300),
        lambda: b"",
    ]
    for i in range(300):
        for port in (m.client, m.peer):
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                try:
                    s.sendall(RANDOM.choice(shapes)())
                    if i % 3 == 0:
                        s.settimeout(0.02)
                        s.recv(1000)
                except OSError:
                    pass
    holds(m)
    assert m.process.poll() is None
    with open(f"/proc/{m.process.pid}/status") as f:
        resident = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
    assert resident < 200 * 1024, f"resident {resident} KiB after garbage"
    assert m.stop() == 0


@test
def N16_clients_cannot_keep_members_and_probes_out():
    metrics = free_port()
    m = Member("crowd", extra=["--listen-metrics-urls", f"http://127.0.0.1:{metrics}"]).start().ready()
    resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, (100, 100))
    crowd = []
    try:
        for _ in range(150):
            crowd.append(socket.create_connection(("127.0.0.1", m.client), 5))
        said = http(metrics, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 "), said
        said = http(m.peer, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 400 "), said
    finally:
        for s in crowd:
            s.close()
    holds(m, 0)
    assert m.stop() == 0


@test
def N16_the_limit_of_descriptors_is_raised_to_what_is_allowed():
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, old[1]))  # what the child starts with
    try:
        m = Member("limit").start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    m.ready()
    soft, hard = resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard, (soft, hard)
    assert m.stop() == 0


@test
def http_on_the_peer_port_is_told_where_it_is():
    m = Member("peerport").start().ready()
    answer = http(m.peer, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"peer port" in answer, answer
    m.stop()


@test
def requests_that_are_wrong_get_etcds_words():
    m = Member("words", extra=["--max-request-bytes=10000"]).start().ready()
    code, _, err = m.ctl("put", "", "x")
    assert code != 0 and "key is not provided" in err, err
    code, _, err = m.ctl("put", "big", "x" * 20000)
    assert code != 0 and "request is too large" in err, err
    done = subprocess.run([NABATA, "put", "huge", "--endpoints", f"127.0.0.1:{m.client}"], input="x" * 700000,
                          capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1 and "received message larger than max (700010 vs. 534288)\n" in done.stderr, done.stderr
    code, _, err = m.ctl("get", "k", "--print-value-only", "-w", "json")
    assert code == 128 and "print-value-only is only for `--write-out=simple`" in err, err
    code, _, err = m.ctl("get", "k", "--rev=999")
    assert code != 0 and "required revision is a future revision" in err, err
    code, _, err = m.ctl("compaction", "999")
    assert code != 0 and "future revision" in err, err
    assert http(m.client, "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert http(m.client, "DELETE /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 405")
    m.stop()


@test
def W13_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_room():
    mount = os.path.join(WORK, "small")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", mount], capture_output=True).returncode != 0:
        print("   skipped: no tmpfs can be mounted here")
        return
    try:
        m = Member("full", folder=os.path.join(mount, "data")).start().ready()
        acknowledged, refused, i = [], 0, 0
        while refused < 3 and i < 2000:
            code, _, err = m.ctl("put", f"big{i}", "v" * 100000)
            if code == 0:
                acknowledged.append(i)
            elif "database space exceeded" in err:
                refused += 1
            i += 1
            assert m.process.poll() is None, (m.process.returncode, m.text()[-600:])
        assert refused == 3 and acknowledged, (i, len(acknowledged))
        assert m.text().count("replica.disk_full") >= 1, m.text()[-600:]
        code, out, err = m.ctl("get", f"big{acknowledged[-1]}", "--print-value-only")
        assert code == 0 and len(out) == 100001, (code, err)
        subprocess.run(["mount", "-o", "remount,size=400m", mount], check=True)
        end = time.monotonic() + DEADLINE
        while m.ctl("put", "after", "room")[0] != 0:
            assert time.monotonic() < end and m.process.poll() is None, m.text()[-600:]
        assert "replica.disk_has_room" in m.text()
        for how in (signal.SIGTERM, signal.SIGKILL):
            for k in acknowledged:
                code, out, err = m.ctl("get", f"big{k}", "--print-value-only")
                assert code == 0 and len(out) == 100001, (k, code, err)
            m.stop(how)
            m.start().ready()
        m.stop()
    finally:
        subprocess.run(["umount", "-l", mount])


def fill_disk(folder):
    """A file that takes all the room there is."""
    name = os.path.join(folder, "filler")
    with open(name, "wb", buffering=0) as f:
        try:
            for size in (1 << 20, 1 << 12):
                while True:
                    try:
                        f.write(b"x" * size)
                    except OSError:
                        break
        finally:
            os.fsync(f.fileno())
    return name


@test
def W13_a_start_on_a_full_disk_says_what_to_do_and_loses_nothing():
    mount = os.path.join(WORK, "tight")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", mount], capture_output=True).returncode != 0:
        print("   skipped: no tmpfs can be mounted here")
        return
    try:
        m = Member("tight", folder=os.path.join(mount, "data"))
        for values in (0, 50):  # an empty folder, one with data
            filler = fill_disk(mount)
            for _ in range(2):
                m.start()
                try:
                    code = m.process.wait(1.5)  # one that has its files already may well run, and serve reads
                except subprocess.TimeoutExpired:
                    assert values != 0
                    m.stop(signal.SIGKILL)
                    continue
                assert code == 3, (code, m.text()[-600:])
                assert "make room on that disk and start again" in m.text(), m.text()[-600:]
            os.remove(filler)
            m.start().ready()
            holds(m, values)
            fill(m, 50)
            m.stop(signal.SIGKILL)
    finally:
        subprocess.run(["umount", "-l", mount])


class Trio:
    """Three members of one cluster."""

    def __init__(self, name):
        self.members = [Member(f"{name}{i}") for i in (1, 2, 3)]
        cluster = ",".join(f"{m.name}=http://127.0.0.1:{m.peer}" for m in self.members)
        for m in self.members:
            m.extra += ["--initial-cluster", cluster, "--initial-cluster-token", name]

    def __enter__(self):
        for m in self.members:
            m.start()
        for m in self.members:
            m.ready()
        return self.members

    def __exit__(self, *_):
        for m in self.members:
            m.stop(signal.SIGKILL)


@test
def W13_a_put_at_a_follower_of_a_leader_without_room_is_not_kept_waiting():
    mount = os.path.join(WORK, "leaders")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", mount], capture_output=True).returncode != 0:
        print("   skipped: no tmpfs can be mounted here")
        return
    trio = Trio("narrow")
    trio.members[0].folder = os.path.join(mount, "data")
    try:
        with trio as (tight, *others):
            end = time.monotonic() + DEADLINE
            identity = tight.ctl("endpoint", "status", "-w", "json")[1]
            member = int(re.search(r'"member_id":"?(\d+)', identity).group(1))
            if not re.search(rf'"leader":"?{member}\b', identity):
                everyone = ",".join(f"127.0.0.1:{m.client}" for m in (tight, *others))
                done = subprocess.run([NABATA, "move-leader", f"{member:x}", "--endpoints", everyone],
                                      capture_output=True, text=True, timeout=DEADLINE)
                assert done.returncode == 0, done.stderr
            filler = fill_disk(mount)
            i = 0
            while "replica.disk_full" not in tight.text():
                tight.ctl("put", f"big{i}", "v" * 100000)
                i += 1
                assert time.monotonic() < end, tight.text()[-600:]
            time.sleep(0.3)  # three heartbeats
            begun = time.monotonic()
            code, _, err = others[0].ctl("put", "small", "value")
            took = time.monotonic() - begun
            # refused; or taken by another leader: one whose log cannot grow gives way
            assert (code == 0 or "database space exceeded" in err) and took < 2, (code, err, took)
            os.remove(filler)
            while others[0].ctl("put", "small", "value")[0] != 0:
                assert time.monotonic() < end, tight.text()[-600:]
    finally:
        subprocess.run(["umount", "-l", mount])


@test
def K04_a_member_that_lost_its_disk_is_refused_at_every_start():
    for starts in (1, 3):
        with Trio(f"lost{starts}") as (a, b, c):
            fill(a, 3)
            for _ in range(starts - 1):
                c.stop(signal.SIGKILL)
                c.start().ready()
            c.stop(signal.SIGKILL)
            shutil.rmtree(c.folder)
            for _ in range(3):  # a folder that has an identity is not less empty for it
                c.fails(5, r"identity_refused")
            assert a.process.poll() is None and b.process.poll() is None, a.text()[-600:] + b.text()[-600:]
            holds(a, 3)


@test
def a_client_that_does_not_read_does_not_hold_up_the_end():
    m = Member("stuck").start().ready()
    with socket.create_connection(("127.0.0.1", m.client)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(0.5)
        try:
            for _ in range(200):
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        except OSError:
            pass
        assert m.stop() == 0, m.text()[-600:]


def keeps_what_is_freed():
    with open(NABATA, "rb") as f:
        return b"__asan_init" in f.read()


def anonymous_mib(m):
    with open(f"/proc/{m.process.pid}/status") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) // 1024


def shrinks_to(m, mib):
    end = time.monotonic() + 5
    while anonymous_mib(m) > mib and time.monotonic() < end:
        time.sleep(0.05)  # between two looks
    assert anonymous_mib(m) <= mib, f"{anonymous_mib(m)} MiB, not {mib}"


@test
def Z03_a_large_answer_leaves_nothing_behind():
    if keeps_what_is_freed():
        return
    m = Member("large").start().ready()
    for i in range(64):
        done = subprocess.run([NABATA, "put", f"k{i}", "--endpoints", f"127.0.0.1:{m.client}"], input="v" * 2**20,
                              capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
    before = anonymous_mib(m)
    code, out, err = m.ctl("get", "k", "--prefix", "--print-value-only")
    assert code == 0 and len(out) == 64 * (2**20 + 1), err
    shrinks_to(m, before + 16)
    assert m.stop() == 0


@test
def Z03_a_crowd_of_connections_leaves_nothing_behind():
    if keeps_what_is_freed():
        return
    m = Member("crowd-gone").start().ready()
    before = anonymous_mib(m)
    crowd = []
    for _ in range(800):
        s = socket.create_connection(("127.0.0.1", m.client), timeout=DEADLINE)
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
        crowd.append(s)
    for s in crowd:
        assert s.recv(9)[3] == 4  # its SETTINGS
    assert anonymous_mib(m) > before + 8
    for s in crowd:
        s.close()
    shrinks_to(m, before + 4)
    assert m.stop() == 0


@test
def slow_requests_are_logged_one_a_second():
    m = Member("slow", extra=["--warning-unary-request-duration", "1us"]).start().ready()
    since = time.monotonic()
    fill(m)
    lines = [json.loads(line) for line in open(m.log) if '"api.slow_request"' in line]
    assert 1 <= len(lines) <= 2 + (time.monotonic() - since), lines
    assert lines[0]["level"] == "warn" and lines[0]["response-type"].startswith("/etcdserverpb."), lines[0]
    assert m.stop() == 0


@test
def probes_answer_with_etcds_codes():
    m = Member("probes").start().ready()
    for method, path, code in (("GET", "/livez", 200), ("GET", "/livez/", 404), ("POST", "/livez", 405),
                               ("HEAD", "/version", 405), ("HEAD", "/health", 405), ("GET", "/readyz?verbose", 200),
                               ("GET", "/readyz/non_learner", 200), ("GET", "/livez/other", 404), ("GET", "/", 404),
                               ("GET", "/debug/vars", 200), ("POST", "/debug/vars", 405), ("GET", "/debug/pprof/heap", 404)):
        said = http(m.client, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(f"HTTP/1.1 {code} ".encode()), (method, path, said[:200])
    m.stop()


@test
def debug_vars_say_what_etcds_say():
    port = free_port()
    m = Member('debug "vars"', extra=["--listen-metrics-urls", f"http://127.0.0.1:{port}"]).start().ready()
    ask = b"GET /debug/vars HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".decode()
    head, body = http(m.client, ask).split(b"\r\n\r\n", 1)
    assert b"Content-Type: application/json; charset=utf-8" in head, head
    said = json.loads(body)
    assert said["cmdline"] == m.command(), said["cmdline"]
    assert said["file_descriptor_limit"] > 0 and "Alloc" in said["memstats"], said
    raft = said["raft.status"]
    own = raft["id"]
    assert raft["raftState"] == "StateLeader" and raft["lead"] == raft["vote"] == own, raft
    assert list(raft["progress"]) == [own] and raft["progress"][own]["match"] == raft["applied"] == raft["commit"], raft
    assert raft["leadtransferee"] == "0" and raft["term"] >= 1, raft
    assert http(port, ask).startswith(b"HTTP/1.1 404 "), "the metrics port has no /debug/vars, like etcd's"
    m.stop()


@test
def K14_a_probe_without_a_leader_answers_at_once():
    port = free_port()
    m = Member("alone", extra=[f"--listen-metrics-urls=http://127.0.0.1:{port}"])
    m.extra += ["--initial-cluster", f"alone=http://127.0.0.1:{m.peer},other=http://127.0.0.1:{free_port()}"]
    m.start()
    said, end = b"", time.monotonic() + DEADLINE
    while not said and time.monotonic() < end:
        began = time.monotonic()
        said = http(port, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 5)
    assert b" 503 " in said and b"[-]linearizable_read failed: etcdserver: no leader" in said, said
    assert time.monotonic() - began < 3, "it waited"
    said = http(port, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 5)
    assert said.startswith(b"HTTP/1.1 200 "), said
    m.stop()


@test
def browsers_of_allowed_origins_may_read():
    m = Member("cors", extra=["--cors=https://a.example,https://b.example"]).start().ready()
    for origin, allowed in (("https://b.example", True), ("https://c.example", False)):
        said = http(m.client, f"GET /version HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 "), said
        assert (f"Access-Control-Allow-Origin: {origin}\r\n".encode() in said) == allowed, said
    said = http(m.client, "OPTIONS /v3/kv/put HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ") and b"Access-Control-Allow-Headers: accept" in said, said
    m.stop()


@test
def a_client_that_closes_its_half_still_gets_the_answer():
    m = Member("half").start().ready()
    with socket.create_connection(("127.0.0.1", m.client), 5) as s:
        s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        said = b""
        while piece := s.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 "), said
    m.stop()


@test
def help_of_a_group_lists_it():
    for words in (["member", "--help"], ["help", "member"]):
        done = subprocess.run([NABATA, *words], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0 and "member promote" in done.stdout, done
    done = subprocess.run([NABATA, "member"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 128 and "member promote" in done.stderr, done


@test
def the_log_of_those_that_answer_is_shown_and_who_does_not_is_named():
    m = Member("logs").start().ready()
    fill(m, 3)
    dead = f"127.0.0.1:{free_port()}"
    show = lambda *endpoints: subprocess.run([NABATA, "log", "--endpoints", ",".join(endpoints)], capture_output=True,
                                             text=True, timeout=DEADLINE)
    done = show(dead, f"127.0.0.1:{m.client}")
    assert done.returncode == 0 and "key2" in done.stdout and f"Down: {dead}: connect to" in done.stdout, done
    done = show(dead, dead)
    assert done.returncode == 2 and "no node answers" in done.stderr, done
    m.stop()


@test
def soak_counts_the_time_after_the_last_acknowledged_write():
    done = subprocess.run([NABATA, "soak", "--duration", "1s", "--timeout", "1s", "--json", f"127.0.0.1:{free_port()}"],
                          capture_output=True, text=True, timeout=DEADLINE)
    report = json.loads(done.stdout)
    assert done.returncode == 2 and report["acknowledged"] == 0, report
    assert report["longest_write_gap_ms"] >= 1000, report


def main():
    print(f"NABATA_SEED={SEED}")
    failed = 0
    for t in tests:
        if len(sys.argv) > 2 and sys.argv[2] not in t.__name__:
            continue
        try:
            t()
            print(f"[ ok ] {t.__name__}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            failed += 1
            print(f"[FAIL] {t.__name__}: {e}", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
