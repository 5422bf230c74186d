#!/usr/bin/env python3
"""Draws docs/performance/*.svg from what bench/compare.py wrote.

    bench/plot.py [build/bench.json [docs/performance]]
"""
import json
import os
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

matplotlib.rcParams["svg.hashsalt"] = "nabata"  # the same numbers give the same file

COLORS = {"nabata": "#b5532a", "etcd": "#419eda"}


def bars(data, title, unit, get, names, path, log=True):
    kinds = [k for k in ("nabata", "etcd") if k in data["rounds"]]
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(names) + 1.4))
    height = 0.8 / len(kinds)
    for i, kind in enumerate(kinds):
        for j, name in enumerate(names):
            values = [get(r[name]) for r in data["rounds"][kind]]
            middle = statistics.median(values)
            axes.barh(j + i * height, middle, height, color=COLORS[kind], label=kind if j == 0 else None,
                      xerr=[[middle - min(values)], [max(values) - middle]], ecolor="#555")
            axes.text(middle, j + i * height, f" {middle:,.0f}" if middle >= 10 else f" {middle:.1f}", va="center", fontsize=8)
    axes.set_yticks([j + 0.4 - height / 2 for j in range(len(names))], names, fontsize=8)
    axes.invert_yaxis()
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    axes.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "build", "bench.json")
    to = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "..", "docs", "performance")
    os.makedirs(to, exist_ok=True)
    with open(source) as f:
        data = json.load(f)
    first = next(iter(data["rounds"].values()))[0]
    names = [n for n, v in first.items() if isinstance(v, dict)]
    bars(data, "Requests a second (more is better)", "requests/s", lambda r: r["ops_per_s"], names,
         os.path.join(to, "throughput.svg"))
    bars(data, "99 of 100 answered within (less is better)", "microseconds", lambda r: r["p99_us"], names,
         os.path.join(to, "p99.svg"))
    bars(data, "CPU of the three servers (less is better)", "microseconds a request",
         lambda r: r["server_cpu_s"] / max(1, r["ops"]) * 1e6, names, os.path.join(to, "cpu.svg"))


if __name__ == "__main__":
    main()
