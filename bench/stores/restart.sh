#!/usr/bin/env bash
# Measures how long a node that was killed takes to be ready again, by store: `bench/stores/restart.sh [TASKS] [ROTA]`.
# One server of each store with TASKS live tasks of some 300 bytes (1,000,000 by default), due tomorrow, and one node, all
# on this machine. Needs a build of rota (by default the release build) and the tools of tests/install.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
tasks=${1:-1000000}
rota=$(realpath "${2:-${CARGO_TARGET_DIR:-target}/release/rota}")
servers=$(realpath "${CARGO_TARGET_DIR:-target}/tools/servers")
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
node=http://127.0.0.1:17499

serve() {
    "$rota" server --listen 127.0.0.1:17499 --store "$1" >>"$dir/node.log" 2>&1 &
    pid=$!
    until curl -fs -o /dev/null "$node/readyz"; do sleep 0.05; done
}

measure() {
    local name=$1 url=$2 began
    serve "$url"
    for _ in $(seq $((tasks / 1000))); do
        curl -fsS -o /dev/null -H 'content-type: application/json' --data-binary "@$dir/tasks.json" "$node/v1/tasks/batch"
    done
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    began=$(date +%s%N)
    serve "$url"
    printf '%s: ready %s ms after it was started again\n' "$name" $((($(date +%s%N) - began) / 1000000))
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
}

jq -cn '{tasks: [range(1000) | {kind: "k", queue: "backlog", delay: "24h", payload: {n: ., text: ("x" * 240)}}]}' >"$dir/tasks.json"

redis-server --port 17001 --appendonly yes --appendfsync always --save '' --dir "$dir" >"$dir/redis.log" &
until redis-cli -p 17001 ping >"$dir/ping" 2>&1; do sleep 0.1; done
measure 'Redis 7.0' redis://127.0.0.1:17001/0

"$servers/etcd-3.5/usr/bin/etcd" --data-dir "$dir/etcd" --quota-backend-bytes=4294967296 \
    --listen-client-urls http://127.0.0.1:17012 --advertise-client-urls http://127.0.0.1:17012 \
    --listen-peer-urls http://127.0.0.1:17013 --initial-advertise-peer-urls http://127.0.0.1:17013 \
    --initial-cluster default=http://127.0.0.1:17013 >"$dir/etcd.log" 2>&1 &
measure 'etcd 3.5' 'etcd://127.0.0.1:17012/rota?quota_bytes=4294967296'

"$servers/consul-1.8/usr/bin/consul" agent -server -bootstrap-expect=1 -data-dir="$dir/consul" -bind=127.0.0.1 \
    -client=127.0.0.1 -http-port=17500 -dns-port=-1 -log-level=err >"$dir/consul.log" 2>&1 &
measure 'Consul 1.8' 'consul://127.0.0.1:17500/rota?size_bytes_max=4294967296'
