#!/usr/bin/env bash
# Three members on this machine: kill the leader, go on with two, bring it back, compare all three.
#
#     tools/demo.sh PATH-OF-NABATA
#
# Everything is in a folder of its own, which goes at the end (it stays when something was wrong).
set -uo pipefail

nabata=$(realpath "${1:?usage: tools/demo.sh PATH-OF-NABATA}")
folder=$(mktemp -d "${TMPDIR:-/tmp}/nabata-demo.XXXXXX")
names=(n1 n2 n3)
client_ports=()
peer_ports=()
pids=("" "" "")
step=0
wait_seconds=20

bold='' green='' red='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
fi

heading() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step" "$1" "$plain"
}

say() {
    printf '   %s\n' "$1"
}

# Shows a command as one would type it.
show() {
    printf '   %s$ nabata %s%s\n' "$dim" "$*" "$plain"
}

stop_all() {
    local pid
    for pid in "${pids[@]}"; do
        if [ -n "$pid" ]; then
            kill -9 "$pid" 2>/dev/null
            wait "$pid" 2>/dev/null
        fi
    done
}

on_exit() {
    local code=$?
    stop_all
    if [ "$code" -eq 0 ]; then
        rm -rf "$folder"
    fi
    exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    printf '\n%swrong:%s %s\n' "$red" "$plain" "$1" >&2
    local log
    for log in "$folder"/*.log; do
        if [ -f "$log" ]; then
            printf -- '-- the end of %s\n' "$log" >&2
            tail -n 8 "$log" >&2
        fi
    done
    echo "everything is left in $folder" >&2
    exit 1
}

# Ports below those that the kernel gives to outgoing connections, so none is taken while we start.
pick_ports() {
    local port=$((20000 + RANDOM % 9000)) picked=()
    while [ "${#picked[@]}" -lt 6 ]; do
        port=$((port + 1))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            picked+=("$port")
        fi
    done
    client_ports=("${picked[@]:0:3}")
    peer_ports=("${picked[@]:3:3}")
}

start() {
    local i=$1 cluster=''
    local k
    for k in 0 1 2; do
        cluster+="${cluster:+,}${names[k]}=http://127.0.0.1:${peer_ports[k]}"
    done
    "$nabata" server --name "${names[i]}" --data-dir "$folder/${names[i]}" \
        --listen-client-urls "http://127.0.0.1:${client_ports[i]}" \
        --advertise-client-urls "http://127.0.0.1:${client_ports[i]}" \
        --listen-peer-urls "http://127.0.0.1:${peer_ports[i]}" \
        --initial-advertise-peer-urls "http://127.0.0.1:${peer_ports[i]}" \
        --initial-cluster "$cluster" --initial-cluster-token "$folder" \
        >>"$folder/${names[i]}.log" 2>&1 </dev/null &
    pids[i]=$!
}

endpoint() {
    echo "127.0.0.1:${client_ports[$1]}"
}

# The endpoints of all three, or but the one given: with `separator` between.
endpoints() {
    local separator=$1 without=${2:-} list='' k
    for k in 0 1 2; do
        if [ "$k" != "$without" ]; then
            list+="${list:+$separator}$(endpoint "$k")"
        fi
    done
    echo "$list"
}

# until_ok WHAT COMMAND...: repeats it until it succeeds, at most wait_seconds.
until_ok() {
    local what=$1 end=$((SECONDS + wait_seconds)) k
    shift
    until "$@" >"$folder/last.out" 2>&1; do
        for k in 0 1 2; do
            if [ -n "${pids[k]}" ] && ! kill -0 "${pids[k]}" 2>/dev/null; then
                give_up "${names[k]} ended by itself"
            fi
        done
        if [ "$SECONDS" -ge "$end" ]; then
            cat "$folder/last.out" >&2
            give_up "$what: not within $wait_seconds s"
        fi
        sleep 0.1
    done
}

healthy() {
    "$nabata" --endpoints "$1" endpoint health
}

# Prints the place (0, 1, 2) of the leader among those that run; fails while there is none.
leader() {
    local k status member leading
    for k in 0 1 2; do
        if [ -z "${pids[k]}" ]; then
            continue
        fi
        status=$("$nabata" --endpoints "$(endpoint "$k")" endpoint status -w json 2>/dev/null) || continue
        member=$(sed -n 's/.*"member_id":\([0-9]*\).*/\1/p' <<<"$status")
        leading=$(sed -n 's/.*"leader":\([0-9]*\).*/\1/p' <<<"$status")
        if [ -n "$member" ] && [ "$member" = "$leading" ]; then
            echo "$k"
            return 0
        fi
    done
    return 1
}

# Runs `nabata check` and shows what it says.
check() {
    local list
    list=$(endpoints ' ')
    # shellcheck disable=SC2086
    show check $list
    # shellcheck disable=SC2086
    if ! "$nabata" check $list >"$folder/check.out" 2>&1; then
        cat "$folder/check.out" >&2
        give_up "nabata check is not content"
    fi
    sed 's/^/   /' "$folder/check.out"
}

# Same, quietly: for waiting.
check_is_content() {
    # shellcheck disable=SC2046
    "$nabata" check $(endpoints ' ')
}

put() {
    show put "$1" "\"$2\""
    if ! "$nabata" --endpoints "$3" put "$1" "$2" >"$folder/last.out" 2>&1; then
        cat "$folder/last.out" >&2
        give_up "the write was refused"
    fi
}

# What one member alone has under a key, without asking the others.
local_value() {
    "$nabata" --endpoints "$1" get --consistency=s --print-value-only "$2" 2>/dev/null
}

holds() {
    [ "$(local_value "$1" "$2")" = "$3" ]
}

# Waits for a leader, and prints its place.
first_leader() {
    until_ok "a leader" leader
    leader || give_up "the leader went away at once"
}

heading "Three members form a group"
pick_ports
for i in 0 1 2; do
    start "$i"
    say "${names[i]}: clients at 127.0.0.1:${client_ports[i]}, members at 127.0.0.1:${peer_ports[i]} (pid ${pids[i]})"
done
for i in 0 1 2; do
    until_ok "${names[i]} to become healthy" healthy "$(endpoint "$i")"
done
old=$(first_leader) || exit 1
say "${green}ready${plain}: ${names[old]} leads"

heading "A write through one member can be read from every other"
put greeting "hello from three" "$(endpoint 0)"
for i in 0 1 2; do
    until_ok "${names[i]} to hold the write" holds "$(endpoint "$i")" greeting "hello from three"
    say "${names[i]} holds: $(local_value "$(endpoint "$i")" greeting)"
done
check

heading "The leader, ${names[old]}, is killed: kill -9 ${pids[old]}"
kill -9 "${pids[old]}"
wait "${pids[old]}" 2>/dev/null
pids[old]=''
from=$(date +%s%N)
new=$(first_leader) || exit 1
say "${green}${names[new]} leads now${plain}, $((($(date +%s%N) - from) / 1000000)) ms later"
if [ "$new" = "$old" ]; then
    give_up "the dead one cannot lead"
fi
until_ok "the two that are left to be healthy" healthy "$(endpoints , "$old")"

heading "Two of three are a majority: the group goes on"
put while-away "written by two" "$(endpoints , "$old")"
until_ok "the two that are left to agree" check_is_content
check

heading "${names[old]} comes back and catches up"
start "$old"
until_ok "${names[old]} to become healthy" healthy "$(endpoint "$old")"
until_ok "${names[old]} to catch up" holds "$(endpoint "$old")" while-away "written by two"
say "${names[old]} holds what it missed: $(local_value "$(endpoint "$old")" while-away)"
until_ok "the three to agree" check_is_content
check

printf '\n%sAll three hold the same log and the same data.%s\n' "$green$bold" "$plain"
