#!/usr/bin/env bash
# Measures nabata beside a real etcd: the same load from the same program, in turns within one run.
#   bench/run.sh NABATA [options of bench/compare.py]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
"" | -h | --help)
    echo "usage: bench/run.sh NABATA [options]"
    python3 "$here/compare.py" --help
    exit 0
    ;;
esac
nabata=$(realpath "$1")
shift
etcd=$here/../build/etcd/etcd
if [[ ! -x $etcd ]]; then
    mkdir -p "$(dirname "$etcd")"
    if ! "$here/../tests/support/etcd/build.sh" "$etcd"; then
        echo "measuring nabata alone: there is no etcd to compare with"
        etcd=
    fi
fi
exec python3 "$here/compare.py" --nabata "$nabata" ${etcd:+--etcd "$etcd"} "$@"
