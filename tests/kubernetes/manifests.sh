#!/bin/bash
# manifests.sh NABATA: renders the overlays and holds them to the rules. Exits 77 without Go or its modules.
set -u
NABATA=$(realpath "${1:?usage: manifests.sh NABATA}")
export NABATA
cd "$(dirname "$0")/go" || exit 1
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
    echo "skipped: there is no Go here"
    exit 77
fi
if ! log=$(go mod download 2>&1); then
    echo "skipped: the Go modules are not available: $(head -1 <<<"$log")"
    exit 77
fi
exec nice go test -p 2 -count=1 -timeout 4m ./...
