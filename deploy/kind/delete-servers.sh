#!/bin/bash
# Removes the servers, and with --volumes all that they stored.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/delete-servers.sh [options]

Removes the StatefulSet, its pods and its service. The volumes stay, and statefulset.sh goes on with them.

  --volumes     the volumes too: all data is lost
END
}

volumes=false
option() {
    case $1 in
    --volumes) volumes=true ;;
    *) return 1 ;;
    esac
}
options "$@"
need_tools kubectl
remove_servers
k delete service,serviceaccount --selector "$servers" --ignore-not-found
if $volumes; then
    k delete persistentvolumeclaim --selector "$servers" --ignore-not-found --wait
fi
