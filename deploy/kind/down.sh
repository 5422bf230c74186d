#!/bin/bash
# Removes the kind cluster, and with --registry the registry too.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/down.sh [options]

Removes the kind cluster with all that is in it. The registry stays, with its images: the next start is quicker.

  --registry    the registry too
END
}

remove_registry=false
option() {
    case $1 in
    --registry) remove_registry=true ;;
    *) return 1 ;;
    esac
}
options "$@"
need_tools kind engine
engine_choose
if cluster_exists; then
    run kind delete cluster --name "$name"
else
    say "there is no cluster $name"
fi
if $remove_registry; then
    if [[ -n $(registry_state) ]]; then
        run "$engine" rm --force --volumes "$registry"
    else
        say "there is no registry"
    fi
fi
