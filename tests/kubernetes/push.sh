#!/bin/bash
# push.sh NABATA: Debian's docker-registry at localhost:5001; the images are built, pushed, pulled into an empty store and
# run: with the engine that answers, else with podman and buildah alone (chroot isolation needs no privileges of a
# container). Exits 77 where the tools, root or the port are missing.
set -u
binary=$(realpath "${1:?usage: push.sh NABATA}")
root=$(cd "$(dirname "$0")/../.." && pwd)

skip() {
    echo "skipped: $*"
    exit 77
}

if [[ -x $root/build/release/nabata ]]; then
    binary=$root/build/release/nabata # the debug build is no static binary
fi
if readelf -l "$binary" 2>/dev/null | grep -q INTERP; then
    skip "$binary is not static; make build first"
fi
for tool in docker-registry podman buildah curl; do
    command -v "$tool" >/dev/null || skip "there is no $tool here"
done
[[ $(id -u) == 0 ]] || skip "not root"

work=$(mktemp -d)
registry_pid=
finish() {
    status=$?
    if [[ -n $registry_pid ]]; then
        kill "$registry_pid" 2>/dev/null
        wait "$registry_pid" 2>/dev/null
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# A store of images of our own: nothing of this machine's is touched.
store() { # NAME
    mkdir -p "$work/$1"
    printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/$1/graph" "$work/$1/run" \
        >"$work/$1/storage.conf"
    export CONTAINERS_STORAGE_CONF=$work/$1/storage.conf
}

if curl -s --max-time 1 http://localhost:5001/ >/dev/null; then
    skip "something listens at localhost:5001"
fi
cat >"$work/registry.yml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:5001"}
END
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
for _ in $(seq 100); do
    curl -sf --max-time 1 http://localhost:5001/v2/ >/dev/null && break
    kill -0 "$registry_pid" 2>/dev/null || fail "the registry ended: $(cat "$work/registry.log")"
    sleep 0.05 # between two looks; the number of looks decides
done
curl -sf http://localhost:5001/v2/ >/dev/null || fail "no registry: $(cat "$work/registry.log")"

export ENGINE=podman BUILDAH_ISOLATION=chroot
store builder
podman info >/dev/null 2>&1 || skip "podman does not work here"
# The client's base would be downloaded; the server's image stands in for it.
ONLY=server BINARY=$binary "$root/deploy/image/build.sh" >"$work/build.log" 2>&1 || fail "$(cat "$work/build.log")"
ONLY=client BINARY=$binary BASE=localhost:5001/nabata:latest "$root/deploy/image/build.sh" \
    >>"$work/build.log" 2>&1 || fail "$(cat "$work/build.log")"
for image in nabata nabata-client; do
    podman push --tls-verify=false "localhost:5001/$image:latest" >>"$work/build.log" 2>&1 ||
        fail "$(cat "$work/build.log")"
done
curl -sf http://localhost:5001/v2/_catalog | grep -q '"nabata","nabata-client"' || fail "the registry has not got both"

store node # as empty as a new node's
for image in nabata nabata-client; do
    podman pull --tls-verify=false "localhost:5001/$image:latest" >>"$work/build.log" 2>&1 ||
        fail "$(cat "$work/build.log")"
done

# What the image says of itself, and what is in it.
said=$(podman image inspect --format '{{.Config.User}} {{.Config.Entrypoint}} {{index .Config.Labels "org.opencontainers.image.revision"}}' \
    localhost:5001/nabata:latest)
[[ $said == "65532:65532 [/nabata] $(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" ]] || fail "the image says: $said"

container=$(buildah from --pull-never localhost:5001/nabata:latest) || fail "no container"
tree=$(buildah mount "$container") || fail "cannot look into the image"
found=$(cd "$tree" && find . -type f)
[[ $found == ./nabata ]] || fail "in the image: $found"
buildah umount "$container" >/dev/null
if said=$(podman run --rm --network host --cgroups=disabled localhost:5001/nabata:latest version 2>&1); then
    how="podman run"
else
    said=$(buildah run --isolation chroot "$container" /nabata version 2>&1) || fail "the image does not run: $said"
    how="buildah run (podman cannot start containers here)"
fi
grep -q '^nabata version' <<<"$said" || fail "it said: $said"

client=$(buildah from --pull-never localhost:5001/nabata-client:latest) || fail "no container"
for name in nabata etcdctl; do
    said=$(buildah run --isolation chroot "$client" "/usr/local/bin/$name" version 2>&1) || fail "$name in the client image: $said"
done
size=$(stat -c %s "$binary")
echo "built, pushed, pulled and run with $how; the server's image holds one file of $((size / 1024)) KiB"
