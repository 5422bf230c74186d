#!/bin/bash
# From nothing to a running store, in one go: the cluster with its registry, the images, the three servers, the
# client pod, and the check from inside it. Run it again after a change: it builds, pushes and launches anew.
#
#   deploy/kind/up.sh [--name CLUSTER] [--engine docker|podman] [--keep-data] [--dry-run]
#
#   --name       of the kind cluster (default: nabata)
#   --engine     (default: ENGINE, else docker or podman, whichever answers)
#   --keep-data  the servers keep the volumes that they had (default: an empty store)
#   --load       carries the images into the nodes with `kind load` instead of the registry (an air gap); done by
#                itself when there is no registry
#   --dry-run    says what it would run
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"
# shellcheck source=deploy/kind/registry.sh
. "$here/registry.sh"

name=nabata engine=${ENGINE:-} fresh=--fresh load=no
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --engine) engine=$(value "$@"); shift 2 ;;
    --keep-data) fresh=''; shift ;;
    --load) load=yes; shift ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kind kubectl make
engine=$(find_engine "$engine")
use_engine "$engine"
dry=''
if [[ $DRY_RUN == yes ]]; then
    dry=--dry-run
fi

"$here/kind-with-registry.sh" --name "$name" --engine "$engine" ${dry:+"$dry"}
if ! registry_runs "$engine"; then
    load=yes
fi

# The image must be for the nodes' machine, which need not be this one.
platform=$(kubectl --context "$(context_of "$name")" get nodes \
    -o 'jsonpath={.items[0].status.nodeInfo.operatingSystem}/{.items[0].status.nodeInfo.architecture}' 2>/dev/null || true)
case $platform in
"" | "linux/$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')") ;;
*) die "the nodes are $platform, this machine builds for linux/$(uname -m): build the binary there" ;;
esac

run make -C "$root" --no-print-directory build
build=("$here/../image/build.sh" --engine "$engine" ${platform:+--platform "$platform"} ${dry:+"$dry"})
if [[ $load == no ]]; then
    build+=(--push)
fi
"${build[@]}"
if [[ $load == yes ]]; then
    say "carrying the images into the nodes"
    for image in nabata nabata-client; do
        if [[ $engine == podman ]]; then # kind loads podman's images from an archive
            archive=$(mktemp)
            run podman save -o "$archive" "localhost:$REGISTRY_PORT/$image:latest"
            run kind load image-archive "$archive" --name "$name"
            rm -f "$archive"
        else
            run kind load docker-image "localhost:$REGISTRY_PORT/$image:latest" --name "$name"
        fi
    done
fi

"$here/statefulset.sh" --name "$name" ${fresh:+"$fresh"} ${dry:+"$dry"}
"$here/pods.sh" --name "$name" ${dry:+"$dry"}

say "the check, from inside c1"
run kubectl --context "$(context_of "$name")" --namespace default exec c1 -- nabata check \
    ss-0.ss-service.default.svc.cluster.local:6000 \
    ss-1.ss-service.default.svc.cluster.local:6000 \
    ss-2.ss-service.default.svc.cluster.local:6000
say "done. Enter the client: kubectl --context $(context_of "$name") exec -it c1 -- sh"
