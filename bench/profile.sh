#!/usr/bin/env bash
# Where the leader's CPU goes under puts: perf over one member of three, by function and by room.
#   bench/profile.sh NABATA_WITH_SYMBOLS [bench put options]
# Build one with: cmake --preset profile && cmake --build build/profile --target nabata
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nabata=$(realpath "${1:?usage: bench/profile.sh NABATA [options of bench put]}")
shift
options=("$@")
((${#options[@]})) || options=(--clients=512 --conns=8 --val-size=256 --key-space-size=100000)
work=$(mktemp -d)
trap 'bash "$here/../tests/support/cluster.sh" stop --dir "$work/c" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
bash "$here/../tests/support/cluster.sh" start --dir "$work/c" --binary "$nabata" --members 3 --owner $$ -- --log-level=error
endpoints=$(<"$work/c/endpoints")
port=$("$nabata" endpoint status --endpoints "$endpoints" -w json | python3 -c '
import json, sys
for row in json.load(sys.stdin):
    if row["Status"]["header"]["member_id"] == row["Status"]["leader"]:
        print(row["Endpoint"].rsplit(":", 1)[1])')
for file in "$work"/c/command/*; do
    if grep -A1 -x -e --listen-client-urls "$file" | grep -q ":$port$"; then
        leader=$(basename "$file")
    fi
done
pid=$(awk -v member="$leader" '$1 == member { print $2 }' "$work/c/pids")
"$nabata" bench put --endpoints "$endpoints" --duration=8s "${options[@]}" >"$work/bench" &
load=$!
perf record --quiet -o "$work/perf.data" -p "$pid" -- sleep 5 2>/dev/null
wait "$load"
head -3 "$work/bench"
perf report -i "$work/perf.data" --no-children --stdio -g none --sort symbol 2>/dev/null | grep -v '^#' | grep -v '^$' >"$work/report"
python3 - "$work/report" "$here/../src" <<'PYTHON'
import os, re, sys
rooms = {}
for room in os.listdir(sys.argv[2]):
    folder = os.path.join(sys.argv[2], room)
    for name in os.listdir(folder):
        if name.endswith(".c"):
            for match in re.finditer(r"^[a-z][\w *]*?\**(\w+)\(", open(os.path.join(folder, name)).read(), re.M):
                rooms.setdefault(match.group(1), room)
libraries = [("nghttp2", "nghttp2"), ("mdb_", "LMDB"), ("uv_", "libuv"), ("uv__", "libuv"), ("inflate", "nghttp2")]
libc = ("mem", "__mem", "malloc", "free", "_int_", "cfree", "calloc", "realloc", "unlink_chunk", "malloc_", "tcache", "__libc", "pthread", "___pthread")
total = {}
rows = []
for line in open(sys.argv[1]):
    match = re.match(r"\s*([\d.]+)%\s+\[(.)\]\s+(\S+)", line)
    if not match:
        continue
    share, kind, symbol = float(match[1]), match[2], match[3]
    plain = re.sub(r"\.(lto_priv|part|constprop|isra|cold).*", "", symbol)
    if kind == "k":
        where = "kernel"
    elif plain in rooms:
        where = rooms[plain] + "/"
    else:
        where = next((lib for start, lib in libraries if plain.startswith(start)), None)
        where = where or ("libc" if plain.startswith(libc) else "other")
    total[where] = total.get(where, 0) + share
    rows.append((share, where, plain))
print(f"\n{'where':12} {'share of CPU':>12}")
for where, share in sorted(total.items(), key=lambda item: -item[1]):
    print(f"{where:12} {share:11.1f}%")
print(f"\n{'function':36} {'where':12} {'share':>6}")
for share, where, symbol in rows[:16]:
    print(f"{symbol:36} {where:12} {share:5.1f}%")
PYTHON
