# shellcheck shell=bash
# What the scripts of deploy/ share. Sourced, not run.

DRY_RUN=${DRY_RUN:-no}

say() {
    echo "==> $*"
}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Runs a command that changes something, or only says it.
run() {
    if [[ $DRY_RUN == yes ]]; then
        printf 'would run:'
        printf ' %q' "$@"
        echo
        return 0
    fi
    "$@"
}

# The same, with stdin for it.
run_with_input() { # TEXT COMMAND...
    local input=$1
    shift
    if [[ $DRY_RUN == yes ]]; then
        run "$@"
        printf '    | %s\n' "${input//$'\n'/$'\n    | '}"
        return 0
    fi
    printf '%s\n' "$input" | "$@"
}

# The value of an option: value --name VALUE ...
value() {
    if (($# < 2)) || [[ -z $2 ]]; then
        die "$1 needs a value"
    fi
    echo "$2"
}

# The comment at the head of a script is its help.
usage() { # SCRIPT
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$1"
    exit 0
}

# Names all that is missing and how to get it, before anything is changed.
need() { # TOOL...
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    for tool in "${missing[@]}"; do
        case $tool in
        kind) echo "missing: kind, see https://kind.sigs.k8s.io/docs/user/quick-start/#installation" >&2 ;;
        kubectl) echo "missing: kubectl, see https://kubernetes.io/docs/tasks/tools/" >&2 ;;
        docker) echo "missing: docker (or podman with ENGINE=podman), see https://docs.docker.com/engine/install/" >&2 ;;
        podman) echo "missing: podman, see https://podman.io/docs/installation" >&2 ;;
        *) echo "missing: $tool" >&2 ;;
        esac
    done
    die "install what is missing; nothing was changed"
}

# docker or podman: the one asked for, else the first that answers. One variable decides everywhere: ENGINE.
find_engine() { # ENGINE|""
    local engine
    if [[ -n $1 ]]; then
        case $1 in
        docker | podman) ;;
        *) die "ENGINE is \"$1\"; docker and podman are known" ;;
        esac
        need "$1"
        "$1" info >/dev/null 2>&1 || die "$1 is there, but its engine does not answer: start it (\`$1 info\` says more)"
        echo "$1"
        return 0
    fi
    for engine in docker podman; do
        if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
            echo "$engine"
            return 0
        fi
    done
    for engine in docker podman; do
        if command -v "$engine" >/dev/null; then
            die "$engine is there, but its engine does not answer: start it (\`$engine info\` says more)"
        fi
    done
    need docker
}

# kind takes podman by this variable; every call of kind goes through here with the cluster's name.
use_engine() { # ENGINE
    if [[ $1 == podman ]]; then
        export KIND_EXPERIMENTAL_PROVIDER=podman
    else
        unset KIND_EXPERIMENTAL_PROVIDER
    fi
}

# A registry on localhost speaks plain HTTP: docker knows that of localhost, podman has to be told.
push_image() { # ENGINE IMAGE
    if [[ $1 == podman ]]; then
        run podman push --tls-verify=false "$2"
    else
        run docker push "$2"
    fi
}

cluster_exists() { # NAME
    kind get clusters 2>/dev/null | grep -qx -- "$1"
}

context_of() { # NAME
    echo "kind-$1"
}
