#!/bin/bash
# Runs a cluster of nabata or of etcd on free loopback ports, for tests.
#
#   cluster.sh start --dir DIR --binary COMMAND [--members N] [--owner PID] [-- FLAGS...]
#   cluster.sh stop --dir DIR              asks every member to end; fails if one had died by itself
#   cluster.sh kill --dir DIR MEMBER...    SIGKILL, and waits until the processes are gone
#   cluster.sh restart --dir DIR MEMBER... starts killed members again, same data, same ports
#
# COMMAND is an etcd, a nabata (then run as `nabata server`), or words that end where etcd's flags begin.
# Members are m1, m2, ...; FLAGS go to each. `start` and `restart` return once /health says true
# (within CLUSTER_DEADLINE seconds, 30 when unset). With --owner the cluster is stopped when that process ends.
#
# In DIR: endpoints (client URLs, comma separated), pids (one "member pid" a line), log/<member>,
# data/<member>, command/<member> (what starts it, one word a line).
set -u

readonly DEADLINE=${CLUSTER_DEADLINE:-30}

die() {
    echo "cluster.sh: $*" >&2
    exit 1
}

# Ports below the range the kernel takes for outgoing connections, so that a killed member finds its own again.
port_is_taken() { # PORT
    local hex
    hex=$(printf ':%04X' "$1")
    awk -v port="$hex" 'index($2, port) > 0 { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

free_ports() { # COUNT
    local -A chosen=()
    local port
    while ((${#chosen[@]} < $1)); do
        port=$((10000 + RANDOM % 22000))
        if ! port_is_taken "$port"; then
            chosen[$port]=1
        fi
    done
    echo "${!chosen[@]}"
}

# Ended, or ended and only waiting for its parent to notice.
is_alive() { # PID
    local state
    state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 1
    [[ -n $state && $state != Z && $state != X ]]
}

pid_of() { # MEMBER
    awk -v member="$1" '$1 == member { print $2 }' "$dir/pids"
}

forget() { # MEMBER
    awk -v member="$1" '$1 != member' "$dir/pids" >"$dir/pids.new" && mv "$dir/pids.new" "$dir/pids"
}

launch() { # MEMBER
    local -a command
    mapfile -t command <"$dir/command/$1"
    setsid "${command[@]}" >>"$dir/log/$1" 2>&1 </dev/null &
    echo "$1 $!" >>"$dir/pids"
}

client_url() { # MEMBER
    grep -A1 -x -e --listen-client-urls "$dir/command/$1" | tail -1
}

show_log() { # MEMBER
    echo "--- end of the log of $1:" >&2
    tail -25 "$dir/log/$1" >&2
}

wait_healthy() { # MEMBER
    local url pid end=$((SECONDS + DEADLINE))
    url=$(client_url "$1")
    pid=$(pid_of "$1")
    until curl --silent --fail --max-time 2 "$url/health" 2>/dev/null | grep -q '"health" *: *"true"'; do
        if ! is_alive "$pid"; then
            return 1
        fi
        if ((SECONDS >= end)); then
            echo "cluster.sh: $1 is not healthy after $DEADLINE s" >&2
            return 2
        fi
        sleep 0.05
    done
}

write_commands() { # writes command/<member> and endpoints, on fresh ports
    local -a ports urls=()
    local i initial="" token=cluster-$$-$RANDOM
    read -ra ports <<<"$(free_ports $((2 * members)))"
    for ((i = 0; i < members; i++)); do
        initial+="${initial:+,}m$((i + 1))=http://127.0.0.1:${ports[2 * i + 1]}"
    done
    for ((i = 0; i < members; i++)); do
        local client="http://127.0.0.1:${ports[2 * i]}" peer="http://127.0.0.1:${ports[2 * i + 1]}"
        urls+=("$client")
        printf '%s\n' "${binary[@]}" --name "m$((i + 1))" --data-dir "$dir/data/m$((i + 1))" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$initial" --initial-cluster-token "$token" --initial-cluster-state new \
            ${flags[@]+"${flags[@]}"} >"$dir/command/m$((i + 1))"
    done
    local IFS=,
    echo "${urls[*]}" >"$dir/endpoints"
}

try_start() {
    local i status
    rm -rf "$dir/data" "$dir/log" "$dir/command"
    mkdir -p "$dir/data" "$dir/log" "$dir/command" || return 2
    : >"$dir/pids"
    write_commands
    for ((i = 1; i <= members; i++)); do
        launch "m$i"
    done
    for ((i = 1; i <= members; i++)); do
        wait_healthy "m$i"
        status=$?
        if ((status != 0)); then
            end_all KILL
            if grep -qi 'address already in use' "$dir"/log/*; then
                return 1
            fi
            show_log "m$i"
            return 2
        fi
    done
}

start() {
    local attempt status
    for attempt in 1 2 3; do
        try_start
        status=$?
        ((status == 1)) || break
        echo "cluster.sh: a port was taken meanwhile, attempt $attempt" >&2
    done
    ((status == 0)) || die "the cluster did not start: ${binary[*]}"
    if [[ -n $owner ]]; then
        (tail --pid="$owner" -f /dev/null && end_all KILL) >/dev/null 2>&1 </dev/null &
        echo $! >"$dir/guard"
    fi
}

end_all() { # SIGNAL
    local member pid end=$((SECONDS + 15))
    while read -r member pid; do
        kill "-$1" "$pid" 2>/dev/null
    done <"$dir/pids"
    while read -r member pid; do
        while is_alive "$pid"; do
            if ((SECONDS >= end)); then
                echo "cluster.sh: $member does not end; killed" >&2
                kill -KILL "$pid" 2>/dev/null
            fi
            sleep 0.02
        done
    done <"$dir/pids"
    : >"$dir/pids"
}

stop() {
    local member pid status=0
    [[ -f $dir/pids ]] || die "no cluster in $dir"
    if [[ -f $dir/guard ]]; then
        kill -KILL "$(cat "$dir/guard")" 2>/dev/null
        rm -f "$dir/guard"
    fi
    while read -r member pid; do
        if ! is_alive "$pid"; then
            echo "cluster.sh: $member had ended by itself" >&2
            show_log "$member"
            status=1
        fi
    done <"$dir/pids"
    end_all TERM
    if grep -lE 'ERROR: [A-Za-z]+Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$dir"/log/* >&2; then
        echo "cluster.sh: a sanitizer complained in the logs above" >&2
        status=1
    fi
    return $status
}

kill_members() {
    local member pid
    for member in "${members_named[@]}"; do
        pid=$(pid_of "$member")
        [[ -n $pid ]] || die "$member is not running"
        is_alive "$pid" || { show_log "$member"; die "$member had ended by itself"; }
        kill -KILL "$pid"
    done
    for member in "${members_named[@]}"; do
        pid=$(pid_of "$member")
        while is_alive "$pid"; do sleep 0.01; done
        forget "$member"
    done
}

restart() {
    local member
    for member in "${members_named[@]}"; do
        [[ -z $(pid_of "$member") ]] || die "$member is running"
        launch "$member"
    done
    for member in "${members_named[@]}"; do
        wait_healthy "$member" || { show_log "$member"; die "$member did not come back"; }
    done
}

action=${1:-}
shift
dir="" members=1 owner="" members_named=() binary=() flags=()
while (($# > 0)); do
    case $1 in
    --dir) dir=$2 && shift 2 ;;
    --binary) read -ra binary <<<"$2" && shift 2 ;;
    --members) members=$2 && shift 2 ;;
    --owner) owner=$2 && shift 2 ;;
    --) shift && flags=("$@") && break ;;
    -*) die "unknown option $1" ;;
    *) members_named+=("$1") && shift ;;
    esac
done
[[ -n $dir ]] || die "--dir is missing"
if ((${#binary[@]} == 1)) && [[ $(basename "${binary[0]}") == nabata ]]; then
    binary+=(server)
fi

case $action in
start)
    ((${#binary[@]} > 0)) || die "--binary is missing"
    mkdir -p "$dir" || die "cannot make $dir"
    start
    ;;
stop) stop ;;
kill) kill_members ;;
restart) restart ;;
*) die "start, stop, kill or restart" ;;
esac
