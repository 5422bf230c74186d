#!/usr/bin/env bash
# A member that serves a little and is stopped by SIGTERM leaves nothing behind, says valgrind.
#   valgrind.sh NABATA
set -euo pipefail
nabata=$(realpath "${1:?usage: valgrind.sh NABATA}")
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v valgrind >/dev/null; then
    echo "skipped: valgrind is not installed"
    exit 77
fi
work=$(mktemp -d)
trap 'bash "$here/../support/cluster.sh" stop --dir "$work/c" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

export CLUSTER_DEADLINE=120
bash "$here/../support/cluster.sh" start --dir "$work/c" --members 1 --owner $$ \
    --binary "valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible --error-exitcode=99 --log-file=$work/valgrind.%p $nabata server"
endpoints=$(<"$work/c/endpoints")
for i in $(seq 1 30); do
    "$nabata" put --endpoints "$endpoints" "key$i" "value$i" >/dev/null
done
"$nabata" get --endpoints "$endpoints" key --prefix >/dev/null
"$nabata" del --endpoints "$endpoints" key1 >/dev/null
printf 'ver("key2") > "0"\n\nput key2 again\n\nget key2\n\n' | "$nabata" txn --endpoints "$endpoints" >/dev/null
"$nabata" compaction --endpoints "$endpoints" --physical 20 >/dev/null
"$nabata" check --keys 20 "${endpoints#http://}" >/dev/null
curl --silent --fail "$endpoints/metrics" >/dev/null
curl --silent --fail "$endpoints/readyz?verbose" >/dev/null
if "$nabata" put --endpoints "$endpoints" "" x >/dev/null 2>&1; then
    echo "an empty key was taken"
    exit 1
fi
pid=$(awk '{ print $2 }' "$work/c/pids")
kill -TERM "$pid"
tail --pid="$pid" -f /dev/null
if [[ -s $(echo "$work"/valgrind.*) ]]; then
    cat "$work"/valgrind.*
    echo "valgrind found something"
    exit 1
fi
echo "1 passed, 0 failed"
