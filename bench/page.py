#!/usr/bin/env python3
"""Writes the tables of docs/performance.md from what bench/compare.py wrote. The prose around them is by hand.

    bench/page.py [build/bench.json [docs/performance.md]]

A table stands between two lines `<!-- NAME: written by bench/page.py -->` and `<!-- NAME: end -->`.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import sys

import measures
import rows

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def replaced(page: str, name: str, body: str) -> str:
    """The page with that between the marks of `name`. ValueError when they are not there, once."""
    begin, end = f"<!-- {name}: written by bench/page.py -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page has no place for {name}: {begin} ... {end}")
    return page[:page.index(begin) + len(begin)] + "\n" + body.strip("\n") + "\n" + page[page.index(end):]


def how(run: dict) -> str:
    versions = " and ".join(f"{kind} {version}" for kind, version in run["versions"].items())
    return (f"{run['when']} with {versions}, {run['rounds']} round{'s' if run['rounds'] != 1 else ''} "
            f"of {run['seconds']:g} s a load")


def facts(data: dict) -> str:
    size = data["runs"].get("etcd", {}).get("size", [{}])[0].get("of")
    out = [f"Measured {how(data)}, on {data['cores']} cores."]
    out += [f"Measured again {how(run)}: {', '.join(run['measures'])}." for run in data.get("again", [])]
    out += [f"etcd's size is that of {size}."] if size else []
    return " ".join(out)


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def goals(data: dict) -> str:
    """All rows beside what they should be."""
    out: list[str] = []
    group = None
    tried = rows.lines(data)
    for line in tried:
        if line.row.group != group:
            group = line.row.group
            out += ["", f"| {group} | | nabata | etcd | ratio | to ship | aim |", "|---|---|---|---|---|---|---|"]
        cells = [line.cells[kind].text() if kind in line.cells else "" for kind in ("nabata", "etcd")]
        ratio = f"**{escaped(line.ratio_text())}**" if line.ratio is not None else ""
        out.append("| " + " | ".join([escaped(line.row.label), line.row.unit, *cells, ratio, line.goal_text(line.row.ship),
                                      line.goal_text(line.row.aim)]) + " |")
    if any(line.client_limits for line in tried):
        out += ["", f"\\* The load generator used more than {rows.CLIENT_LIMIT_CORES} of a core, so it may be the limit."]
    errors = sorted({error for line in tried for error in line.errors()})
    if errors:
        out += ["", "What went wrong in this run:", "", *(f"- {escaped(error)}" for error in errors)]
    return "\n".join(out)


def middle(results: list[dict], figure: str) -> float | None:
    values = [r[figure] for r in results if figure in r]
    return statistics.median(values) if values else None


def loads(data: dict) -> str:
    """Every load with its rate, latencies and CPU, nabata before etcd."""
    out = ["| nabata · etcd | requests/s | ratio | p50 µs | p99 µs | server CPU µs a request | ratio |",
           "|---|---|---|---|---|---|---|"]

    def pair(load: measures.Load, figure: str) -> tuple[str, float | None]:
        values = [middle(data["runs"].get(kind, {}).get(load.name, []), figure) for kind in ("nabata", "etcd")]
        text = " · ".join("–" if v is None else rows.form(v) for v in values)
        return text, values[0] / values[1] if None not in values and min(values) > 0 else None

    for load in measures.LOADS:
        if not any(load.name in runs for runs in data["runs"].values()):
            continue
        (rate, rate_ratio), (p50, _), (p99, _), (cpu, cpu_ratio) = (
            pair(load, f) for f in ("ops_per_s", "p50_us", "p99_us", "server_cpu_us"))
        more = "" if rate_ratio is None or "--rate" in " ".join(load.arguments) else f"**{rows.form(rate_ratio)}x**"
        less = "" if cpu_ratio is None else f"**{rows.form(1 / cpu_ratio)}x**"
        out.append(f"| {load.label} | {rate} | {more} | {p50} | {p99} | {cpu} | {less} |")
    return "\n".join(out)


def written(page: str, data: dict) -> str:
    for name, body in (("facts", facts(data)), ("goals", goals(data)), ("loads", loads(data))):
        page = replaced(page, name, body)
    return re.sub(r"\n{3,}", "\n\n", page)


def main() -> int:
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "bench.json")
    page = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs", "performance.md")
    with open(source, encoding="utf-8") as f:
        data = json.load(f)
    with open(page, encoding="utf-8") as f:
        text = f.read()
    text = written(text, data)
    with open(page, "w", encoding="utf-8") as f:
        f.write(text)
    kept = os.path.join(os.path.dirname(os.path.abspath(page)), "performance", "figures.json")
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    if os.path.abspath(source) != kept:
        shutil.copyfile(source, kept)
    print(f"{os.path.relpath(page)}\n{os.path.relpath(kept)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
