#!/bin/bash
# Launches the client pod c1.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/pods.sh [options]

Launches the client pod c1 anew; returns when it is ready. Then: kubectl exec -it c1 -- sh

END
}

options "$@"
need_tools kubectl
k delete pod --selector "$client" --ignore-not-found --wait
k apply --kustomize "$overlay" --selector "$client"
k wait --for condition=Ready pod/c1 --timeout 120s || die "c1 is not ready; look at:
  kubectl --context kind-$name describe pod c1"
