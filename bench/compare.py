#!/usr/bin/env python3
"""nabata and etcd under the same load, in turns within one run.

Each round starts a fresh cluster of three members of one kind, measures, and stops it; then the other kind. Medians of
the rounds are compared; min and max are shown. CPU is that of the three servers, from /proc. A row that cannot be
measured says why, and the others go on. All results go to a JSON file.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import measures
import rows

HERE = os.path.dirname(os.path.abspath(__file__))
MANY = {"keys-1000000", "keys-10000000"}


def options_of(words: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0], usage="bench/run.sh NABATA [options]")
    p.add_argument("--nabata", required=True, help=argparse.SUPPRESS)
    p.add_argument("--etcd", help=argparse.SUPPRESS)
    p.add_argument("--rounds", type=int, default=3, help="of which the median counts (3)")
    p.add_argument("--seconds", type=float, default=5, help="a load's length (5)")
    p.add_argument("--only", metavar="ROW,...", help="these rows alone; --rows lists them")
    p.add_argument("--ten-million", action="store_true",
                   help="also memory and restart with 10,000,000 keys: half an hour, 16 GB of memory")
    p.add_argument("--merge", action="store_true", help="keep the other rows of the file that is there")
    p.add_argument("--docs", action="store_true", help="then write the tables and pictures of docs/performance.md")
    p.add_argument("--rows", action="store_true", help="list the rows and end")
    p.add_argument("--out", default=os.path.join(HERE, "..", "build", "bench.json"))
    o = p.parse_args(words)
    if o.rounds < 1 or o.seconds <= 0:
        p.error("--rounds and --seconds must be above 0")
    try:
        o.wanted = rows.measures_of(o.only.split(",") if o.only else [r.name for r in rows.ROWS])
    except KeyError as e:
        p.error(f"there is no row {e}; --rows lists them")
    if o.only is None and not o.ten_million:
        o.wanted -= {"keys-10000000"}
    if o.ten_million:
        o.wanted |= {"keys-10000000"}
    return o


def version(binary: str) -> str:
    words = subprocess.run([binary, "--version"], capture_output=True, text=True, errors="replace").stdout.split()
    return next((w for w in words if w[:1].isdigit()), "unknown")


def binaries(kind: str, binary: str) -> list[str]:
    """What a user of that kind needs: nabata is one program; etcd's tools lie beside it if they could be built."""
    tools = [os.path.join(os.path.dirname(binary), tool) for tool in ("etcdctl", "etcdutl")]
    return [binary] + [t for t in tools if kind == "etcd" and os.access(t, os.X_OK)]


def say(kind: str, name: str, result: dict) -> None:
    if "error" in result:
        text = f"FAILED: {result['error']}"
    elif "ops_per_s" in result:
        text = (f"{result['ops_per_s']:12,.0f}/s   p50 {result['p50_us']:9,.0f} µs   p99 {result['p99_us']:9,.0f} µs   "
                f"CPU {result['server_cpu_us']:8,.1f} µs")
    else:
        text = "   ".join(f"{k} {rows.form(v) if isinstance(v, (int, float)) else v}" for k, v in result.items())
    print(f"  {kind:7} {name:16} {text}", flush=True)


class Report:
    """The file, written again after each result, so that an interrupted run keeps what it has."""

    def __init__(self, o: argparse.Namespace, kinds: dict[str, str]) -> None:
        self.path = o.out
        self.data = {"when": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "rounds": o.rounds, "seconds": o.seconds,
                     "versions": {k: version(b) for k, b in kinds.items()}, "runs": {k: {} for k in kinds}}
        if o.merge and os.path.exists(o.out):
            self.merge(o)

    def merge(self, o: argparse.Namespace) -> None:
        """The old file, without what is measured again now."""
        fresh = self.data
        with open(o.out, encoding="utf-8") as f:
            self.data = json.load(f)
        for kind in fresh["runs"]:
            kept = self.data["runs"].get(kind, {})
            self.data["runs"][kind] = {m: r for m, r in kept.items() if m not in o.wanted}
        self.data.setdefault("again", []).append(
            {"measures": sorted(o.wanted), **{k: fresh[k] for k in ("when", "rounds", "seconds", "versions")}})

    def add(self, kind: str, name: str, result: dict) -> None:
        say(kind, name, result)
        self.data["runs"][kind].setdefault(name, []).append(result)
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            json.dump(self.data, f, indent=1)
        os.replace(self.path + ".new", self.path)


def measure_all(o: argparse.Namespace, kinds: dict[str, str], report: Report) -> None:
    def run_of(kind: str) -> measures.Run:
        return measures.Run(kind, kinds[kind], o.nabata, o.seconds, o.wanted, report.add)

    if "size" in o.wanted:
        for kind, binary in kinds.items():
            report.add(kind, "size", measures.size(binaries(kind, binary)))
    rounds = o.rounds if o.wanted - MANY - {"size"} else 0
    for i in range(rounds):
        print(f"round {i + 1} of {rounds}", flush=True)
        for kind in kinds:
            measures.measure_round(run_of(kind))
    if o.wanted & MANY:
        print("many keys", flush=True)
        for kind in kinds:
            measures.measure_many_keys(run_of(kind))


def write_docs(out: str) -> None:
    """The page, and its pictures where there is matplotlib: Debian's is only seen by Debian's python."""
    subprocess.run([sys.executable, os.path.join(HERE, "page.py"), out], check=True)
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    if subprocess.run([python, os.path.join(HERE, "plot.py"), out]).returncode != 0:
        print("the pictures are the old ones: bench/plot.py needs matplotlib (python3-matplotlib)")


def main() -> int:
    o = options_of(sys.argv[1:])
    if o.rows:
        for row in rows.ROWS:
            print(f"{row.name:20} {row.group}: {row.label}, {row.unit}")
        return 0
    kinds = {"nabata": o.nabata, **({"etcd": o.etcd} if o.etcd else {})}
    report = Report(o, kinds)
    begun = time.monotonic()
    interrupted = False
    try:
        measure_all(o, kinds, report)
    except KeyboardInterrupt:
        print("\ninterrupted: what follows is what there is")
        interrupted = True
    print(rows.as_text(report.data))
    if o.docs and not interrupted:
        write_docs(o.out)
    print(f"\ntook {(time.monotonic() - begun) / 60:.1f} min; written to {os.path.relpath(o.out)}")
    return 1 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
