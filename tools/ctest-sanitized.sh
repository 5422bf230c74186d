#!/bin/sh
# Runs ctest on a sanitizer's build, with long tests shortened: a sanitizer costs two to ten times the time.
#
#     tools/ctest-sanitized.sh asan|tsan
#
# Tests with the label `long` are for the plain build only. Under the thread sanitizer only rooms with threads run.
set -eu
cd "$(dirname "$0")/.."

jobs=$(nproc 2>/dev/null || echo 2)
preset=$1
case $preset in
asan)
    export NABATA_TEST_SCALE="${NABATA_TEST_SCALE:-25}" NABATA_FUZZ_RUNS="${NABATA_FUZZ_RUNS:-5000}"
    set --
    ;;
tsan)
    export NABATA_TEST_SCALE="${NABATA_TEST_SCALE:-10}" NABATA_FUZZ_RUNS="${NABATA_FUZZ_RUNS:-1000}"
    set -- --tests-regex '^(storage|net|kube|peer|client|clients|server|cli|replica|steward|statefulset)/'
    ;;
*)
    echo "ctest-sanitized: asan or tsan, not '$preset'" >&2
    exit 2
    ;;
esac
export ASAN_OPTIONS="${ASAN_OPTIONS:-abort_on_error=1}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# The thread sanitizer's map of memory does not fit every kernel's randomisation of addresses.
steady=
if setarch "$(uname -m)" -R true 2>/dev/null; then
    steady="setarch $(uname -m) -R"
fi
# shellcheck disable=SC2086
exec $steady ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error \
    --label-exclude '^long$' "$@"
