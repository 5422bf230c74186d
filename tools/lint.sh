#!/bin/sh
# All that can be told of the sources without running them. Goes on after a finding; fails at the end.
set -u
cd "$(dirname "$0")/.." || exit 1

failed=

# check NAME COMMAND...: runs it, says how long it took and whether it is content.
check() {
    name=$1
    shift
    from=$(date +%s)
    if "$@"; then
        echo "lint: $name: fine ($(($(date +%s) - from)) s)"
    else
        echo "lint: $name: FAILED ($(($(date +%s) - from)) s)" >&2
        failed="$failed $name"
    fi
}

# Our files, tracked or new, of the given patterns.
ours() {
    git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
        if [ -f "$file" ]; then
            echo "$file"
        fi
    done
}

format() {
    ours '*.c' '*.h' | xargs -r clang-format --dry-run -Werror
}

# What is not done belongs in an issue or in the final words of a commit, not in the source.
notes_to_self() {
    ! ours '*.c' '*.h' '*.sh' '*.py' '*.proto' |
        grep -v '^tools/lint.sh$' | xargs -r grep -nE '\b(TODO|FIXME|XXX)\b'
}

shell() {
    { ours '*.sh' && echo .ci/run; } | xargs -r shellcheck
}

# Configures a preset and makes the headers that come from proto/; the analyzers need no more of a build.
prepare() {
    mkdir -p build
    if ! { cmake --preset "$1" && cmake --build --preset "$1" --target nabata_proto; } \
        >"build/$1.lint.log" 2>&1; then
        cat "build/$1.lint.log"
        return 1
    fi
}

# With clang's view of the flags.
tidy() {
    prepare clang || return 1
    nice python3 tools/analyze.py tidy build/clang
}

analyzer() {
    prepare debug || return 1
    nice python3 tools/analyze.py gcc build/debug
}

check floors python3 tools/floors.py
check hazards python3 tools/hazards.py
check format format
check notes notes_to_self
check shellcheck shell
check "gcc -fanalyzer" analyzer
check clang-tidy tidy

if [ -n "$failed" ]; then
    echo "lint: not content:$failed" >&2
    exit 1
fi
