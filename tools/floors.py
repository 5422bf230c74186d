#!/usr/bin/env python3
"""Holds every #include in src/ to the floors of tools/floors.txt.

A room includes itself and the rooms its line names. Tests in src/ may include tests/ and sim/ as well. An include of a
room that is not listed, a quoted include without its room, and a room without a line are errors too. Prints
"file:line: what is wrong" and exits 1 if anything is.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
GENERATED = re.compile(r"^[a-z_]+\.pb-c\.h$")  # made from proto/, which is nobody's room


def read_floors(path):
    """Room -> the set of rooms it may use."""
    floors = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        room, colon, below = line.partition(":")
        if not colon or room.strip() in floors:
            sys.exit(f"{path}:{number}: expected one line 'room: rooms below' a room")
        floors[room.strip()] = set(below.split())
    for room, below in floors.items():
        for other in sorted(below - floors.keys()):
            sys.exit(f"{path}: {room} may use {other}, which has no line")
    return floors


def wrong_with(source, target, floors):
    """Why `source` must not include `target`, or None."""
    room = source.relative_to(ROOT / "src").parts[0]
    is_test = source.name.endswith("_test.c")
    if room not in floors:
        return f"room {room} has no line in tools/floors.txt"
    if GENERATED.match(target):
        return None
    if "/" not in target:
        return f'"{target}" has no room: write "{room}/{target}"'
    other = target.split("/")[0]
    if other in ("tests", "sim") and is_test:
        return None
    if other not in floors:
        return f'"{target}" is in no room'
    if other != room and other not in floors[room]:
        return f"{room} must not include {other} (\"{target}\")"
    return None


def main():
    floors = read_floors(ROOT / "tools" / "floors.txt")
    errors = 0
    for source in sorted((ROOT / "src").glob("**/*.[ch]")):
        for number, line in enumerate(source.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            why = wrong_with(source, match.group(1), floors) if match else None
            if why:
                print(f"{source.relative_to(ROOT)}:{number}: {why}")
                errors += 1
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
