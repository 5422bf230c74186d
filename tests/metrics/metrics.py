#!/usr/bin/env python3
"""/metrics of three members that have done a bit of everything, against the list of etcd's names and against a real etcd.

    metrics.py NABATA

The real etcd is built by tests/support/etcd/build.sh; where that cannot be, its part is left out with a line that says so.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

NABATA = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CLUSTER = os.path.join(ROOT, "tests/support/cluster.sh")
WORK = tempfile.mkdtemp(prefix="nabata-metrics-")
OURS = ("etcd_", "grpc_", "os_", "process_", "promhttp_")


class Page:
    """A parsed page: families with type, label names, buckets; and single values."""

    def __init__(self, text):
        self.types, self.labels, self.bounds, self.values = {}, {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in self.types, f"{name} has two heads"
                self.types[name] = kind
            elif line and not line.startswith(("#", "go_")):
                self.sample(line)

    def sample(self, line):
        match = re.fullmatch(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)', line)
        assert match, f"no sample: {line}"
        name, text, value = match.groups()
        labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text or "")
        assert text is None or ",".join(f'{k}="{v}"' for k, v in labels) == text, f"bad labels: {line}"
        family = name
        for ending in ("_bucket", "_sum", "_count"):
            if name.endswith(ending) and self.types.get(name[:-len(ending)]) == "histogram":
                family = name[:-len(ending)]
        assert family in self.types, f"{name} comes before its head"
        names = sorted(k for k, _ in labels if not (family != name and k == "le"))
        assert self.labels.setdefault(family, names) == names, f"{family} changes its labels: {line}"
        if name == family + "_bucket":
            self.bounds.setdefault(family, set()).add(dict(labels)["le"])
        key = (name, tuple(sorted(labels)))
        assert key not in self.values, f"twice: {line}"
        self.values[key] = float(value)

    def sum(self, name, /, **labels):
        """All samples of the name with these labels, added up."""
        want = set(labels.items())
        return sum(v for (n, k), v in self.values.items() if n == name and want <= set(k))


def get(url, path):
    try:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def page(url):
    return Page(get(url, "/metrics"))


def ctl(url, *arguments, fails=False):
    done = subprocess.run([NABATA, "--endpoints", url, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == fails, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def cluster(verb, folder, *arguments):
    done = subprocess.run([CLUSTER, verb, "--dir", folder, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120)
    assert done.returncode == 0, f"cluster.sh {verb}: {done.stdout}"


def start(name, binary, members, *flags):
    folder = os.path.join(WORK, name)
    cluster("start", folder, "--binary", binary, "--members", str(members), "--owner", str(os.getpid()), "--", *flags)
    return folder, open(os.path.join(folder, "endpoints")).read().strip().split(",")


def listed():
    rows = {}
    for line in open(os.path.join(HERE, "names.txt")):
        if not line.startswith("#"):
            name, kind, labels, state = line.split()
            rows[name] = (kind, [] if labels == "-" else labels.split(","), state)
    return rows


def leader_of(urls):
    return next(u for u in urls if page(u).sum("etcd_server_is_leader") == 1)


def eventually(what, question, seconds=30):
    """Asks again until the answer is yes; the deadline decides, not the pause."""
    import time
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.05)


def numbers_move(url, before, after):
    """What was done between the two pages shows in every number that is about it."""
    def moved(name, least=1, /, **labels):
        by = after.sum(name, **labels) - before.sum(name, **labels)
        assert by >= least, f"{name}{labels} moved by {by}, not by {least} or more"

    moved("etcd_mvcc_put_total", 4)
    moved("etcd_mvcc_delete_total")
    moved("etcd_mvcc_range_total", 2)
    moved("etcd_debugging_mvcc_current_revision", 5)
    moved("etcd_debugging_mvcc_total_put_size_in_bytes", 12)
    moved("etcd_debugging_mvcc_compact_revision", 3)
    moved("etcd_debugging_mvcc_db_compaction_keys_total")
    moved("etcd_debugging_mvcc_db_compaction_last")
    moved("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count")
    moved("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count")
    moved("etcd_mvcc_hash_rev_duration_seconds_count")
    moved("etcd_server_proposals_committed_total", 5)
    moved("etcd_server_proposals_applied_total", 5)
    for op, count in (("Put", 3), ("DeleteRange", 1), ("Txn", 1), ("Compaction", 1)):
        moved("etcd_server_apply_duration_seconds_count", count, op=op, success="true", version="v3")
        moved("etcd_server_apply_duration_seconds_sum", 1e-9, op=op, success="true")
        moved("etcd_server_request_duration_seconds_count", count, type=op, success="true")
    moved("etcd_server_request_duration_seconds_count", type="Compaction", success="false")
    moved("etcd_server_request_duration_seconds_count", 1, type="Range", success="true")
    moved("etcd_server_request_duration_seconds_count", 1, type="Range", success="false")
    moved("etcd_server_request_duration_seconds_count", 1, type="ReadonlyTxn", success="true")
    moved("etcd_server_range_duration_seconds_count", success="true")
    moved("etcd_server_range_duration_seconds_count", success="false")
    moved("etcd_server_client_requests_total", 8, type="unary", client_api_version="unknown")
    moved("etcd_server_healthchecks_total", type="readyz", name="linearizable_read", status="success")
    moved("etcd_server_healthchecks_total", type="livez", name="serializable_read", status="success")
    moved("etcd_server_health_success")
    moved("etcd_disk_wal_fsync_duration_seconds_count")
    moved("etcd_disk_wal_write_duration_seconds_count")
    moved("etcd_disk_wal_write_bytes_total", 100)
    moved("etcd_disk_backend_commit_duration_seconds_count")
    moved("etcd_network_client_grpc_received_bytes_total", 100)
    moved("etcd_network_client_grpc_sent_bytes_total", 100)
    moved("promhttp_metric_handler_requests_total", code="200")
    call = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_type": "unary"}
    moved("grpc_server_started_total", 3, **call)
    moved("grpc_server_handled_total", 3, grpc_code="OK", **call)
    moved("grpc_server_msg_received_total", 3, **call)
    moved("grpc_server_msg_sent_total", 3, **call)
    moved("grpc_server_handling_seconds_count", 3, **call)
    moved("grpc_server_handled_total", grpc_code="OutOfRange", grpc_method="Range")
    assert after.sum("process_start_time_seconds") == before.sum("process_start_time_seconds")
    assert after.sum("etcd_server_slow_apply_total") == 0 or "NABATA_TEST_SCALE" in os.environ
    assert url and after.sum("etcd_mvcc_db_open_read_transactions") >= 1
    for name in ("os_fd_used", "process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"):
        assert after.sum(name) > 0, name


def do_a_bit_of_everything(url):
    for key in ("a", "b", "c"):
        ctl(url, "put", key, "value")
    ctl(url, "put", "a", "again")
    ctl(url, "get", "a")
    ctl(url, "get", "a", "--rev", "1000000", fails=True)
    ctl(url, "del", "b")
    for text in ('mod("a") > "0"\n\nput x y\n\n\n', 'mod("a") > "0"\n\nget a\n\n\n'):
        subprocess.run([NABATA, "--endpoints", url, "txn"], input=text, text=True, check=True, capture_output=True, timeout=60)
    ctl(url, "compaction", "5")
    ctl(url, "compaction", "5", fails=True)
    ctl(url, "endpoint", "hashkv")
    for path in ("/readyz", "/livez", "/health"):
        get(url, path)


def a_lagging_member_gets_a_snapshot(folder, urls):
    leader = leader_of(urls)
    members = [line.split()[0] for line in open(os.path.join(folder, "pids"))]
    slow = next(i for i in range(3) if urls[i] != leader)
    cluster("kill", folder, members[slow])
    for i in range(40):
        ctl(leader, "put", "k", str(i))
    cluster("restart", folder, members[slow])
    eventually("a snapshot sent", lambda: page(leader).sum("etcd_network_snapshot_send_success") >= 1)
    sent, received = page(leader), page(urls[slow])
    assert sent.sum("etcd_network_snapshot_send_total_duration_seconds_count") >= 1
    assert sent.sum("etcd_network_snapshot_send_inflights_total") == 0
    assert sent.sum("etcd_disk_backend_snapshot_duration_seconds_count") >= 1
    assert received.sum("etcd_network_snapshot_receive_success") >= 1
    assert received.sum("etcd_network_snapshot_receive_total_duration_seconds_count") >= 1
    assert received.sum("etcd_snap_db_save_total_duration_seconds_count") >= 1
    assert received.sum("etcd_snap_db_fsync_duration_seconds_count") >= 1
    return sent, received


def a_learner_that_is_not_there_is_not_promoted(url):
    said = ctl(url, "member", "add", "late", "--learner", "--peer-urls", "http://127.0.0.1:9")
    learner = re.search(r"Member +([0-9a-f]+) added", said).group(1)
    ctl(url, "member", "promote", learner, fails=True)
    reason = "etcdserver: can only promote a learner member which is in sync with leader"
    shown = page(url)
    assert shown.sum("etcd_server_learner_promote_failures", Reason=reason) == 1, shown.labels
    return shown


def alarms_show():
    folder, urls = start("full", NABATA, 1, "--quota-backend-bytes", "5120", "--warning-apply-duration", "1ns")
    ctl(urls[0], "put", "k", "v", fails=True)
    eventually("an alarm", lambda: page(urls[0]).sum("etcd_debugging_server_alarms", alarm_type="NOSPACE") == 1)
    shown = page(urls[0])
    assert shown.sum("etcd_server_slow_apply_total") >= 2, "the member's name and the cluster's version, at least"
    assert '"replica.slow_apply"' in open(os.path.join(folder, "log/m1")).read()
    assert shown.sum("grpc_server_handling_seconds_count") == 0 and "grpc_server_handling_seconds" not in shown.types, \
        "without --metrics=extensive there are no call durations"
    get(urls[0], "/readyz")
    cluster("stop", folder)
    return shown


def names_are_those_of_the_list(pages):
    rows, docs = listed(), open(os.path.join(ROOT, "docs/metrics.md")).read()
    seen = {}
    for p in pages:
        for name, kind in p.types.items():
            seen[name] = (kind, p.labels.get(name, seen.get(name, (None, None))[1]))
    for name, (kind, labels) in seen.items():
        if not name.startswith(OURS):
            assert name.startswith("nabata_"), f"{name} is neither etcd's nor ours"
            continue
        assert name in rows, f"{name} is none of etcd's"
        want_kind, want_labels, state = rows[name]
        assert (kind, labels) in ((want_kind, want_labels), (want_kind, None)), f"{name}: {kind} {labels}, not {rows[name]}"
        assert state != "never", f"{name} is said never to be here"
    for name, (_, _, state) in rows.items():
        if state == "here":
            assert name in seen, f"{name} is missing"
        elif name not in seen:
            assert any(name.startswith(n.rstrip("*")) for n in re.findall(r"`([a-z_*]+)`", docs)), \
                f"docs/metrics.md does not say why there is no {name}"


def families_are_those_of_a_real_etcd(pages):
    binary = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "nabata-tests/etcd")
    built = subprocess.run([os.path.join(ROOT, "tests/support/etcd/build.sh"), binary], capture_output=True, text=True)
    version = ""
    if built.returncode == 0:
        version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.split()[2]
    if not version.startswith("3.7"):
        print(f"skipped: no etcd 3.7 to compare with: {built.stdout.strip()} {version}")
        return
    folder, urls = start("etcd", binary, 3, "--metrics", "extensive", "--strict-reconfig-check=false")
    before = page(urls[0])
    do_a_bit_of_everything(urls[0])
    real = page(urls[0])
    for name in ("etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_debugging_mvcc_keys_total",
                 "etcd_debugging_mvcc_current_revision", "etcd_debugging_mvcc_total_put_size_in_bytes",
                 "etcd_debugging_mvcc_compact_revision"):
        theirs, mine = real.sum(name) - before.sum(name), pages[1].sum(name) - pages[0].sum(name)
        assert theirs == mine, f"{name} moved by {mine}, etcd's by {theirs}"
    compared = 0
    for ours in pages:
        for name, kind in ours.types.items():
            if name in real.types:
                compared += 1
                assert kind == real.types[name], f"{name} is a {kind}, etcd's a {real.types[name]}"
                assert ours.labels.get(name) in (None, real.labels.get(name)) or name not in real.labels, \
                    f"{name}: {ours.labels[name]}, etcd's {real.labels[name]}"
                assert name not in ours.bounds or ours.bounds[name] == real.bounds.get(name, ours.bounds[name]), \
                    f"{name} has buckets {sorted(ours.bounds[name])}, etcd's {sorted(real.bounds[name])}"
    cluster("stop", folder)
    print(f"compared {compared} families with etcd {version}")


def main():
    folder, urls = start("three", NABATA, 3, "--metrics", "extensive", "--snapshot-catchup-entries", "10",
                         "--strict-reconfig-check=false")
    leader = leader_of(urls)
    eventually("round trips", lambda: page(leader).sum("etcd_network_peer_round_trip_time_seconds_count") >= 2)
    before = page(leader)
    do_a_bit_of_everything(leader)
    eventually("a removal", lambda: page(leader).sum("etcd_debugging_mvcc_db_compaction_last") > 0)
    eventually("a commit", lambda: page(leader).sum("etcd_disk_backend_commit_duration_seconds_count") >
               before.sum("etcd_disk_backend_commit_duration_seconds_count"))
    after = page(leader)
    numbers_move(leader, before, after)
    pages = [before, after, *a_lagging_member_gets_a_snapshot(folder, urls)]
    pages.append(a_learner_that_is_not_there_is_not_promoted(leader_of(urls)))
    cluster("stop", folder)
    pages.append(alarms_show())
    names_are_those_of_the_list(pages)
    families_are_those_of_a_real_etcd(pages)


try:
    main()
finally:
    for name in os.listdir(WORK):
        if os.path.exists(os.path.join(WORK, name, "pids")):
            subprocess.run([CLUSTER, "stop", "--dir", os.path.join(WORK, name)], capture_output=True)
    shutil.rmtree(WORK, ignore_errors=True)
