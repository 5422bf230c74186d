#!/bin/bash
# Builds the images of server and client.
#
#   deploy/image/build.sh [--engine docker|podman] [--registry HOST:PORT] [--tag TAG] [--platform OS/ARCH]
#                         [--binary FILE] [--base IMAGE] [--push] [--dry-run]
#
#   --engine     what builds (default: ENGINE, else docker or podman, whichever answers)
#   --registry   where the names point (default: localhost:5001)
#   --tag        (default: latest)
#   --platform   e.g. linux/amd64 (default: the engine's own)
#   --binary     the static release binary (default: NABATA_BINARY, else build/release/nabata, made by `make build`)
#   --base       what the client image stands on (default: alpine:3.22)
#   --push       and pushes them
#   --dry-run    says what it would run
#
# Makes REGISTRY/nabata:TAG and REGISTRY/nabata-client:TAG.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/../lib.sh"

engine=${ENGINE:-} registry=localhost:5001 tag=latest platform='' binary=${NABATA_BINARY:-$here/../../build/release/nabata}
base=alpine:3.22 push=no
while (($# > 0)); do
    case $1 in
    --engine) engine=$(value "$@"); shift 2 ;;
    --registry) registry=$(value "$@"); shift 2 ;;
    --tag) tag=$(value "$@"); shift 2 ;;
    --platform) platform=$(value "$@"); shift 2 ;;
    --binary) binary=$(value "$@"); shift 2 ;;
    --base) base=$(value "$@"); shift 2 ;;
    --push) push=yes; shift ;;
    --dry-run) DRY_RUN=yes; shift ;;
    -h | --help) usage "$0" ;;
    *) die "unknown argument $1; see --help" ;;
    esac
done

[[ -x $binary ]] || die "there is no binary $binary: run \`make build\` first"
engine=$(find_engine "$engine")
version=$("$binary" version 2>/dev/null | head -1 | grep -o '[0-9][0-9.]*' | head -1 || echo unknown)
revision=$(git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown)

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/nabata"
chmod 0755 "$context/nabata"

build() { # NAME DOCKERFILE [ARGUMENT...]
    local name=$registry/$1:$tag file=$2
    shift 2
    run "$engine" build ${platform:+--platform "$platform"} --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision" "$@" -t "$name" -f "$here/$file" "$context"
    if [[ $push == yes ]]; then
        push_image "$engine" "$name"
    fi
}

build nabata server.Dockerfile
build nabata-client client.Dockerfile --build-arg "BASE=$base"
say "built $registry/nabata:$tag and $registry/nabata-client:$tag"
