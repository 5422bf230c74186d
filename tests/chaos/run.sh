#!/bin/bash
# run.sh BINARY: kill -9 at random moments on every member of three in turn, under load; see main.go, where
# CHAOS_SEED and CHAOS_ROUNDS are explained. Exits 77 where there is no Go or its modules cannot be had.
set -u

binary=${1:?usage: run.sh BINARY}
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/../support/cluster.sh
PATH=$PATH:/usr/local/go/bin

work=$(mktemp -d)
finish() {
    status=$?
    if [[ -f $work/pids ]]; then
        "$cluster" stop --dir "$work" || status=1
    fi
    if ((status != 0 && status != 77)); then
        tail -n 5 "$work"/log/* 2>/dev/null
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

if ! command -v go >/dev/null; then
    echo "skipped: there is no Go here"
    exit 77
fi
if ! log=$(cd "$here" && go mod download 2>&1); then
    echo "skipped: the Go modules are not available: $(head -1 <<<"$log")"
    exit 77
fi
(cd "$here" && nice go test -p 2 . && nice go build -p 2 -o "$work/chaos" .) || exit 1
"$cluster" start --dir "$work" --binary "$binary" --members 3 --owner $$ || exit 1
CHAOS_DIR=$work CHAOS_SCRIPT=$cluster "$work/chaos"
