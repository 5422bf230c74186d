#!/usr/bin/env python3
"""Runs one analyzer over all first-party sources of a build folder, in parallel.

    tools/analyze.py tidy BUILD     clang-tidy, by .clang-tidy
    tools/analyze.py gcc BUILD      gcc -fanalyzer, only what is not a test

Prints what the analyzer found, and exits 1 if it found anything.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Neither analyzer knows that cmocka's assertions end a test, so in tests both follow paths that no run takes.
# There clang-tidy looks at the shape only; and a handler of SIGABRT that prints is what a test wants.
IS_TEST = re.compile(r"(_test\.c$|^tests/)")
TIDY_FOR_TESTS = "--checks=-clang-analyzer-*,-bugprone-signal-handler,-cert-sig30-c"

# An allocation that fails ends the process (base/bytes.h), which gcc 12 does not see across files; and it loses
# the tie between a pointer and its count where paths meet. clang's analyzer looks for null pointers better.
GCC_FLAGS = [
    "-fanalyzer",
    "-Wno-analyzer-null-argument",
    "-Wno-analyzer-null-dereference",
    "-Wno-analyzer-possible-null-argument",
    "-Wno-analyzer-possible-null-dereference",
]


def sources(build):
    """(path from the root, compile command) of every first-party file, each once."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if ROOT in path.parents and build not in path.parents:
            found.setdefault(str(path.relative_to(ROOT)), shlex.split(entry["command"]))
    return sorted(found.items())


def tidy(name, _command, build):
    only = [TIDY_FOR_TESTS] if IS_TEST.search(name) else []
    return ["clang-tidy", "--quiet", *only, "-p", str(build), str(ROOT / name)]


def gcc(_name, command, _build):
    output = command.index("-o")
    kept = [word for word in command[:output] + command[output + 2 :] if word != "-MD"]
    for flag in ("-MT", "-MF"):
        at = kept.index(flag) if flag in kept else -1
        kept = kept[:at] + kept[at + 2 :] if at >= 0 else kept
    return kept + GCC_FLAGS + ["-o", "/dev/null"]


def run(command, build):
    done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    said = done.stdout if command[0] == "clang-tidy" else done.stderr
    if done.returncode != 0:
        return said + (done.stderr if command[0] == "clang-tidy" else "")
    return said


def main():
    kind, build = sys.argv[1], (ROOT / sys.argv[2]).resolve()
    make = {"tidy": tidy, "gcc": gcc}[kind]
    work = [
        make(name, command, build)
        for name, command in sources(build)
        if kind == "tidy" or not IS_TEST.search(name)
    ]
    errors = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for said in pool.map(lambda command: run(command, build), work):
            if said.strip():
                print(said.strip())
                errors += 1
    print(f"{kind}: {len(work)} files, {errors} with findings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
