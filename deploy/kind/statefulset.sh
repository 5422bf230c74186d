#!/bin/bash
# Launches the three servers, after removing any earlier ones. Their volumes stay, so they come back with their data.
#
#   deploy/kind/statefulset.sh [--name CLUSTER] [--fresh] [--timeout SECONDS] [--dry-run]
#
#   --name      of the kind cluster (default: nabata)
#   --fresh     removes the volumes too: an empty store
#   --timeout   to wait for the servers to be ready (default: 180)
#   --dry-run   says what it would run
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"

name=nabata timeout=180 fresh=no
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --timeout) timeout=$(value "$@"); shift 2 ;;
    --fresh) fresh=yes; shift ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kubectl
k=(kubectl --context "$(context_of "$name")" --namespace default)

delete=("$here/delete-servers.sh" --name "$name")
if [[ $fresh == yes ]]; then
    delete+=(--volumes)
fi
if [[ $DRY_RUN == yes ]]; then
    delete+=(--dry-run)
fi
"${delete[@]}"

say "launching the servers"
run "${k[@]}" apply -k "$here/../kubernetes/overlays/kind"
run "${k[@]}" rollout status statefulset/ss --timeout="${timeout}s" || {
    "${k[@]}" get pods -l app.kubernetes.io/name=nabata -o wide >&2 || true
    "${k[@]}" logs -l app.kubernetes.io/name=nabata --tail=20 --prefix >&2 || true
    die "the servers did not become ready within $timeout s; what they say is above"
}
say "three servers run: kubectl --context $(context_of "$name") logs ss-0"
