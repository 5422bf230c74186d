#!/bin/bash
# A local registry at localhost:5001 and a kind cluster that pulls from it. Run it again at any time: what is
# there is kept, what is missing or stopped is mended.
#
#   deploy/kind/kind-with-registry.sh [--name CLUSTER] [--engine docker|podman] [--config FILE] [--dry-run]
#
#   --name      of the cluster (default: nabata); given to every call of kind
#   --engine    (default: ENGINE, else docker or podman, whichever answers)
#   --config    a kind configuration to merge the registry's patch into (default: one node)
#   --image     of the nodes (default: kind's own)
#   --dry-run   says what it would run
#
# Without the registry's image and without a network to pull it from (an air gap) it makes the cluster alone and says so:
# up.sh then carries the images in with `kind load`.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"
# shellcheck source=deploy/kind/registry.sh
. "$here/registry.sh"

name=nabata engine=${ENGINE:-} config='' image=''
while (($# > 0)); do
    case $1 in
    --name) name=$(value "$@"); shift 2 ;;
    --engine) engine=$(value "$@"); shift 2 ;;
    --config) config=$(value "$@"); shift 2 ;;
    --image) image=$(value "$@"); shift 2 ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

need kind kubectl
engine=$(find_engine "$engine")
use_engine "$engine"
if [[ -n $config && ! -r $config ]]; then
    die "--config $config cannot be read"
fi

# With rootless podman, containers reach each other only on a network that both were started on.
rootless=no
if [[ $engine == podman && $(podman info --format '{{.Host.Security.Rootless}}' 2>/dev/null) == true ]]; then
    rootless=yes
fi

cluster_config() {
    if [[ -n $config ]]; then
        cat "$config"
    else
        printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n'
    fi
    cat <<'YAML'
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
YAML
}

start_registry "$engine" "$rootless" || say "there is no registry; images will have to be loaded into the nodes"

if cluster_exists "$name"; then
    say "cluster $name is there already"
else
    say "making cluster $name"
    run_with_input "$(cluster_config)" kind create cluster --name "$name" ${image:+--image "$image"} --config=- ||
        die "kind could not make the cluster"
fi

if registry_runs "$engine"; then
    tell_nodes "$engine" "$name"
    join_network "$engine"
    apply_config_map "$name"
fi
say "ready: kubectl --context $(context_of "$name") get nodes"
