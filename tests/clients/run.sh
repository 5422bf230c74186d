#!/bin/bash
# run.sh BINARY [etcdctl|go]: etcdctl and etcd's Go client against three fresh members of BINARY (a nabata, or an etcd
# to prove the tests); both, or the one named. Exits 77 when what was asked for is not here.
set -u

binary=${1:?usage: run.sh BINARY [etcdctl|go]}
parts=${2:-etcdctl go}
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/../support/cluster.sh
PATH=$PATH:/usr/local/go/bin

work=$(mktemp -d)
finish() {
    status=$?
    if [[ -f $work/pids ]]; then
        "$cluster" stop --dir "$work" || status=1
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

run_go() {
    if ! command -v go >/dev/null; then
        echo "skipped: there is no Go here"
        return 77
    fi
    local log
    if ! log=$(cd "$here/go" && go mod download 2>&1); then
        echo "skipped: the Go modules are not available: $(head -1 <<<"$log")"
        return 77
    fi
    (cd "$here/go" && NABATA_ENDPOINTS=$(cat "$work/endpoints") nice go test -p 2 -count=1 -timeout 10m ./...)
}

"$cluster" start --dir "$work" --binary "$binary" --members 3 --owner $$ || exit 1
failed=0 ran=0
for part in $parts; do # etcdctl first: its revisions are those of a fresh cluster
    case $part in
    etcdctl) "$here/etcdctl.sh" "$(cat "$work/endpoints")" ;;
    go) run_go ;;
    *) echo "etcdctl or go" && exit 2 ;;
    esac
    status=$?
    ((status == 77)) || ran=$((ran + 1))
    ((status == 0 || status == 77)) || failed=$((failed + 1))
done
((failed == 0)) || exit 1
((ran > 0)) || exit 77
