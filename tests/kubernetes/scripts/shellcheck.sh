#!/bin/bash
# Every script of deploy/ under shellcheck. Exits 77 where there is none.
set -u
cd "$(dirname "$0")/../../.." || exit 1
if ! command -v shellcheck >/dev/null; then
    echo "skipped: there is no shellcheck here"
    exit 77
fi
shellcheck --version | sed -n 's/^version: /shellcheck /p'
find deploy -name '*.sh' -print0 | xargs -0 shellcheck
