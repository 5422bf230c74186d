"""The rows of the table: which figure of which measure, which way is better, and what it should be beside etcd.

Nothing here measures or prints: medians, ratios, verdicts and texts from the JSON that compare.py wrote.
"""
from __future__ import annotations

import statistics
from dataclasses import dataclass, field

CLIENT_LIMIT_CORES = 0.85  # from here on the load generator may be what limits


@dataclass(frozen=True)
class Goal:
    """A ratio to etcd, or a bound on nabata's own figure in the row's unit."""
    ratio: float | None = None
    at_most: float | None = None

    def text(self, unit: str) -> str:
        return f"{self.ratio:g}x" if self.ratio is not None else f"≤ {self.at_most:g}{'' if unit == 'x' else ' ' + unit}"

    def reached(self, value: float | None, ratio: float | None) -> bool | None:
        """None: nothing to tell it by."""
        if self.ratio is not None:
            return None if ratio is None else ratio >= self.ratio
        return None if value is None else value <= self.at_most


@dataclass(frozen=True)
class Row:
    name: str
    group: str
    label: str
    unit: str
    measure: str
    field: str
    scale: float = 1
    more_is_better: bool = False
    ship: Goal | None = None
    aim: Goal | None = None


def _ratios(ship: float | None, aim: float | None) -> dict[str, Goal | None]:
    return {"ship": Goal(ship) if ship else None, "aim": Goal(aim) if aim else None}


def _rate(name: str, group: str, label: str, ship: float | None = None, aim: float | None = None) -> Row:
    return Row(name, group, label, "/s", name, "ops_per_s", more_is_better=True, **_ratios(ship, aim))


def _low(name: str, group: str, label: str, unit: str, measure: str, figure: str, scale: float = 1,
         ship: float | None = None, aim: float | None = None) -> Row:
    return Row(name, group, label, unit, measure, figure, scale, **_ratios(ship, aim))


W, R, U, M, S = "Writes", "Reads", "CPU of all members", "Memory and size", "Faults and starts"

ROWS = [
    _rate("put-8x64", W, "durable put, 8 connections x 64 in flight", 8, 15),
    _rate("put-100", W, "durable put, 100 connections, 1,000 in flight", 6, 11),
    _rate("put-256x1", W, "durable put, 256 connections x 1", 5, 8),
    _rate("put-64", W, "durable put, 64 clients"),
    _rate("txn-64", W, "txn, 64 clients"),
    _low("put-1-p50", W, "put p50, one client", "µs", "put-1", "p50_us", 1, 2, 2.7),
    _low("put-1-p99", W, "put p99, one client", "µs", "put-1", "p99_us"),
    _low("put-open-p99", W, "put p99 at 5,000/s, open loop", "ms", "put-open", "p99_us", 1e-3, 10, 20),
    _low("compaction-p99", W, "put p99 at 1,000/s during a compaction", "ms", "compaction", "p99_us", 1e-3, 3),
    _low("compaction-quiet", W, "put p99 at 1,000/s before it", "ms", "compaction", "quiet_p99_us", 1e-3),
    Row("compaction-over", W, "during, over before", "x", "compaction", "over_quiet", aim=Goal(at_most=1.3)),
    _low("compaction-took", W, "the compaction took", "s", "compaction", "took_s"),

    _rate("range-l-8x64", R, "linearizable range, 8 connections x 64", 8, 18),
    _rate("range-l-256x1", R, "linearizable range, 256 connections x 1", 4, 6),
    _rate("range-l-64", R, "linearizable range, 64 clients"),
    _low("range-l-1-p50", R, "linearizable range p50, one client", "µs", "range-l-1", "p50_us", 1, 3, 4),
    _rate("range-s-8x64", R, "serializable range, 8 connections x 64", 10, 20),
    _rate("range-s-64", R, "serializable range, 64 clients"),
    _low("page-p50", R, "page of 500 out of 100,000 keys, p50", "µs", "page", "p50_us"),

    _low("put-8x64-cpu", U, "a put, 8 connections x 64", "µs", "put-8x64", "server_cpu_us"),
    _low("range-s-256x1-cpu", U, "a serializable range, 256 connections x 1", "µs", "range-s-256x1", "server_cpu_us", 1, 5, 8),
    _low("page-cpu", U, "a page of 500 out of 100,000 keys", "µs", "page", "server_cpu_us", 1, 10, 30),
    _low("put-500-cpu", U, "three members at 500 puts/s", "cores", "put-500", "server_cores", 1, 4, 6),
    _low("idle-cpu", U, "an idle member", "% of a core", "idle", "cpu_share", 100, 4, 10),

    _low("connection", M, "an idle connection", "KiB", "held", "connection", 2**-10, 3, 24),
    _low("stream", M, "an idle stream", "KiB", "held", "stream", 2**-10, 3, 60),
    Row("idle-memory", M, "an idle member", "MiB", "idle", "resident", 2**-20, ship=Goal(4), aim=Goal(at_most=4)),
    _low("memory-1m", M, "anonymous, with 1,000,000 keys", "MiB", "keys-1000000", "anonymous", 2**-20, 2.5, 4),
    _low("resident-1m", M, "resident, with 1,000,000 keys", "MiB", "keys-1000000", "resident", 2**-20),
    _low("memory-10m", M, "anonymous, with 10,000,000 keys", "MiB", "keys-10000000", "anonymous", 2**-20, 2.5, 4),
    _low("size", M, "size on disk: server, ctl and util", "MB", "size", "bytes", 1e-6, 5, 10),

    _low("restart-1m", S, "killed member with 1,000,000 keys: start until healthy", "s", "keys-1000000", "restart_s", 1, 4, 12),
    _low("restart-10m", S, "killed member with 10,000,000 keys: start until healthy", "s", "keys-10000000", "restart_s", 1, 4,
         12),
    _low("outage", S, "leader killed with -9: next acknowledged write", "s", "outage", "s", 1, 1, 9),
]


@dataclass
class Cell:
    """A figure of one kind of server."""
    values: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def middle(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    def text(self) -> str:
        if not self.values:
            return "not measured"
        if len(self.values) == 1:
            return form(self.values[0])
        return f"{form(self.middle())} ({form(min(self.values))}–{form(max(self.values))})"


@dataclass
class Line:
    """A row with its figures."""
    row: Row
    cells: dict[str, Cell]
    ratio: float | None
    client_limits: bool  # nabata's load generator used so much CPU that it may be the limit

    def ratio_text(self) -> str:
        return "" if self.ratio is None else f"{form(self.ratio)}x" + (" *" if self.client_limits else "")

    def goal_text(self, goal: Goal | None) -> str:
        if goal is None:
            return ""
        value = self.cells["nabata"].middle() if "nabata" in self.cells else None
        reached = goal.reached(value, self.ratio)
        return goal.text(self.row.unit) + {True: " ✓", False: " ✗", None: " ?"}[reached]

    def errors(self) -> list[str]:
        return [f"{self.row.label}: {kind}: {error}" for kind, cell in self.cells.items() for error in cell.errors]


def form(value: float) -> str:
    """Three digits that count, thousands with commas."""
    size = abs(value)
    for bound, digits in ((100, 0), (10, 1), (1, 2)):
        if size >= bound:
            return f"{value:,.{digits}f}"
    return "0" if value == 0 else f"{value:.3f}"


def cell(row: Row, results: list[dict]) -> Cell:
    out = Cell()
    for result in results:
        value = result.get(row.field)
        if "error" in result:
            out.errors.append(result["error"])
        elif isinstance(value, dict):
            out.errors.append(value["error"])
        elif value is None:
            out.errors.append(f"it has no {row.field}")
        else:
            out.values += [v * row.scale for v in (value if isinstance(value, list) else [value])]
            if result.get("failed"):
                out.errors.append(f"{result['failed']} requests failed: {result.get('errors', '')}")
    return out


def ratio_of(row: Row, cells: dict[str, Cell]) -> float | None:
    """How many times better nabata is than etcd."""
    nabata, etcd = (cells[kind].middle() if kind in cells else None for kind in ("nabata", "etcd"))
    if nabata is None or etcd is None or min(nabata, etcd) <= 0:
        return None
    return nabata / etcd if row.more_is_better else etcd / nabata


def client_limits(results: list[dict]) -> bool:
    cores = [r["client_cores"] for r in results if "client_cores" in r]
    return bool(cores) and statistics.median(cores) > CLIENT_LIMIT_CORES


def lines(data: dict) -> list[Line]:
    """Of every row that was tried."""
    out = []
    for row in ROWS:
        cells = {kind: cell(row, runs[row.measure]) for kind, runs in data["runs"].items() if row.measure in runs}
        if cells:
            limited = row.more_is_better and client_limits(data["runs"].get("nabata", {}).get(row.measure, []))
            out.append(Line(row, cells, ratio_of(row, cells), limited))
    return out


def measures_of(names: list[str]) -> set[str]:
    """The measures behind rows; a measure's own name will do. KeyError: neither."""
    out = set()
    for name in names:
        found = {r.measure for r in ROWS if name in (r.name, r.measure)}
        if not found:
            raise KeyError(name)
        out |= found
    return out


def as_text(data: dict) -> str:
    """The table for a terminal."""
    kinds = [k for k in ("nabata", "etcd") if k in data["runs"]]
    out, group, tried = [], None, lines(data)
    for line in tried:
        if line.row.group != group:
            group = line.row.group
            heads = "".join(f"{k:>30}" for k in kinds)
            out.append(f"\n{group:60}{heads}{'ratio':>10}{'to ship':>11}{'aim':>11}")
        cells = "".join(f"{line.cells[k].text() if k in line.cells else '':>30}" for k in kinds)
        label = f"{line.row.label}, {line.row.unit}"
        out.append(f"{label:60}{cells}{line.ratio_text():>10}{line.goal_text(line.row.ship):>11}"
                   f"{line.goal_text(line.row.aim):>11}")
    if any(line.client_limits for line in tried):
        out.append(f"\n* the load generator used more than {CLIENT_LIMIT_CORES} of a core: it may be the limit")
    errors = sorted({error for line in tried for error in line.errors()})
    if errors:
        out += ["", "What went wrong:", *(f"  {error}" for error in errors)]
    return "\n".join(out)
