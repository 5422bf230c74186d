# shellcheck shell=bash
# The local registry of the kind scripts. Sourced after lib.sh.

readonly REGISTRY_NAME=${REGISTRY_NAME:-kind-registry}
readonly REGISTRY_PORT=${REGISTRY_PORT:-5001}
readonly REGISTRY_IMAGE=${REGISTRY_IMAGE:-registry:3}
readonly KIND_NETWORK=kind

registry_state() { # ENGINE -> "true", "false", "" (there is none)
    "$1" inspect -f '{{.State.Running}}' "$REGISTRY_NAME" 2>/dev/null || true
}

registry_runs() { # ENGINE
    if [[ $DRY_RUN == yes ]]; then
        return 0
    fi
    [[ $(registry_state "$1") == true ]]
}

# Its image, from here or from the network. False behind an air gap.
have_registry_image() { # ENGINE
    "$1" image inspect "$REGISTRY_IMAGE" >/dev/null 2>&1 || run "$1" pull "$REGISTRY_IMAGE"
}

start_registry() { # ENGINE ROOTLESS
    local network=bridge
    case $(registry_state "$1") in
    true)
        say "registry $REGISTRY_NAME runs already"
        return 0
        ;;
    false)
        say "starting registry $REGISTRY_NAME again"
        run "$1" start "$REGISTRY_NAME" >/dev/null
        return 0
        ;;
    esac
    have_registry_image "$1" || return 1
    if [[ $2 == yes ]]; then
        network=$KIND_NETWORK
        "$1" network inspect "$network" >/dev/null 2>&1 || run "$1" network create "$network" >/dev/null
    fi
    say "starting registry $REGISTRY_NAME at localhost:$REGISTRY_PORT"
    run "$1" run -d --restart=always -p "127.0.0.1:$REGISTRY_PORT:5000" --network "$network" \
        --name "$REGISTRY_NAME" "$REGISTRY_IMAGE" >/dev/null
}

# On each node, localhost:5001 means the registry's container. A node made later needs it as well: so it is written at
# every run.
tell_nodes() { # ENGINE CLUSTER
    local node folder=/etc/containerd/certs.d/localhost:$REGISTRY_PORT
    for node in $(kind get nodes --name "$2"); do
        run "$1" exec "$node" mkdir -p "$folder"
        run_with_input "[host.\"http://$REGISTRY_NAME:5000\"]" "$1" exec -i "$node" cp /dev/stdin "$folder/hosts.toml"
    done
}

join_network() { # ENGINE
    local networks
    # shellcheck disable=SC2016 # the engine's template, not the shell's
    networks=$("$1" inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$REGISTRY_NAME" \
        2>/dev/null || true)
    if [[ " $networks " != *" $KIND_NETWORK "* ]]; then
        run "$1" network connect "$KIND_NETWORK" "$REGISTRY_NAME"
    fi
}

# Tools look here for the registry's address: https://kind.sigs.k8s.io/docs/user/local-registry/
apply_config_map() { # CLUSTER
    run_with_input "apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: \"localhost:$REGISTRY_PORT\"
    help: \"https://kind.sigs.k8s.io/docs/user/local-registry/\"" \
        kubectl --context "$(context_of "$1")" apply -f -
}
