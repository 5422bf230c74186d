#!/bin/bash
# storm.sh BINARY: kills, pauses, cut links, snapshots and replaced members under load, every answer judged by Porcupine;
# see storm/main.go, where STORM_SEED, STORM_ROUNDS and STORM_MEMBERS are explained. NABATA_TEST_SCALE (percent) scales the
# number of rounds. Exits 77 where there is no Go, its modules cannot be had, or namespaces are refused.
set -u

binary=$(realpath "${1:?usage: storm.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

skip() {
    echo "skipped: $*"
    exit 77
}

# What the program needs of the kernel, tried once.
readonly PROBE='mount -t tmpfs none /run && ip link set lo up && ip link add b0 type bridge && ip netns add x &&
    ip link add v0 type veth peer name eth0 netns x && ip netns exec x iptables -w -A INPUT -s 10.98.1.1 -j DROP'

[[ $(id -u) == 0 ]] || skip "links between members can only be cut as root"
for tool in ip iptables unshare; do
    command -v "$tool" >/dev/null || skip "there is no $tool here"
done
command -v go >/dev/null || skip "there is no Go here"
separate=(unshare --net --mount --pid --fork --kill-child --mount-proc)
log=$("${separate[@]}" sh -c "$PROBE" 2>&1) || skip "the kernel refuses namespaces, bridges or iptables: $(head -1 <<<"$log")"
log=$(cd "$here" && go mod download 2>&1) || skip "the Go modules are not available: $(head -1 <<<"$log")"

work=$(mktemp -d)
finish() {
    status=$?
    if ((status != 0)); then
        tail -n 5 "$work"/*.log 2>/dev/null
        echo "logs and data are in $work"
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

(cd "$here" && nice go test -p 2 ./storm && nice go build -p 2 -o "$work/storm" ./storm) || exit 1
export STORM_ROUNDS=${STORM_ROUNDS:-$((36 * ${NABATA_TEST_SCALE:-100} / 100 > 12 ? 36 * ${NABATA_TEST_SCALE:-100} / 100 : 12))}
mkdir "$work/members"
STORM_BINARY=$binary STORM_DIR=$work/members "${separate[@]}" sh -c "mount -t tmpfs none /run && exec '$work/storm'"
