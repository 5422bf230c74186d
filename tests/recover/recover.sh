#!/bin/bash
# recover.sh NABATA: two of three members are gone for good; `nabata recover` lets the third go on. [M13]
#
#   - refuses while there is a quorum, when the name is wrong, and where another's log is longer
#   - keeps every acknowledged write, offline and by an order to a server that runs
#   - an old member that comes back is told that it was removed, and stops with exit code 5
set -u

nabata=${1:?usage: recover.sh NABATA}
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/../support/cluster.sh
work=$(mktemp -d)
server=

finish() {
    status=$?
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null
        wait "$server"
    fi
    if [[ -f $work/c/pids ]]; then
        "$cluster" stop --dir "$work/c" >/dev/null 2>&1
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

expect() { # TEXT FILE
    grep -q -- "$1" "$2" || fail "no \"$1\" in: $(cat "$2")"
}

wait_healthy() { # ENDPOINT
    for _ in $(seq 600); do
        if "$nabata" endpoint health --endpoints "$1" --command-timeout 1s >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.05 # between two looks; the deadline decides
    done
    fail "$1 is not healthy: $(tail -5 "$work/alone.log")"
}

"$cluster" start --dir "$work/c" --binary "$nabata" --members 3 --owner $$ || fail "no cluster"
endpoints=$(cat "$work/c/endpoints")
first=${endpoints%%,*}
for i in $(seq 40); do
    "$nabata" put "key$i" "value$i" --endpoints "$endpoints" >/dev/null || fail "put"
done
id=$("$nabata" endpoint status --endpoints "$first" -w json | grep -o '"cluster_id":[0-9]*' | head -1 | cut -d: -f2)
name=$(printf '%x' "$id")

# With a quorum: no.
if "$nabata" recover --data-dir "$work/c/data/m1" --cluster "$name" >"$work/out" 2>&1; then
    fail "recovered although there is a quorum"
fi
expect "its quorum is not lost" "$work/out"

# Where another that answers has more: no.
"$cluster" kill --dir "$work/c" m1 || fail "kill"
others=${endpoints#*,}
"$nabata" put more here --endpoints "$others" --command-timeout 20s >/dev/null || fail "put"
"$cluster" kill --dir "$work/c" m3 || fail "kill"
for _ in $(seq 600); do # until m2 knows that it leads nobody
    "$nabata" recover --data-dir "$work/c/data/m1" --cluster "$name" >"$work/out" 2>&1 && fail "recovered from the shorter log"
    if ! grep -q "its quorum is not lost" "$work/out"; then
        break
    fi
    sleep 0.05
done
expect "m2 has a longer log" "$work/out"

# The same when m2 has started again and serves no client, since it has no leader.
"$cluster" kill --dir "$work/c" m2 || fail "kill"
mapfile -t command <"$work/c/command/m2"
"${command[@]}" >"$work/m2.log" 2>&1 &
server=$!
for _ in $(seq 200); do
    "$nabata" recover --data-dir "$work/c/data/m1" --cluster "0" >"$work/out" 2>&1 && fail "recovered from the shorter log"
    if grep -q "m2 .*answers" "$work/out"; then
        break
    fi
    sleep 0.05
done
expect "m2 has a longer log" "$work/out"
kill -9 "$server"
wait "$server" 2>/dev/null
server=
"$cluster" restart --dir "$work/c" m1 m2 m3 || fail "restart"
[[ $("$nabata" get more --print-value-only --endpoints "$first") == here ]] || fail "m1 did not catch up"
"$cluster" kill --dir "$work/c" m2 m3 || fail "kill"
"$cluster" kill --dir "$work/c" m1 || fail "kill"
cp -r "$work/c/data/m1" "$work/copy"

# The name is asked for.
if echo 1234 | "$nabata" recover --data-dir "$work/c/data/m1" >"$work/out" 2>&1; then
    fail "took a wrong name"
fi
expect "nothing was changed" "$work/out"

# Offline.
echo "$name" | "$nabata" recover --data-dir "$work/c/data/m1" >"$work/out" 2>&1 || fail "$(cat "$work/out")"
expect "best survivor: m1 (this folder)" "$work/out"
expect "goes on as cluster" "$work/out"
# As a crash between the last two renames leaves it: the start finishes them.
mkdir "$work/c/data/m1/recovering"
mv "$work/c/data/m1/member" "$work/c/data/m1/recovering/"
echo complete >"$work/c/data/m1/recovering/complete"
mapfile -t command <"$work/c/command/m1"
"${command[@]}" >"$work/alone.log" 2>&1 &
server=$!
wait_healthy "$first"
[[ ! -e $work/c/data/m1/recovering ]] || fail "recovering/ was left behind"
for i in $(seq 40); do
    [[ $("$nabata" get "key$i" --print-value-only --endpoints "$first") == "value$i" ]] || fail "key$i is lost"
done
"$nabata" put after recovery --endpoints "$first" >/dev/null || fail "no write after the recovery"
[[ $("$nabata" member list --endpoints "$first" | wc -l) == 1 ]] || fail "more than one member"

# Old members come back: they are told, and end with 5.
for m in m2 m3; do
    mapfile -t command <"$work/c/command/$m"
    timeout 60 "${command[@]}" >"$work/$m.log" 2>&1
    [[ $? == 5 ]] || fail "$m did not end with 5: $(tail -3 "$work/$m.log")"
done
"$nabata" put still alone --endpoints "$first" >/dev/null || fail "disturbed by old members"
kill "$server"
wait "$server" || fail "the survivor did not end well"
server=

# By an order to a running server that has no quorum.
rm -rf "$work/c/data/m1"
cp -r "$work/copy" "$work/c/data/m1"
mapfile -t command <"$work/c/command/m1"
"${command[@]}" >"$work/alone.log" 2>&1 &
server=$!
for _ in $(seq 600); do
    if grep -q "server.starting\|starting" "$work/alone.log"; then
        break
    fi
    sleep 0.05
done
"$nabata" recover --data-dir "$work/c/data/m1" --cluster "$name" --command-timeout 1s >"$work/out" 2>&1 ||
    fail "$(cat "$work/out")"
expect "goes on alone at its next start" "$work/out"
kill -9 "$server"
wait "$server" 2>/dev/null
"${command[@]}" >"$work/alone.log" 2>&1 &
server=$!
wait_healthy "$first"
[[ $("$nabata" get key40 --print-value-only --endpoints "$first") == value40 ]] || fail "key40 is lost"
expect "recover" "$work/alone.log"
echo "1 test passed: the survivor went on with 40 of 40 keys, twice; old members were sent away"
