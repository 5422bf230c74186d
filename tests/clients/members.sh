#!/bin/bash
# members.sh BINARY: members come, are promoted, changed and removed, on real processes, told by etcdctl 3.4 where there
# is one and by BINARY in its place; everything that is printed is compared, with ids and ports masked.
set -u

binary=$(realpath "${1:?usage: members.sh BINARY}")
export LC_ALL=C ETCDCTL_API=3
unset ETCDCTL_ENDPOINTS
work=$(mktemp -d)
pids=()
finish() {
    status=$?
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null
    done
    ((status == 0)) || tail -n 20 "$work"/*.log 2>/dev/null
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

fail() {
    echo "members.sh: $*" >&2
    exit 1
}

declare -A port pid
draw_ports() {
    local name base=$((11000 + RANDOM % 20000))
    for name in a b c d; do
        port[$name]=$base # clients; peers are one above
        base=$((base + 2))
    done
}
client() { echo "http://127.0.0.1:${port[$1]}"; }
peer() { echo "http://127.0.0.1:$((port[$1] + 1))"; }

launch() { # NAME STATE MEMBER... (of --initial-cluster)
    local name=$1 state=$2 list=""
    shift 2
    for m in "$@"; do
        list+=${list:+,}$m=$(peer "$m")
    done
    "$binary" server --name "$name" --data-dir "$work/$name" --listen-client-urls "$(client "$name")" \
        --advertise-client-urls "$(client "$name")" --listen-peer-urls "$(peer "$name")" \
        --initial-advertise-peer-urls "$(peer "$name")" --initial-cluster "$list" \
        --initial-cluster-state "$state" --strict-reconfig-check="${strict:-false}" >>"$work/$name.log" 2>&1 &
    pid[$name]=$!
    pids+=($!)
}

ctl() { # MEMBER COMMAND...
    local at=$1
    shift
    "${tool[@]}" --endpoints "$(client "$at")" "$@" 2>&1 | grep -v '^{"level"'
    return "${PIPESTATUS[0]}"
}

mask() {
    local script="" name
    for name in a b c d; do
        script+="s#http://127\\.0\\.0\\.1:${port[$name]}#C-$name#g;s#http://127\\.0\\.0\\.1:$((port[$name] + 1))#P-$name#g;"
    done
    sed -E -e "$script" -e 's/\b[0-9a-f]{13,16}\b/ID/g' -e 's/  +ID/ ID/g'
}

say() { # WANTED MEMBER COMMAND...: what the command prints, and [its exit code] when not 0
    local wanted=$1 got
    shift
    got=$(ctl "$@") || got+="${got:+ }[$?]"
    got=$(mask <<<"$got" | paste -sd'|')
    [[ $got == "$wanted" ]] || fail "${tool[*]} $*: wanted: $wanted"$'\n'"got: $got"
}

until_ok() { # MEMBER COMMAND...
    local end=$((SECONDS + 20))
    until ctl "$@" >"$work/out"; do
        ((SECONDS < end)) || fail "never succeeded: $*: $(cat "$work/out")"
    done
}

ends_with() { # CODE NAME
    local code=0
    wait "${pid[$2]}" || code=$?
    ((code == $1)) || fail "member $2 ended with $code instead of $1"
}

id_of() { # MEMBER PEER
    ctl "$1" member list | awk -F', ' -v peer="$(peer "$2")" '$4 == peer { print $1 }'
}

scene() {
    local id
    draw_ports
    rm -rf "${work:?}"/*
    launch a new a
    until_ok a put x 1
    # a learner
    [[ ${tool[0]} == etcdctl ]] || # which looks for itself
        say "Error: etcdserver: given member URLs are invalid [1]" a member add b --peer-urls=http://127.0.0.1:1/path
    say "Error: etcdserver: Peer URLs already exists [1]" a member add b --peer-urls="$(peer a)"
    say "Error: etcdserver: member not found [1]" a member remove 1234
    say "Error: etcdserver: member not found [1]" a member promote 1234
    say "Error: etcdserver: member not found [1]" a member update 1234 --peer-urls="$(peer d)"
    say "Error: etcdserver: re-configuration failed due to not enough started members [1]" \
        a member remove "$(id_of a a)"
    launch b existing a b # not added yet
    ends_with 1 b
    grep -q 'member count is unequal' "$work/b.log" || fail "b does not say why it cannot join"
    ctl a member add b --peer-urls="$(peer b)" --learner >"$work/out" || fail "cannot add b"
    # etcdctl lists by id, so either may come first
    local added
    added=$(mask <"$work/out" | sed 's/"b=P-b,a=P-a"/"a=P-a,b=P-b"/' | paste -sd'|')
    [[ $added == 'Member ID added to cluster ID||ETCD_NAME="b"|ETCD_INITIAL_CLUSTER="a=P-a,b=P-b"|ETCD_INITIAL_ADVERTISE_PEER_URLS="P-b"|ETCD_INITIAL_CLUSTER_STATE="existing"' ]] ||
        fail "member add printed: $added"
    id=$(id_of a b)
    say "Error: etcdserver: can only promote a learner member which is in sync with leader [1]" a member promote "$id"
    say "Error: etcdserver: too many learner members in cluster [1]" a member add c --peer-urls="$(peer c)" --learner
    launch b existing a b
    until_ok a member promote "$id"
    [[ $(mask <"$work/out") == "Member ID promoted in cluster ID" ]] || fail "promote printed: $(cat "$work/out")"
    say "Error: etcdserver: can only promote a learner member [1]" b member promote "$id"
    until_ok b put y 2
    say "x|1" b get x
    ctl b member list | grep -q ", started, b, $(peer b), $(client b), false" || fail "b is not started"
    # any member takes a change; URLs and nothing else
    say "Member ID updated in cluster ID" b member update "$id" --peer-urls="http://localhost:$((port[b] + 1))"
    until_ok b put z 3
    say "Member ID updated in cluster ID" b member update "$id" --peer-urls="$(peer b)"
    # removed, once and for all
    say "Member ID removed from cluster ID" b member remove "$id"
    ends_with 5 b
    launch b existing a b
    ends_with 5 b
    say "z|3" a get z
    say "Error: etcdserver: member not found [1]" a member remove "$id"
    # a voter at once; then the leader removes itself, asked by the other one
    ctl a member add c --peer-urls="$(peer c)" >/dev/null || fail "cannot add c"
    launch c existing a c
    until_ok c put w 4
    say "Member ID removed from cluster ID" c member remove "$(id_of c a)"
    ends_with 5 a
    until_ok c put v 5
    say "x|1" c get x
    # an empty folder does not become the member that it was
    kill -9 "${pid[c]}"
    wait "${pid[c]}" 2>/dev/null
    launch c existing c
    until_ok c put u 6
    # strict: a member that is connected for less than five seconds does not count
    strict=true
    kill -9 "${pid[c]}"
    wait "${pid[c]}" 2>/dev/null
    launch c existing c
    strict=false
    until_ok c member add d --peer-urls="$(peer d)" # one that is alone may grow to two
    launch d existing c d
    until_ok d put t 7
    say "Error: etcdserver: unhealthy cluster [1]" d member add b --peer-urls="$(peer b)"
    kill "${pid[d]}"
    ends_with 0 d
    rm -rf "$work/d" # the disk is lost, and with it the right to this identity
    launch d existing c d
    ends_with 1 d
    grep -q 'has already been bootstrapped' "$work/d.log" || fail "d does not say that it was lost"
    kill "${pid[c]}"
    ends_with 0 c
}

tools=("$binary")
if etcdctl version 2>/dev/null | grep -q '^etcdctl version: 3\.4\.'; then
    tools+=(etcdctl)
fi
for name in "${tools[@]}"; do
    tool=("$name")
    scene
done
echo "members: ${#tools[@]} clients, all as it should be"
