#!/bin/bash
# Removes the servers. Their volumes stay, unless told otherwise.
#
#   deploy/kind/delete-servers.sh [--name CLUSTER] [--volumes] [--dry-run]
#
#   --name      of the kind cluster (default: nabata)
#   --volumes   removes the volumes too: all data is gone then
#   --dry-run   says what it would run
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"

name=nabata volumes=no
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --volumes) volumes=yes; shift ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kubectl
k=(kubectl --context "$(context_of "$name")" --namespace default)

say "removing the servers"
run "${k[@]}" delete statefulset ss --ignore-not-found --cascade=foreground --wait=true
run "${k[@]}" wait --for=delete pod -l app.kubernetes.io/name=nabata --timeout=180s
if [[ $volumes == yes ]]; then
    say "removing their volumes"
    run "${k[@]}" delete persistentvolumeclaim -l app.kubernetes.io/name=nabata --ignore-not-found --wait=true
fi
