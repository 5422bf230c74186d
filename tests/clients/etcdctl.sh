#!/bin/bash
# etcdctl.sh ENDPOINTS: runs each command of etcdctl.txt against a fresh cluster of three (client URLs, comma separated)
# and compares all it prints, and how it exits, with what stands there. Exits 77 without etcdctl 3.4, which prints so.
#
# Only what a cluster is free to choose is masked: ids, ports, terms, raft indexes, sizes, the server's version, times.
# With --write it writes etcdctl.txt anew (from a real etcd).
set -u

write=false
if [[ ${1:-} == --write ]]; then
    write=true && shift
fi
endpoints=${1:?usage: etcdctl.sh [--write] ENDPOINTS}
here=$(cd "$(dirname "$0")" && pwd)
script=$here/etcdctl.txt

if ! etcdctl version 2>/dev/null | grep -q '^etcdctl version: 3\.4\.'; then
    echo "skipped: there is no etcdctl 3.4 here"
    exit 77
fi
export LC_ALL=C ETCDCTL_API=3 ETCDCTL_ENDPOINTS=$endpoints
IFS=, read -r E1 E2 E3 <<<"$endpoints"
export E1 E2 E3

mask() {
    sed -E -e 's/^\{"level":"warn",.*"error":"(.*)"\}$/warn: \1/' \
        -e "s#$E1#E1#g; s#$E2#E2#g; s#$E3#E3#g; s#http://127\.0\.0\.1:[0-9]+#PEER#g" \
        -e 's/"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID)":[0-9]+/"\1":N/g' \
        -e 's/^"(ClusterID|MemberID|RaftTerm|Leader|RaftIndex|RaftAppliedIndex|DBSize|ID)" : [0-9]+$/"\1" : N/' \
        -e 's/^"Version" : "[0-9]+\.[0-9]+\.[0-9]+.*"$/"Version" : "V"/; s/"version":"[0-9]+\.[0-9]+\.[0-9]+[^"]*"/"version":"V"/g' \
        -e 's/\b[0-9a-f]{11,16}\b/ID/g' \
        -e 's/(ID[ ,|]+)[0-9]+\.[0-9]+\.[0-9]+[^ ,|]*([ ,|]+)[0-9.]+ [kMG]?B([ ,|]+)(true|false)([ ,|]+)(true|false)([ ,|]+)[0-9]+([ ,|]+)[0-9]+([ ,|]+)[0-9]+/\1V\2SIZE\3LEADER\5\6\7N\8N\9N/' \
        -e 's/(took = |"took":")[0-9.]+(m|µ|n)?s/\1TIME/' \
        -e '/^[+|]/ { s/ +/ /g; s/-+/-/g }'
}

run() {
    bash -c "set -o pipefail; $1" </dev/null 2>&1 || echo "[$?]"
}

replay() {
    local line
    while IFS= read -r line; do
        if [[ $line == '#'* ]]; then
            printf '%s\n' "$line"
        elif [[ $line == '$ '* ]]; then
            printf '%s\n' "$line"
            run "${line#\$ }" | mask
        elif [[ $line == '% '* ]]; then # the order of these is open
            printf '%s\n' "$line"
            run "${line#% }" | mask | sort
        fi
    done <"$script"
}

result=$(mktemp)
trap 'rm -f "$result"' EXIT
replay >"$result"
if $write; then
    cp "$result" "$script"
    exit
fi
if ! diff -U 3 "$script" "$result"; then
    echo "etcdctl: not what etcd prints (lines with + are this cluster's)"
    exit 1
fi
echo "etcdctl: $(grep -c '^[$%] ' "$script") commands, all as with etcd"
