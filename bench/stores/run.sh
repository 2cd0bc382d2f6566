#!/usr/bin/env bash
# Compares the stores of a cluster in one run: tasks from submission to completion, and the latency from submission to
# start at 300 tasks a second. One server of each store, one node each, all on this machine, every commit on disk.
# `bench/stores/run.sh [ROUNDS]`; needs a release build of rota and the tools of tests/install.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
rota=$(realpath "${CARGO_TARGET_DIR:-target}/release/rota")
servers=$(realpath "${CARGO_TARGET_DIR:-target}/tools/servers")
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

etcd_on() {
    "$1" --data-dir "$dir/etcd-$2" --quota-backend-bytes=4294967296 \
        --listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
        --listen-peer-urls "http://127.0.0.1:$(($2 + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$(($2 + 1))" \
        --initial-cluster "default=http://127.0.0.1:$(($2 + 1))" >"$dir/etcd-$2.log" 2>&1 &
}

redis-server --port 17001 --appendonly yes --appendfsync always --save '' --dir "$dir" >"$dir/redis.log" &
etcd_on etcd 17002
etcd_on "$servers/etcd-3.5/usr/bin/etcd" 17012
"$servers/consul-1.8/usr/bin/consul" agent -server -bootstrap-expect=1 -data-dir="$dir/consul" -bind=127.0.0.1 \
    -client=127.0.0.1 -http-port=17500 -dns-port=-1 -log-level=err >"$dir/consul.log" 2>&1 &
sleep 7

names=(redis-7.0 etcd-3.4 etcd-3.5 consul-1.8)
urls=(redis://127.0.0.1:17001/0 'etcd://127.0.0.1:17002/rota?quota_bytes=4294967296'
    'etcd://127.0.0.1:17012/rota?quota_bytes=4294967296' consul://127.0.0.1:17500/rota)
for i in "${!names[@]}"; do
    "$rota" server --listen "127.0.0.1:$((17460 + i))" --store "${urls[$i]}" >"$dir/node-$i.log" 2>&1 &
done
for i in "${!names[@]}"; do
    until curl -fs -o /dev/null "http://127.0.0.1:$((17460 + i))/readyz"; do sleep 0.2; done
done

for round in $(seq "$rounds"); do
    for i in "${!names[@]}"; do
        "$rota" bench throughput --url "http://127.0.0.1:$((17460 + i))" --tasks 100000 -o json |
            jq -r --arg name "${names[$i]}" --arg round "$round" '"round \($round)  \($name)  \(.tasks_per_second | floor) tasks/s"'
    done
done
for i in "${!names[@]}"; do
    "$rota" bench latency --url "http://127.0.0.1:$((17460 + i))" --rate 300 -o json |
        jq -r --arg name "${names[$i]}" '"\($name)  p50 \(.submit_to_start.p50_ms) ms  p99 \(.submit_to_start.p99_ms) ms"'
done
