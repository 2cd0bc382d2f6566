#!/usr/bin/env bash
# Runs a cluster on this machine, in the background: a store, three nodes, three workers. STORE says which store:
# etcd (three members), redis (a master, two replicas, three Sentinels) or consul (three servers).
# `cluster.sh up` starts the processes that do not run yet, `cluster.sh down` ends all of them. Data and
# logs are in ./cluster-data (or CLUSTER_DIR) and stay there, apart for each store.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=$(realpath -m "${CLUSTER_DIR:-cluster-data}")
rota=$(realpath -m "${CARGO_TARGET_DIR:-target}/release/rota")
servers=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools/servers")
store=${STORE:-etcd}
dir=$root/$store
client_ports=(12379 22379 32379)
peer_ports=(12380 22380 32380)
redis_ports=(16379 16380 16381)
sentinel_ports=(26379 26380 26381)
# HTTP; the three after each are for RPC and the two gossip pools.
consul_ports=(18500 18510 18520)
node_ports=(7420 7421 7422)

urls=$(printf 'http://127.0.0.1:%s,' "${node_ports[@]}")
urls=${urls%,}

need() {
    local missing=()
    case $store in
        etcd)
            command -v etcd >/dev/null || missing+=(etcd-server)
            command -v etcdctl >/dev/null || missing+=(etcd-client)
            ;;
        redis)
            command -v redis-server >/dev/null || missing+=(redis-server)
            command -v redis-cli >/dev/null || missing+=(redis-tools)
            ;;
        consul)
            # Not in every release of Debian.
            command -v consul >/dev/null || {
                tests/servers.sh
                PATH="$servers/consul-1.8/usr/bin:$PATH"
            }
            ;;
        *)
            echo "error: STORE=$store is not etcd, redis or consul" >&2
            exit 2
            ;;
    esac
    command -v curl >/dev/null || missing+=(curl)
    [ ${#missing[@]} -eq 0 ] && return
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "error: cannot install the Debian packages ${missing[*]}: not root, and sudo is missing. Install them, then run make cluster again." >&2
            exit 1
        }
        as_root=(sudo)
    fi
    echo "Installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Whether the process of that name runs. Checks a variable of the process, because the process id may
# have been reused.
runs() {
    local pid
    pid=$(cat "$dir/run/$1.pid" 2>/dev/null) || return 1
    grep -zsqxF "ROTA_CLUSTER_PROCESS=$dir/$1" "/proc/$pid/environ"
}

# The ids of all processes whose names begin with the argument. Finds them by a variable in their
# environment, because the directory with the pid files may have been removed.
pids() {
    grep -zslE "^ROTA_CLUSTER_PROCESS=$(printf '%s' "$dir/$1" | sed 's/[][\.*^$+?(){}|]/\\&/g')" \
        /proc/[0-9]*/environ | cut -d / -f 3 || true
}

# start NAME PORTS COMMAND...: starts a process unless it runs.
start() {
    local name=$1 ports=$2 port
    shift 2
    runs "$name" && return
    for port in $ports; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "error: cannot start $name: another process listens on port $port of this machine" >&2
            command -v ss >/dev/null && ss -Hltnp "sport = :$port" >&2
            echo "End that process and run make cluster again. make cluster-down ends the processes started so far." >&2
            exit 1
        fi
    done
    ROTA_CLUSTER_PROCESS="$dir/$name" setsid nohup "$@" >>"$dir/log/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/run/$name.pid"
    # The variable is visible only after the exec.
    until runs "$name" || ! kill -0 $! 2>/dev/null; do
        sleep 0.02
    done
}

wait_ready() {
    local url=$1 name=$2
    for _ in $(seq 150); do
        curl -fs -o /dev/null --max-time 2 "$url" && return
        runs "$name" || break
        sleep 0.2
    done
    not_ready "$name"
}

not_ready() {
    echo "error: $1 did not become ready. The end of $dir/log/$1.log:" >&2
    tail -n 5 "$dir/log/$1.log" >&2
    echo "make cluster-down ends the processes started so far." >&2
    exit 1
}

up_etcd() {
    local members='' i
    for i in 0 1 2; do
        members+="etcd-$((i + 1))=http://127.0.0.1:${peer_ports[$i]},"
    done
    for i in 0 1 2; do
        local client=http://127.0.0.1:${client_ports[$i]} peer=http://127.0.0.1:${peer_ports[$i]}
        start "etcd-$((i + 1))" "${client_ports[$i]} ${peer_ports[$i]}" \
            etcd --name "etcd-$((i + 1))" --data-dir "$dir/etcd-$((i + 1))" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "${members%,}" --initial-cluster-token rota-local
    done
    for i in 0 1 2; do
        wait_ready "http://127.0.0.1:${client_ports[$i]}/health" "etcd-$((i + 1))"
    done
}

up_redis() {
    local i name
    for i in 0 1 2; do
        name=redis-$((i + 1))
        mkdir -p "$dir/$name"
        # Redis writes its own role into the file, so a file that exists is left as it is. A title would overwrite
        # the environment, by which processes are found.
        [ -e "$dir/$name/redis.conf" ] || {
            printf '%s\n' "port ${redis_ports[$i]}" 'bind 127.0.0.1' "dir $dir/$name" 'appendonly yes' \
                'appendfsync always' 'no-appendfsync-on-rewrite no' 'save ""' 'set-proc-title no'
            [ "$i" = 0 ] || echo "replicaof 127.0.0.1 ${redis_ports[0]}"
        } >"$dir/$name/redis.conf"
        start "$name" "${redis_ports[$i]}" redis-server "$dir/$name/redis.conf"
    done
    for i in 0 1 2; do
        wait_answer "redis-$((i + 1))" redis-cli -p "${redis_ports[$i]}" ping
    done
    for i in 0 1 2; do
        name=sentinel-$((i + 1))
        mkdir -p "$dir/$name"
        [ -e "$dir/$name/sentinel.conf" ] || printf '%s\n' "port ${sentinel_ports[$i]}" 'bind 127.0.0.1' \
            "dir $dir/$name" "sentinel monitor rota 127.0.0.1 ${redis_ports[0]} 2" \
            'sentinel down-after-milliseconds rota 3000' 'sentinel failover-timeout rota 10000' 'set-proc-title no' \
            >"$dir/$name/sentinel.conf"
        start "$name" "${sentinel_ports[$i]}" redis-server "$dir/$name/sentinel.conf" --sentinel
    done
    for i in 0 1 2; do
        wait_answer "sentinel-$((i + 1))" redis-cli -p "${sentinel_ports[$i]}" ping
    done
}

up_consul() {
    local i http join=()
    for i in 0 1 2; do
        join+=(-retry-join "127.0.0.1:$((consul_ports[i] + 2))")
    done
    for i in 0 1 2; do
        http=${consul_ports[$i]}
        start "consul-$((i + 1))" "$http $((http + 1)) $((http + 2)) $((http + 3))" \
            consul agent -server -bootstrap-expect 3 -node "consul-$((i + 1))" -data-dir "$dir/consul-$((i + 1))" \
            -bind 127.0.0.1 -client 127.0.0.1 -http-port "$http" -dns-port -1 "${join[@]}" \
            -server-port "$((http + 1))" -serf-lan-port "$((http + 2))" -serf-wan-port "$((http + 3))" \
            -hcl 'ports { grpc = -1 }'
    done
    for i in 0 1 2; do
        wait_answer "consul-$((i + 1))" sh -c \
            "curl -fs --max-time 2 http://127.0.0.1:${consul_ports[$i]}/v1/status/leader | grep -q :"
    done
}

# The URL of the store for the node with that number. Each names another server first, so that the servers share the
# load.
store_url() {
    local ports=() hosts='' j
    case $store in
        etcd) ports=("${client_ports[@]}") ;;
        redis) ports=("${sentinel_ports[@]}") ;;
        consul) ports=("${consul_ports[@]}") ;;
    esac
    for j in 0 1 2; do
        hosts+="127.0.0.1:${ports[$((($1 + j) % 3))]},"
    done
    case $store in
        etcd | consul) echo "$store://${hosts%,}/rota" ;;
        redis) echo "redis+sentinel://${hosts%,}/rota?replicas=1" ;;
    esac
}

# What to try on the store.
store_hint() {
    case $store in
        etcd) echo "ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:${client_ports[0]} get --prefix rota/ --keys-only" ;;
        redis) echo "redis-cli -p ${redis_ports[0]} --scan --pattern '{rota}:*'" ;;
        consul) echo "curl 'http://127.0.0.1:${consul_ports[0]}/v1/kv/rota/?keys'" ;;
    esac
}

# Waits until a command succeeds.
wait_answer() {
    local name=$1
    shift
    for _ in $(seq 150); do
        "$@" >/dev/null 2>&1 && return
        runs "$name" || break
        sleep 0.2
    done
    not_ready "$name"
}

up() {
    need
    cargo build --quiet --release --package rota --locked
    mkdir -p "$dir/run" "$dir/log"
    local i
    "up_$store"
    for i in 0 1 2; do
        start "node-$((i + 1))" "${node_ports[$i]}" \
            "$rota" server --node "node-$((i + 1))" \
            --listen "127.0.0.1:${node_ports[$i]}" --store "$(store_url "$i")"
    done
    for i in 0 1 2; do
        wait_ready "http://127.0.0.1:${node_ports[$i]}/readyz" "node-$((i + 1))"
    done
    for i in 1 2 3; do
        start "worker-$i" "" "$rota" worker --name "worker-$i" --url "$urls" --allow-command \
            --metrics-listen "127.0.0.1:743$i"
    done
    for i in 1 2 3; do
        for _ in $(seq 100); do
            "$rota" workers list --url "$urls" 2>/dev/null | grep -q "worker-$i" && break
            sleep 0.1
        done
    done
    cat <<END
The cluster is running: $store, three nodes, three workers.

  nodes    ${node_ports[*]/#/http://127.0.0.1:}    (API documentation at /docs)
  store    $(store_url 0)
  logs     ${dir}/log

Try:
  export PATH="${rota%/*}:\$PATH" ROTA_URL=$urls
  rota cluster
  rota task create --command --wait -- date
  rota bench throughput --url http://127.0.0.1:${node_ports[0]} --tasks 100000
  rota cluster transfer
  kill -9 \$(cat $dir/run/node-1.pid)      # the others continue; make cluster starts it again
  $(store_hint)

Kill the leader between two ticks of a schedule:
  rota schedule create beat --every 3s --command -- date
  rota cluster                             # names the leader, such as node-2
  kill -9 \$(cat $dir/run/node-2.pid)      # another node leads within seconds
  rota schedule ticks beat                 # each tick has one outcome, also those of the time without a leader
  rota schedule delete beat
  make cluster                             # starts the killed node again

Stop it with: make cluster-down
END
}

down() {
    local group pid all=0
    for dir in "$root/etcd" "$root/redis" "$root/consul"; do
        # Stop workers first, so that they can give back their tasks; then the nodes; then the store.
        for group in worker- node- etcd- sentinel- redis- consul-; do
            end_group "$group"
        done
        rm -f "$dir"/run/*.pid
    done
    if [ "$all" = 0 ]; then
        echo "No cluster is running here."
    else
        echo "Stopped $all processes. Data and logs are still in $root."
    fi
}

# Ends the processes whose names begin with the argument, and counts them in `all`.
end_group() {
    local running
    running=$(pids "$1")
    for pid in $running; do
        kill "$pid" 2>/dev/null && all=$((all + 1))
        # A process stopped with SIGSTOP gets the signal only after SIGCONT.
        kill -CONT "$pid" 2>/dev/null || true
    done
    # Longer than the drain_timeout of a worker (30 s).
    for _ in $(seq 350); do
        [ -n "$(pids "$1")" ] || break
        sleep 0.1
    done
    for pid in $(pids "$1"); do
        echo "killed process $pid, which did not end in time" >&2
        kill -9 "$pid" 2>/dev/null || true
    done
}

case ${1:-} in
    up) up ;;
    down) down ;;
    *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
