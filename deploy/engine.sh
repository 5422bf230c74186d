# shellcheck shell=bash
# engine.sh: sourced by the scripts of deploy/image and deploy/kind. Words, dry runs, and the container engine.
#
#   engine     "docker" or "podman", once engine_choose has run
#   dry_run    true: commands that change something are shown and not run; those that only look are run

dry_run=${dry_run:-false}
engine=

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# shown COMMAND...: the command as a person would type it.
shown() {
    local word line=
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
            line+=" $word"
        else
            line+=" '$word'"
        fi
    done
    printf '+%s\n' "$line"
}

# run COMMAND...: shows it, and runs it unless this is a dry run.
run() {
    shown "$@"
    $dry_run || "$@"
}

# run_with TEXT COMMAND...: the same, with TEXT on standard input.
run_with() {
    local text=$1
    shift
    shown "$@"
    if $dry_run; then
        printf '    %s\n' "${text//$'\n'/$'\n'    }"
    else
        "$@" <<<"$text"
    fi
}

# how_to_get TOOL: one line for a person who has not got it.
how_to_get() {
    case $1 in
    kind) say "kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation" ;;
    kubectl) say "kubectl: https://kubernetes.io/docs/tasks/tools/" ;;
    engine) say "docker (apt-get install docker.io) or podman (apt-get install podman)" ;;
    *) say "$1: apt-get install $1" ;;
    esac
}

# need_tools TOOL...: names all that are missing, at once, and stops before anything is changed (a dry run goes on).
need_tools() {
    local tool lines=
    case ${ENGINE:-} in
    '' | docker | podman) ;;
    *) die "ENGINE is docker or podman, not '$ENGINE'" ;;
    esac
    for tool in "$@"; do
        if [[ $tool == engine ]]; then
            if [[ -n ${ENGINE:-} ]]; then
                command -v "$ENGINE" >/dev/null && continue
            elif command -v docker >/dev/null || command -v podman >/dev/null; then
                continue
            fi
        elif command -v "$tool" >/dev/null; then
            continue
        fi
        lines+="  $(how_to_get "$tool")"$'\n'
    done
    if [[ -n $lines ]]; then
        printf '%s: not installed here:\n%s' "${0##*/}" "$lines" >&2
        $dry_run || exit 1
    fi
}

engine_answers() {
    command -v "$1" >/dev/null && "$1" info >/dev/null 2>&1
}

# Chooses the engine: $ENGINE when given, else docker, else podman, whichever answers.
engine_choose() {
    local each
    for each in ${ENGINE:-docker podman}; do
        if engine_answers "$each"; then
            engine=$each
            break
        fi
    done
    if [[ -z $engine ]]; then
        $dry_run || die "no container engine answers (tried: ${ENGINE:-docker podman}, each with 'info');" \
            "start docker, or install podman, or say which with ENGINE=docker|podman"
        engine=${ENGINE:-docker}
        say "no container engine answers; this shows what would be done with $engine"
    fi
    if [[ $engine == podman ]]; then
        export KIND_EXPERIMENTAL_PROVIDER=podman
    fi
}

# official IMAGE: the full name of one of Docker's official images; podman asks back on short names.
official() {
    if [[ $engine == podman ]]; then
        say "docker.io/library/$1"
    else
        say "$1"
    fi
}

# push IMAGE
push() {
    if [[ $engine == podman ]]; then
        run podman push --tls-verify=false "$1" # the local registry speaks plain HTTP
    else
        run docker push "$1"
    fi
}
