#!/bin/sh
# Runs every libFuzzer target of a folder for some seconds each; stops at the first that fails.
#
#     tools/fuzz.sh FOLDER SECONDS
set -eu
cd "$(dirname "$0")/.."

folder=$1
seconds=$2
for target in "$folder"/fuzz_*; do
    name=${target##*/fuzz_}
    # New inputs go to build/, so that a run leaves the tree as it was.
    grown="build/fuzz-corpus/$name"
    mkdir -p "$grown"
    set -- "$grown"
    if [ -d "tests/fuzz/corpus/$name" ]; then
        set -- "$grown" "tests/fuzz/corpus/$name"
    fi
    log="build/fuzz-corpus/$name.log"
    if ! "$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 \
        -artifact_prefix="build/fuzz-corpus/$name-" "$@" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "fuzz: $name failed; its input is at build/fuzz-corpus/$name-*" >&2
        exit 1
    fi
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
    echo "fuzz: $name: $runs runs, fine"
done
