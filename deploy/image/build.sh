#!/bin/bash
# Builds the two images from a release binary. `make image` builds the binary first and calls this.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<END
usage: deploy/image/build.sh [--dry-run]

Builds \$REGISTRY/nabata:latest (from scratch: the binary alone) and \$REGISTRY/nabata-client:latest (a shell, with
nabata and etcdctl) with docker or podman, whichever answers.

Environment:
  ENGINE     docker or podman (default: the one that answers)
  REGISTRY   where the images belong (default localhost:5001)
  TAG        default latest
  ARCH       amd64 or arm64 (default: the binary's own)
  BINARY     the static binary (default build/release/nabata)
  BASE       base of the client image (default alpine:3.22)
  ONLY       server or client: that image alone
END
}

# shellcheck source=deploy/engine.sh
source "$here/../engine.sh"
for word in "$@"; do
    case $word in
    -h | --help) usage && exit 0 ;;
    --dry-run) dry_run=true ;;
    *) usage >&2 && exit 2 ;;
    esac
done

root=$here/../..
registry=${REGISTRY:-localhost:5001}
tag=${TAG:-latest}
binary=${BINARY:-$root/build/release/nabata}

# The architecture in an ELF file's header, as images call it.
arch_of() {
    case $(od -An -tx1 -j18 -N2 "$1" | tr -d ' ') in
    3e00) say amd64 ;;
    b700) say arm64 ;;
    *) say unknown ;;
    esac
}

need_tools engine
[[ -f $binary ]] || die "there is no $binary; 'make image' builds it"
binary_arch=$(arch_of "$binary")
arch=${ARCH:-$binary_arch}
if [[ $arch != "$binary_arch" ]]; then
    die "the node is $arch, but $binary is for $binary_arch; build nabata on a machine of that kind" \
        "and say BINARY=PATH"
fi
engine_choose

version=$(sed -n 's/^project(nabata VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
if described=$(git -C "$root" describe --tags --match 'v[0-9]*' --dirty 2>/dev/null); then
    version=${described#v}
fi
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || say unknown)
created=$(git -C "$root" log -1 --format=%cI 2>/dev/null || say unknown) # the commit's time: a build again is the same

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

# build NAME DOCKERFILE CONTEXT [ARGUMENT...]
build() {
    local name=$1 file=$2 from=$3
    shift 3
    run "$engine" build --platform "linux/$arch" --file "$file" --tag "$registry/$name:$tag" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created" "$@" "$from"
}

mkdir -p "$context/server" "$context/client/bin"
install -m 0755 "$binary" "$context/server/nabata"
install -m 0755 "$binary" "$context/client/bin/nabata"
ln -s nabata "$context/client/bin/etcdctl"
if [[ ${ONLY:-server} == server ]]; then
    build nabata "$here/server.Dockerfile" "$context/server"
fi
if [[ ${ONLY:-client} == client ]]; then
    build nabata-client "$here/client.Dockerfile" "$context/client" \
        --build-arg "BASE=${BASE:-$(official alpine:3.22)}"
fi
