# shellcheck shell=bash
# shellcheck disable=SC2034 # much is read only by the scripts that source this
# common.sh: sourced by the scripts of deploy/kind. Options that all have, and the words for kind and kubectl.

kind_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$kind_dir/../.." && pwd)
overlay=deploy/kubernetes/overlays/kind
# shellcheck source=deploy/engine.sh
source "$kind_dir/../engine.sh"

no_registry=false # --no-registry of two scripts
name=${NABATA_KIND_CLUSTER:-nabata}
registry=kind-registry
registry_port=5001
images=("localhost:$registry_port/nabata:latest" "localhost:$registry_port/nabata-client:latest")
servers=app.kubernetes.io/name=nabata,app.kubernetes.io/component=server
client=app.kubernetes.io/name=nabata,app.kubernetes.io/component=client

nodes=(ss-0.ss-service.default.svc.cluster.local:6000
    ss-1.ss-service.default.svc.cluster.local:6000
    ss-2.ss-service.default.svc.cluster.local:6000)

# options ARGUMENT...: takes --help, --dry-run, --name NAME; others go to the script's own option() if it has one.
options() {
    while (($# > 0)); do
        case $1 in
        -h | --help) usage && common_usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        --name)
            (($# > 1)) || die "--name needs a name"
            name=$2
            shift
            ;;
        --name=*) name=${1#--name=} ;;
        *)
            if ! declare -F option >/dev/null || ! option "$1"; then
                printf '%s: unknown option %s\n' "${0##*/}" "$1" >&2
                usage >&2
                exit 2
            fi
            ;;
        esac
        shift
    done
    [[ $name =~ ^[a-z0-9.-]+$ ]] || die "a cluster's name is made of a-z, 0-9, '.' and '-', not '$name'"
    cd "$root" || exit 1
}

common_usage() {
    cat <<END
  --name NAME   the kind cluster (default nabata, or \$NABATA_KIND_CLUSTER)
  --dry-run     show what would be done; change nothing
  --help        this

ENGINE=docker|podman chooses the container engine; without it, the one that answers is taken.
END
}

# kubectl against this cluster, whatever the current context is.
k() {
    run kubectl --context "kind-$name" --namespace default "$@"
}

cluster_exists() {
    kind get clusters 2>/dev/null | grep -xF -- "$name" >/dev/null # -q would end kind with SIGPIPE at times
}

# Prints "true" (runs), "false" (stopped) or nothing (there is none).
container_state() {
    "$engine" inspect --type container --format '{{.State.Running}}' "$1" 2>/dev/null || true
}

registry_state() {
    container_state "$registry"
}

# The architecture of the cluster's first node, as images call it; nothing when it cannot be asked.
node_arch() {
    kubectl --context "kind-$name" get nodes --output 'jsonpath={.items[0].status.nodeInfo.architecture}' 2>/dev/null ||
        true
}

# The images reach the nodes through the registry, or, without one, by hand.
publish_images() {
    local image archive
    if ! $no_registry && { $dry_run || [[ $(registry_state) == true ]]; }; then
        for image in "${images[@]}"; do
            push "$image"
        done
    elif [[ $engine == podman ]]; then # kind cannot read podman's images by name
        archive=$(mktemp -d)
        for image in "${images[@]}"; do
            run podman save --output "$archive/image.tar" "$image"
            run kind load image-archive --name "$name" "$archive/image.tar"
            rm -f "$archive/image.tar"
        done
        rmdir "$archive"
    else
        run kind load docker-image --name "$name" "${images[@]}"
    fi
}

# Any earlier server pods go, and are gone when this returns.
remove_servers() {
    k delete statefulset --selector "$servers" --ignore-not-found --wait
    k delete pod --selector "$servers" --ignore-not-found --wait
}
