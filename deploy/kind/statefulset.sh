#!/bin/bash
# Removes any earlier server pods and launches the three servers.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/statefulset.sh [options]

Removes any earlier server pods (their volumes stay) and launches ss-0, ss-1 and ss-2; returns when all three are ready.

END
}

options "$@"
need_tools kubectl
remove_servers
k apply --kustomize "$overlay" --selector "$servers"
k rollout status statefulset/ss --timeout 300s || die "the servers are not ready; look at:
  kubectl --context kind-$name describe pod --selector $servers
  kubectl --context kind-$name logs ss-0"
