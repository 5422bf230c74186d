#!/bin/bash
# run.sh NABATA: the manifests, rendered and decoded strictly. Exits 77 where there is no Go or no modules.
set -u
binary=$(realpath "${1:?usage: run.sh NABATA}")
cd "$(dirname "$0")" || exit 1
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
    echo "skipped: there is no Go here"
    exit 77
fi
if ! log=$(go mod download 2>&1); then
    echo "skipped: the Go modules are not available: $(head -1 <<<"$log")"
    exit 77
fi
NABATA_BINARY=$binary nice go test -p 2 -count=1 -v ./...
