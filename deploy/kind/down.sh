#!/bin/bash
# Removes the kind cluster with all that is in it; the registry only if told so.
#
#   deploy/kind/down.sh [--name CLUSTER] [--registry] [--engine docker|podman] [--dry-run]
#
#   --name      of the kind cluster (default: nabata)
#   --registry  removes the local registry and its images too
#   --engine    (default: ENGINE, else docker or podman, whichever answers)
#   --dry-run   says what it would run
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"
# shellcheck source=deploy/kind/registry.sh
. "$here/registry.sh"

name=nabata registry=no engine=${ENGINE:-}
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --engine) engine=$(value "$@"); shift 2 ;;
    --registry) registry=yes; shift ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kind
engine=$(find_engine "$engine")
use_engine "$engine"
if cluster_exists "$name"; then
    run kind delete cluster --name "$name"
else
    say "there is no cluster $name"
fi
if [[ $registry == yes ]]; then
    if [[ -n $(registry_state "$engine") ]]; then
        run "$engine" rm -f -v "$REGISTRY_NAME"
    else
        say "there is no registry $REGISTRY_NAME"
    fi
fi
