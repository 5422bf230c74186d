#!/usr/bin/env python3
"""Draws docs/performance/*.svg from what bench/compare.py wrote.

    bench/plot.py [build/bench.json [docs/performance]]
"""
from __future__ import annotations

import json
import os
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

import measures  # noqa: E402
import page  # noqa: E402
import rows  # noqa: E402

matplotlib.rcParams["svg.hashsalt"] = "nabata"  # the same numbers give the same file

COLORS = {"nabata": "#b5532a", "etcd": "#419eda"}
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def save(figure: plt.Figure, path: str) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(os.path.relpath(path))


def finish(axes: plt.Axes, names: list[str], title: str, unit: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.15)
    axes.legend(fontsize=8)


def bars(data: dict, title: str, unit: str, figure_name: str, path: str, paced: bool = True) -> None:
    """A figure of every load, of both; those at a given rate only if `paced`."""
    loads = [m for m in measures.LOADS if (paced or not any("--rate" in a for a in m.arguments)) and
             any(m.name in runs for runs in data["runs"].values())]
    kinds = [k for k in ("nabata", "etcd") if k in data["runs"]]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(loads) + 1.4))
    height = 0.8 / len(kinds)
    for i, kind in enumerate(kinds):
        labelled = False
        for j, load in enumerate(loads):
            values = [r[figure_name] for r in data["runs"][kind].get(load.name, []) if r.get(figure_name)]
            middle = page.middle(data["runs"][kind].get(load.name, []), figure_name)
            if not values or not middle:
                continue
            y = j + (i - (len(kinds) - 1) / 2) * height
            axes.barh(y, middle, height, color=COLORS[kind], label=None if labelled else kind,
                      xerr=[[middle - min(values)], [max(values) - middle]], ecolor="#555")
            axes.text(middle, y, " " + rows.form(middle), va="center", fontsize=8)
            labelled = True
    finish(axes, [m.label for m in loads], title, unit)
    save(figure, path)


def full_label(row: rows.Row) -> str:
    """A row's label where its group does not stand above it."""
    words = {rows.U: "CPU, ", rows.M: "" if row.name == "size" else "memory, "}
    return words.get(row.group, "") + row.label


def ratios(data: dict, path: str) -> None:
    """How many times better than etcd each row is, with what it should be."""
    lines = [line for line in rows.lines(data) if line.ratio is not None and line.row.ship]
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(lines) + 1.4))
    for j, line in enumerate(lines):
        axes.barh(j, line.ratio - 1, 0.7, left=1, color=COLORS["nabata"], label="nabata" if j == 0 else None)
        inside = line.ratio > 1.5
        axes.text(1.04 if inside else max(line.ratio, 1) * 1.04, j, rows.form(line.ratio) + "x", va="center", fontsize=8,
                  color="white" if inside else "#333")
    for goal, marker, label in (("ship", "|", "to ship"), ("aim", "D", "aim")):
        points = [(getattr(line.row, goal).ratio, j) for j, line in enumerate(lines)
                  if getattr(line.row, goal) and getattr(line.row, goal).ratio]
        if points:
            axes.scatter(*zip(*points), marker=marker, s=90 if marker == "|" else 18, color="#333", zorder=3, label=label)
    axes.axvline(1, color=COLORS["etcd"], label="etcd")
    goals = [g.ratio for line in lines for g in (line.row.ship, line.row.aim) if g and g.ratio]
    reach = [1, *(line.ratio for line in lines), *goals]
    axes.set_xlim(0.8 * min(reach), 1.4 * max(reach))
    finish(axes, [full_label(line.row) for line in lines], "Times better than etcd", "ratio")
    save(figure, path)


def main() -> int:
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "bench.json")
    to = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs", "performance")
    os.makedirs(to, exist_ok=True)
    with open(source, encoding="utf-8") as f:
        data = json.load(f)
    ratios(data, os.path.join(to, "ratios.svg"))
    bars(data, "Requests a second (more is better)", "requests/s", "ops_per_s", os.path.join(to, "throughput.svg"), paced=False)
    bars(data, "99 of 100 answered within (less is better)", "microseconds", "p99_us", os.path.join(to, "p99.svg"))
    bars(data, "CPU of the three servers (less is better)", "microseconds a request", "server_cpu_us",
         os.path.join(to, "cpu.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
