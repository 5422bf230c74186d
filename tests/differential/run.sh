#!/bin/bash
# run.sh BINARY: the same random history to three members of BINARY (a nabata, or an etcd to prove the test), all
# killed and restarted twice on the way, and to one real etcd; fails at the first difference. Exits 77 where there is no Go or no etcd.
# DIFF_SEED and DIFF_REQUESTS: see main.go. DIFF_MEMBERS: members of BINARY, 3 when unset.
set -u

binary=${1:?usage: run.sh BINARY}
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/../support/cluster.sh
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nabata-tests
PATH=$PATH:/usr/local/go/bin

work=$(mktemp -d)
finish() {
    status=$?
    for side in a b; do
        if [[ -f $work/$side/pids ]]; then
            "$cluster" stop --dir "$work/$side" || status=1
        fi
    done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

if ! command -v go >/dev/null; then
    echo "skipped: there is no Go here"
    exit 77
fi
"$here/../support/etcd/build.sh" "$cache/etcd" || exit
version=$("$cache/etcd" --version | sed -n 's/^etcd Version: //p')
if [[ $(printf '3.7\n%s\n' "$version" | sort -V | head -1) != 3.7 ]]; then
    echo "skipped: etcd $version is too old to be the measure; 3.7 is needed"
    exit 77
fi
if ! log=$(cd "$here" && go mod download 2>&1); then
    echo "skipped: the Go modules are not available: $(head -1 <<<"$log")"
    exit 77
fi
(cd "$here" && nice go build -p 2 -o "$work/differential" .) || exit 1

"$cluster" start --dir "$work/a" --binary "$binary" --members "${DIFF_MEMBERS:-3}" --owner $$ || exit 1
"$cluster" start --dir "$work/b" --binary "$cache/etcd" --owner $$ || exit 1
mapfile -t members < <(cut -d ' ' -f 1 "$work/a/pids")
export DIFF_RESTART="'$cluster' kill --dir '$work/a' ${members[*]} && '$cluster' restart --dir '$work/a' ${members[*]}"
DIFF_A=$(cat "$work/a/endpoints") DIFF_B=$(cat "$work/b/endpoints") "$work/differential"
