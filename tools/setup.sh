#!/bin/sh
# Installs the Debian packages that a verb of the Makefile needs, and only those that are missing.
#
#     tools/setup.sh [build|test|lint|fuzz|bench|plots]...     (default: build)
#
# Needs root or sudo when something is missing. Elsewhere than on Debian and its kin it names what is needed.
set -eu

build="build-essential cmake ninja-build pkg-config libuv1-dev libc-ares-dev libnghttp2-dev libprotobuf-c-dev
    protobuf-c-compiler protobuf-compiler liblmdb-dev libssl-dev libhttp-parser-dev libxxhash-dev libjansson-dev libaio-dev
    libcmocka-dev"
test="$build curl iproute2 openssl procps python3"
lint="$build clang clang-format clang-tidy python3 shellcheck"
fuzz="$build clang libclang-rt-14-dev"
bench="$build curl procps python3"
plots="python3 python3-matplotlib"
# tests that use them are skipped without them; those of the second line push, pull and run images (17 MB to fetch)
optional_for_test="etcd-client iptables shellcheck valgrind
    docker-registry crun podman busybox-static"

wanted=
optional=
for profile in "${@:-build}"; do
    case $profile in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" optional="$optional $optional_for_test" ;;
    lint) wanted="$wanted $lint" ;;
    fuzz) wanted="$wanted $fuzz" ;;
    bench) wanted="$wanted $bench" ;;
    plots) wanted="$wanted $plots" ;;
    *)
        echo "setup: unknown profile '$profile' (known: build, test, lint, fuzz, bench, plots)" >&2
        exit 2
        ;;
    esac
done

if ! command -v apt-get >/dev/null 2>&1; then
    for tool in cc cmake ninja protoc-c; do
        if ! command -v "$tool" >/dev/null 2>&1; then
            echo "setup: no apt-get here, so nothing is installed. Needed: a C17 compiler, cmake, ninja," \
                "pkg-config, libuv, c-ares, nghttp2, protobuf-c with protoc-c, lmdb, openssl 3, xxhash, jansson," \
                "libaio, cmocka (with static archives for the release build)" >&2
            exit 1
        fi
    done
    exit 0
fi

# Prints those of its arguments that are not installed.
missing() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        if [ "$state" != installed ]; then
            echo "$package"
        fi
    done | sort -u
}

# shellcheck disable=SC2086 # lists of words
needed=$(missing $wanted)
# shellcheck disable=SC2086
nice_to_have=$(missing $optional)

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    if ! sudo -n true 2>/dev/null; then
        if [ -n "$needed" ]; then
            # shellcheck disable=SC2086
            echo "setup: packages are missing and there is neither root nor sudo; as root:" \
                "apt-get install" $needed >&2
            exit 1
        fi
        exit 0
    fi
fi

# Installs, quietly; the output is shown when it fails.
install() {
    log=$(mktemp)
    if $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
        >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    rm -f "$log"
    return 1
}

if [ -z "$needed$nice_to_have" ]; then
    exit 0
fi
if [ -z "$needed" ] && [ -e "${TMPDIR:-/tmp}/nabata-setup-optional-tried" ]; then
    exit 0 # they cannot be had here; do not ask the mirror every time
fi
$as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true # offline: the lists at hand may do
if [ -n "$needed" ]; then
    # shellcheck disable=SC2086
    echo "setup: installing" $needed
    # shellcheck disable=SC2086
    install $needed
fi
for package in $nice_to_have; do
    if ! install "$package" >/dev/null 2>&1; then
        echo "setup: $package cannot be installed; the tests that use it will be skipped"
        : >"${TMPDIR:-/tmp}/nabata-setup-optional-tried" || true
    fi
done
