#!/bin/bash
# From nothing to a running group of three: cluster, images, servers, client, check.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/up.sh [options]

Starts the cluster and its registry, builds the images for the node's architecture, pushes them (or, without a registry,
loads them into the nodes), launches the servers and the client pod, and runs the check inside it. May be run again.

  --no-registry  no registry: the images are loaded into the nodes
END
}

option() {
    case $1 in
    --no-registry) no_registry=true ;;
    *) return 1 ;;
    esac
}
options "$@"
need_tools kind kubectl engine make
engine_choose
export ENGINE=$engine

common=(--name "$name")
if $dry_run; then
    common+=(--dry-run)
fi
registry_option=()
if $no_registry; then
    registry_option=(--no-registry)
fi

"$kind_dir/kind-with-registry.sh" "${common[@]}" "${registry_option[@]}"
arch=$(node_arch)
run make --no-print-directory image ENGINE="$engine" ${arch:+ARCH="$arch"}
publish_images
"$kind_dir/statefulset.sh" "${common[@]}"
"$kind_dir/pods.sh" "${common[@]}"
k exec c1 -- nabata check "${nodes[@]}"
k exec c1 -- nabata check # finds the members by the service's DNS records
say "a shell in the client: kubectl --context kind-$name exec -it c1 -- sh"
