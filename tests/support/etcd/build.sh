#!/bin/bash
# Builds a real etcd from its Go module: build.sh OUTPUT. Without Go, or when the module is neither
# in the cache nor reachable, falls back to an installed etcd; failing that says so and exits 77.
set -u

output=$(realpath -m "${1:?usage: build.sh OUTPUT}")
cd "$(dirname "$0")" || exit 1
PATH=$PATH:/usr/local/go/bin

reason="there is no Go here"
if command -v go >/dev/null; then
    mkdir -p "$(dirname "$output")"
    if log=$(nice go build -p 2 -trimpath -ldflags=-s -o "$output" . 2>&1); then
        exit 0
    fi
    reason=$(grep -v "^go: downloading" <<<"$log" | head -1)
fi
if installed=$(command -v etcd); then
    echo "etcd from its Go module is not available: $reason; using $installed"
    ln -sf "$installed" "$output"
    exit 0
fi
echo "etcd from its Go module is not available: $reason"
exit 77
