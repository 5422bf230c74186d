#!/usr/bin/env bash
# Measures nabata beside a real etcd: the same load from the same program, in turns within one run.
#   bench/run.sh NABATA [options of bench/compare.py]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
"" | -h | --help) exec python3 "$here/compare.py" --help ;;
esac
nabata=$(realpath "$1")
shift

# etcd's tools count for its size. Without them the page says that the server alone is meant.
build_tools() { # FOLDER
    PATH=$PATH:/usr/local/go/bin
    [[ -x $1/etcdctl && -x $1/etcdutl ]] && return
    command -v go >/dev/null && (cd "$here/etcdtools" && nice go build -p 2 -trimpath -ldflags=-s -o "$1/" \
        go.etcd.io/etcd/etcdctl/v3 go.etcd.io/etcd/etcdutl/v3) >/dev/null 2>&1
}

etcd=$here/../build/etcd/etcd
if [[ ! -x $etcd ]]; then
    mkdir -p "$(dirname "$etcd")"
    if ! "$here/../tests/support/etcd/build.sh" "$etcd"; then
        echo "measuring nabata alone: there is no etcd to compare with"
        etcd=
    fi
fi
if [[ -n $etcd ]] && ! build_tools "$(cd "$(dirname "$etcd")" && pwd)"; then
    echo "etcdctl and etcdutl cannot be built: etcd's size is that of its server alone"
fi
exec python3 "$here/compare.py" --nabata "$nabata" ${etcd:+--etcd "$etcd"} "$@"
