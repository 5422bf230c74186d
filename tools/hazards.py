#!/usr/bin/env python3
"""Which hazards are shown by which tests: keeps docs/hazards.md and the sources of one mind.

Each row of docs/hazards.md is `| id | rule | where |`. `where` names the files that cite the id (in a
test's name, a comment of a test, or a planted fault), or says `open: why`. Checked are that

  - every id cited in a test is a row of the table,
  - every file that a row names exists and cites the id,
  - a row that is not open names at least one file, and an open one is cited nowhere.

`--write` writes the column `where` anew from what is cited; open rows that are cited now are closed.
"""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "hazards.md"
PLACES = ["src/*/*_test.c", "src/raft/fault.h", "tests/raft/*.[ch]", "tests/storage/*.c", "tests/clients/*.sh", "tests/recover/*.sh",
          "tests/differential/*.go", "sim/*.[ch]"]
CITED = re.compile(r"(?<![A-Za-z0-9])([REQMS][0-9]{2})(?![0-9A-Za-z])")
ROW = re.compile(r"^\| ([REQMS][0-9]{2}) \| (.*?) \| (.*?) \|$")


def citations():
    """Files by the id that they cite."""
    found = collections.defaultdict(set)
    for pattern in PLACES:
        for path in ROOT.glob(pattern):
            for hazard in CITED.findall(path.read_text(encoding="utf-8")):
                found[hazard].add(str(path.relative_to(ROOT)))
    return found


def where(old, files):
    """The last column of a row."""
    if files:
        return ", ".join(f"`{name}`" for name in sorted(files))
    return old if old.startswith("open:") else "open: no test names it"


def write(found):
    """Rewrites the table from what is cited."""
    lines = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            line = f"| {row[1]} | {row[2]} | {where(row[3], found.get(row[1]))} |"
        lines.append(line)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(found):
    """What is not as it should be, a line each."""
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            rows[row[1]] = row[3]
    for hazard in sorted(set(found) - set(rows)):
        yield f"{hazard} is cited in {', '.join(sorted(found[hazard]))} but is no row of the table"
    for hazard, text in rows.items():
        named = set(re.findall(r"`([^`]+)`", text))
        if text.startswith("open:"):
            if found.get(hazard):
                yield f"{hazard} is called open but cited in {', '.join(sorted(found[hazard]))}"
        elif not named:
            yield f"{hazard} names no test and is not called open"
        else:
            for name in sorted(named - found.get(hazard, set())):
                yield f"{hazard}: {name} does not cite it"


def main():
    found = citations()
    if "--write" in sys.argv[1:]:
        write(found)
    complaints = list(check(found))
    for complaint in complaints:
        print(f"docs/hazards.md: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


sys.exit(main())
