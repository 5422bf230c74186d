#!/bin/bash
# The way of an image, for real: deploy/image/build.sh builds both images with podman, deploy/engine.sh pushes them to a
# registry of the test's own; they are removed here, pulled back, compared with what was built, and run.
#
#   tests/kubernetes/push/push.sh      Exits 77, with one line, where there is no podman, no registry or no root.
#
# Invariants:
#   1. Nothing outside is touched: all of it happens in namespaces of its own (mounts, processes, network), on a tmpfs
#      that is gone with them. So the ports 5001 and 2379 are always free, and nothing can be left behind, not even
#      after SIGKILL, but an empty folder.
#   2. Nothing is pulled from outside: what Alpine is to the client image, a base made of busybox-static is here.
#   3. Where the kernel lets no container run, the images are still pushed, pulled and compared, and their binary runs
#      in a chroot; the last line says so.
set -euo pipefail

root=$(cd "$(dirname "$0")/../../.." && pwd)
registry=127.0.0.1:5001
tag=pushed

skip() {
    echo "skipped: $*"
    exit 77
}

fail() {
    echo "FAILED: $*" >&2
    if [[ -s ${work:-}/registry.log ]]; then
        sed 's/^/    registry: /' "$work/registry.log" >&2
    fi
    exit 1
}

same() { # WHAT EXPECTED ACTUAL
    [[ $2 == "$3" ]] || fail "$1 is \"$3\", not \"$2\""
    echo "ok: $1: $2"
}

# Until COMMAND succeeds, for at most 30 seconds.
await() { # WHAT COMMAND...
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "$what: not within 30 seconds"
        sleep 0.05
    done
}

# ---------------------------------------------------------------- outside: what is needed, and the namespaces

release_binary() {
    local binary=$root/build/release/nabata
    mkdir -p "$root/build"
    (
        flock 9
        if [[ ! -x $binary ]]; then
            cd "$root"
            { cmake --preset release && nice cmake --build --preset release --target nabata -j 2; } \
                >build/release.push.log 2>&1 || { tail -50 build/release.push.log >&2; exit 1; }
        fi
    ) 9>"$root/build/release.lock" || fail "the release binary does not build"
    echo "$binary"
}

outside() {
    local tool binary
    for tool in podman crun docker-registry busybox curl ip unshare setpriv flock; do
        command -v "$tool" >/dev/null || skip "there is no $tool here"
    done
    if ldd "$(command -v busybox)" >/dev/null 2>&1; then
        skip "busybox is not static here (package busybox-static)"
    fi
    (($(id -u) == 0)) || skip "root is needed for namespaces and podman's storage"
    local own=(unshare --mount --pid --net --ipc --uts --fork --kill-child --mount-proc)
    "${own[@]}" true 2>/dev/null || skip "the kernel gives no namespaces here"
    binary=$(release_binary)

    work=$(mktemp -d "${TMPDIR:-/tmp}/nabata-push-XXXXXX")
    child=
    trap '[[ -z $child ]] || kill -KILL "$child" 2>/dev/null || true; wait 2>/dev/null; rm -rf "$work"' EXIT
    trap 'exit 143' TERM INT HUP
    setpriv --pdeathsig KILL "${own[@]}" "$0" --inside "$work" "$binary" &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=
    exit "$status"
}

# ---------------------------------------------------------------- inside

at_most() { # LIMIT CAP: a limit that may be "unlimited", and no more than CAP
    if [[ $1 == unlimited ]] || (($1 > $2)); then
        echo "$2"
    else
        echo "$1"
    fi
}

# podman, told by files where everything is; every call of it, also build.sh's, reads them.
settle() {
    local files processes
    mount -t tmpfs -o mode=0711 tmpfs "$work"
    mkdir -p /var/lib/containers
    mount -t tmpfs tmpfs /var/lib/containers # a cache of blobs, which podman keeps there whatever it is told
    if mountpoint -q /sys/fs/cgroup/unified; then
        umount /sys/fs/cgroup/unified # old crun refuses both kinds of cgroups at once, even to use none
    fi
    ip link set lo up
    mkdir "$work"/{home,run,tmp}
    cat >"$work/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "$work/storage"
runroot = "$work/run/storage"
END
    # Limits that a root without CAP_SYS_RESOURCE can set as well.
    files=$(at_most "$(ulimit -Hn)" 4096)
    processes=$(at_most "$(ulimit -Hu)" 1024)
    cat >"$work/containers.conf" <<END
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = "$work/storage/libpod"
tmp_dir = "$work/run/libpod"
volume_path = "$work/storage/volumes"
[network]
network_config_dir = "$work/networks"
END
    export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf BUILDAH_ISOLATION=chroot
    unset dry_run ENGINE REGISTRY TAG ARCH BINARY BASE ONLY
    unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
    export HOME=$work/home XDG_RUNTIME_DIR=$work/run TMPDIR=$work/tmp
}

start_registry() {
    cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: $registry}
END
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    await "the registry answers" curl -sf "http://$registry/v2/"
}

# The stand-in of Alpine: a shell, its tools, and sh in the PATH.
make_base() {
    mkdir "$work/base"
    cp "$(command -v busybox)" "$work/base/busybox"
    cat >"$work/base/Dockerfile" <<'END'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
END
    podman build -q -t localhost/base:1 "$work/base" >"$work/base.log" 2>&1 ||
        skip "podman cannot build here: $(tail -1 "$work/base.log")"
}

find_out_what_runs() {
    can_run=yes
    if ! podman run --rm localhost/base:1 /bin/true >"$work/probe.log" 2>&1; then
        can_run="no: $(tail -1 "$work/probe.log")"
    fi
}

inspect() { # IMAGE FORMAT
    podman image inspect --format "$2" "$registry/$1:$tag"
}

push_as_deploy_does() ( # IMAGE
    # shellcheck source=deploy/engine.sh
    source "$root/deploy/engine.sh"
    ENGINE=podman engine_choose
    push "$1"
)

build_and_push() {
    local image
    ENGINE=podman REGISTRY=$registry TAG=$tag BINARY=$binary BASE=localhost/base:1 \
        "$root/deploy/image/build.sh" >"$work/build.log" 2>&1 || fail "build.sh: $(<"$work/build.log")"
    for image in nabata nabata-client; do
        push_as_deploy_does "$registry/$image:$tag" >"$work/push.log" 2>&1 || fail "the push: $(<"$work/push.log")"
    done
    same "what the registry has" '{"repositories":["nabata","nabata-client"]}' \
        "$(curl -sf "http://$registry/v2/_catalog")"
    for image in nabata nabata-client; do
        same "its tags of $image" "{\"name\":\"$image\",\"tags\":[\"$tag\"]}" \
            "$(curl -sf "http://$registry/v2/$image/tags/list")"
        inspect "$image" '{{.Id}}' >"$work/$image.id"
    done
}

remove_and_pull() {
    local image
    podman rmi --all --force >/dev/null
    for image in nabata nabata-client; do
        ! podman image exists "$registry/$image:$tag" || fail "$image is still here"
    done
    for image in nabata nabata-client; do
        podman pull -q --tls-verify=false "$registry/$image:$tag" >/dev/null || fail "$image cannot be pulled"
        same "$image is what was built" "$(<"$work/$image.id")" "$(inspect "$image" '{{.Id}}')"
    done
}

check_server_image() {
    local folder version
    version=$("$binary" version | sed -n 's/^nabata version: //p')
    same "the server's user" 65532:65532 "$(inspect nabata '{{.Config.User}}')"
    same "its entrypoint and command" '[/nabata] [server]' "$(inspect nabata '{{.Config.Entrypoint}} {{.Config.Cmd}}')"
    same "its ports" 'map[2379/tcp:{} 2380/tcp:{} 2381/tcp:{} 6000/tcp:{} 6001/tcp:{}]' \
        "$(inspect nabata '{{.Config.ExposedPorts}}')"
    same "its title" nabata "$(inspect nabata '{{index .Config.Labels "org.opencontainers.image.title"}}')"
    same "its revision" "$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" \
        "$(inspect nabata '{{index .Config.Labels "org.opencontainers.image.revision"}}')"
    [[ -n $(inspect nabata '{{index .Config.Labels "org.opencontainers.image.version"}}') ]] || fail "it has no version"
    folder=$(podman image mount "$registry/nabata:$tag")
    same "all that is in it" "./nabata 755 0:0" "$(cd "$folder" && find . -type f -printf '%p %m %U:%G\n')"
    cmp "$binary" "$folder/nabata" || fail "the binary in the image is another one"
    same "it says in a chroot" "nabata version: $version" \
        "$(chroot --userspec=65532:65532 "$folder" /nabata version | head -1)"
    podman image unmount "$registry/nabata:$tag" >/dev/null
}

# As strict as the StatefulSet is: no capability, nothing to gain, nothing to write but the volume.
run_server() {
    local pid
    mkdir "$work/data"
    chown 65532:65532 "$work/data"
    podman run --detach --pull never --name server --read-only --cap-drop all --security-opt no-new-privileges \
        --volume "$work/data:/data" "$registry/nabata:$tag" server --data-dir /data/member \
        --listen-metrics-urls http://127.0.0.1:2381 >/dev/null
    await "the server is ready" curl -sf http://127.0.0.1:2381/readyz
    same "/livez" ok "$(curl -sf http://127.0.0.1:2379/livez)"
    pid=$(podman inspect --format '{{.State.Pid}}' server)
    same "the user that it runs as" "65532 65532 65532 65532" \
        "$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "/proc/$pid/status")"
}

run_client() {
    local client=(podman run --rm --pull never "$registry/nabata-client:$tag")
    # shellcheck disable=SC2016 # for the shell inside
    same "the client's shell and user" "65532 /tmp nabata" \
        "$("${client[@]}" sh -c 'echo $(id -u) $(pwd) $(readlink /usr/local/bin/etcdctl)')"
    same "a key put by etcdctl" OK "$("${client[@]}" etcdctl put way there)"
    same "and read by nabata" "way there" "$("${client[@]}" nabata get way | xargs)"
}

stop_server() {
    podman stop --time 20 server >/dev/null
    same "the server's exit after SIGTERM" "exited 0" \
        "$(podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' server)"
    podman rm server >/dev/null
}

run_images() {
    same "what the server image says" "$("$binary" version)" \
        "$(podman run --rm --pull never "$registry/nabata:$tag" version)"
    run_server
    run_client
    stop_server
}

inside() {
    work=$1
    binary=$2
    settle
    make_base
    find_out_what_runs
    start_registry
    build_and_push
    remove_and_pull
    check_server_image
    if [[ $can_run == yes ]]; then
        run_images
        echo "PASSED: pushed, pulled and run with $(podman --version)"
    else
        echo "PASSED: pushed and pulled with $(podman --version); no container runs here ($can_run)"
    fi
}

if [[ ${1:-} == --inside ]]; then
    inside "$2" "$3"
else
    outside
fi
