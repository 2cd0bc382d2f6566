#!/usr/bin/env bash
# Runs a cluster on this machine, in the background: three members of etcd, three nodes, three workers.
# `cluster.sh up` starts the processes that do not run yet, `cluster.sh down` ends all of them. Data and
# logs are in ./cluster-data (or CLUSTER_DIR) and stay there.
set -euo pipefail
cd "$(dirname "$0")/../.."

dir=$(realpath -m "${CLUSTER_DIR:-cluster-data}")
rota=$(realpath -m "${CARGO_TARGET_DIR:-target}/release/rota")
client_ports=(12379 22379 32379)
peer_ports=(12380 22380 32380)
node_ports=(7420 7421 7422)

urls=$(printf 'http://127.0.0.1:%s,' "${node_ports[@]}")
urls=${urls%,}

need() {
    local missing=()
    command -v etcd >/dev/null || missing+=(etcd-server)
    command -v etcdctl >/dev/null || missing+=(etcd-client)
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
    echo "error: $name did not become ready. The end of $dir/log/$name.log:" >&2
    tail -n 5 "$dir/log/$name.log" >&2
    echo "make cluster-down ends the processes started so far." >&2
    exit 1
}

up() {
    need
    cargo build --quiet --release --package rota --locked
    mkdir -p "$dir/run" "$dir/log"
    local members='' i j
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
    for i in 0 1 2; do
        # Each node lists another member first, so that the members share the load.
        local endpoints=''
        for j in 0 1 2; do
            endpoints+="127.0.0.1:${client_ports[$(((i + j) % 3))]},"
        done
        start "node-$((i + 1))" "${node_ports[$i]}" \
            "$rota" server --node "node-$((i + 1))" \
            --listen "127.0.0.1:${node_ports[$i]}" --store "etcd://${endpoints%,}/rota"
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
The cluster is running: three members of etcd, three nodes, three workers.

  nodes    ${node_ports[*]/#/http://127.0.0.1:}    (API documentation at /docs)
  etcd     ${client_ports[*]/#/127.0.0.1:}
  logs     ${dir}/log

Try:
  export PATH="${rota%/*}:\$PATH" ROTA_URL=$urls
  rota cluster
  rota task create --command --wait -- date
  rota bench throughput --url http://127.0.0.1:${node_ports[0]} --tasks 100000
  rota cluster transfer
  kill -9 \$(cat $dir/run/node-1.pid)      # the others continue; make cluster starts it again
  ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:${client_ports[0]} get --prefix rota/ --keys-only

Stop it with: make cluster-down
END
}

down() {
    local group pid all=0
    # Stop workers first, so that they can give back their tasks; then the nodes; then the store.
    for group in worker- node- etcd-; do
        local running
        running=$(pids "$group")
        for pid in $running; do
            kill "$pid" 2>/dev/null && all=$((all + 1))
            # A process stopped with SIGSTOP gets the signal only after SIGCONT.
            kill -CONT "$pid" 2>/dev/null || true
        done
        # Longer than the drain_timeout of a worker (30 s).
        for _ in $(seq 350); do
            [ -n "$(pids "$group")" ] || break
            sleep 0.1
        done
        for pid in $(pids "$group"); do
            echo "killed process $pid, which did not end in time" >&2
            kill -9 "$pid" 2>/dev/null || true
        done
    done
    rm -f "$dir"/run/*.pid
    if [ "$all" = 0 ]; then
        echo "No cluster is running here."
    else
        echo "Stopped $all processes. Data and logs are still in $dir."
    fi
}

case ${1:-} in
    up) up ;;
    down) down ;;
    *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
