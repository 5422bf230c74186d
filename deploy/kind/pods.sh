#!/bin/bash
# Launches the client pod c1, after removing an earlier one. Enter it with:  kubectl exec -it c1 -- sh
#
#   deploy/kind/pods.sh [--name CLUSTER] [--timeout SECONDS] [--dry-run]
#
#   --name      of the kind cluster (default: nabata)
#   --timeout   to wait for the pod (default: 120)
#   --dry-run   says what it would run
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"

name=nabata timeout=120
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --timeout) timeout=$(value "$@"); shift 2 ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kubectl
k=(kubectl --context "$(context_of "$name")" --namespace default)

run "${k[@]}" delete pod c1 --ignore-not-found --wait=true
run "${k[@]}" apply -f "$here/../kubernetes/overlays/kind/c1.yaml"
run "${k[@]}" wait --for=condition=Ready pod/c1 --timeout="${timeout}s"
say "the client pod runs: kubectl --context $(context_of "$name") exec -it c1 -- sh"
