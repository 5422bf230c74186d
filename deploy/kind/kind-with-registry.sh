#!/bin/bash
# A kind cluster that pulls from a registry at localhost:5001. May be run again at any time.
set -euo pipefail
# shellcheck source=deploy/kind/common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: deploy/kind/kind-with-registry.sh [options]

Starts a registry at localhost:$registry_port and a kind cluster that pulls from it. What is there already is kept and put
right. Without the registry's image (no network) it goes on without a registry: up.sh then loads the images into
the nodes.

  --no-registry  no registry, on purpose
END
}

option() {
    case $1 in
    --no-registry) no_registry=true ;;
    *) return 1 ;;
    esac
}
options "$@"

need_tools kind kubectl engine
engine_choose

is_rootless() {
    [[ $engine == podman && $(podman info --format '{{.Host.Security.Rootless}}' 2>/dev/null) == true ]]
}

# Takes the registry's image from here or from the network; false when there is none.
have_registry_image() {
    "$engine" image inspect "$(official registry:3)" >/dev/null 2>&1 || run "$engine" pull "$(official registry:3)"
}

# Makes sure that the registry runs; a stopped one keeps its images.
start_registry() {
    local network=bridge
    case $(registry_state) in
    true) say "registry $registry runs" ;;
    false) run "$engine" start "$registry" ;;
    *)
        if ! have_registry_image; then
            say "the registry's image cannot be had: going on without a registry"
            no_registry=true
            return
        fi
        if is_rootless; then
            network=kind # a rootless container cannot be joined to a network later
        fi
        run "$engine" run --detach --restart always --publish "127.0.0.1:$registry_port:5000" --network "$network" \
            --name "$registry" "$(official registry:3)"
        ;;
    esac
}

# A cluster that is there may have stopped with the machine, and this user's kubectl may not know it.
take_up_cluster() {
    local node started=false tries=0
    say "cluster $name is there"
    for node in $(kind get nodes --name "$name" 2>/dev/null); do
        if [[ $(container_state "$node") == false ]]; then
            run "$engine" start "$node"
            started=true
        fi
    done
    if ! kubectl config get-contexts --output name 2>/dev/null | grep -xF -- "kind-$name" >/dev/null; then
        run kind export kubeconfig --name "$name"
    fi
    $started && ! $dry_run || return 0
    until kubectl --context "kind-$name" get --raw /readyz >/dev/null 2>&1; do
        ((++tries < 60)) || die "the API server of cluster $name does not answer; down.sh and up.sh make a new one"
        sleep 2
    done
}

create_cluster() {
    if cluster_exists; then
        take_up_cluster
        return
    fi
    run_with 'kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"' \
        kind create cluster --name "$name" --config=-
}

# On each node, "localhost:5001" is the registry's container. Written anew each time: nodes may be new.
tell_nodes() {
    local node dir=/etc/containerd/certs.d/localhost:$registry_port nodes_now
    nodes_now=$(kind get nodes --name "$name" 2>/dev/null || true)
    if [[ -z $nodes_now ]] && $dry_run; then
        nodes_now=$name-control-plane
    fi
    for node in $nodes_now; do
        run "$engine" exec "$node" mkdir -p "$dir"
        run_with "[host.\"http://$registry:5000\"]" "$engine" exec --interactive "$node" cp /dev/stdin "$dir/hosts.toml"
    done
}

join_network() {
    local joined
    joined=$("$engine" inspect --type container --format '{{json .NetworkSettings.Networks.kind}}' "$registry" 2>/dev/null ||
        true)
    if [[ -z $joined || $joined == null ]]; then
        run "$engine" network connect kind "$registry"
    fi
}

# Where tools look for a cluster's local registry.
describe_registry() {
    run_with "apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: \"localhost:$registry_port\"
    help: \"https://kind.sigs.k8s.io/docs/user/local-registry/\"" \
        kubectl --context "kind-$name" apply --filename -
}

if ! $no_registry && ! is_rootless; then
    start_registry
fi
create_cluster
if ! $no_registry && is_rootless; then
    start_registry # its network is there only now
fi
if ! $no_registry; then
    tell_nodes
    join_network
    describe_registry
fi
