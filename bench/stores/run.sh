#!/usr/bin/env bash
# Compares the stores of a cluster in one run: tasks from submission to completion, and the latency from submission to
# start at 300 tasks a second. One server of each store and a cluster of three Consul servers, one node each, all on this
# machine, every commit on disk. Then the rate at which the bare Redis stores values with the bytes of Rota's batches.
# `bench/stores/run.sh [ROUNDS] [ROTA]`; needs a build of rota (by default the release build) and the tools of
# tests/install.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
rota=$(realpath "${2:-${CARGO_TARGET_DIR:-target}/release/rota}")
servers=$(realpath "${CARGO_TARGET_DIR:-target}/tools/servers")
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

etcd_on() {
    "$1" --data-dir "$dir/etcd-$2" --quota-backend-bytes=4294967296 \
        --listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
        --listen-peer-urls "http://127.0.0.1:$(($2 + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$(($2 + 1))" \
        --initial-cluster "default=http://127.0.0.1:$(($2 + 1))" >"$dir/etcd-$2.log" 2>&1 &
}

consul_on() {
    "$servers/consul-1.8/usr/bin/consul" agent -server -bind=127.0.0.1 -client=127.0.0.1 -dns-port=-1 -log-level=err \
        -node="$1" -data-dir="$dir/consul-$1" -http-port="$2" "${@:3}" >"$dir/consul-$1.log" 2>&1 &
}

redis-server --port 17001 --appendonly yes --appendfsync always --save '' --dir "$dir" >"$dir/redis.log" &
etcd_on etcd 17002
etcd_on "$servers/etcd-3.5/usr/bin/etcd" 17012
consul_on alone 17500 -bootstrap-expect=1
for i in 1 2 3; do
    consul_on "of-three-$i" "$((17500 + 10 * i))" -bootstrap-expect=3 -server-port="$((17501 + 10 * i))" \
        -serf-lan-port="$((17502 + 10 * i))" -serf-wan-port="$((17503 + 10 * i))" -retry-join=127.0.0.1:17512
done
sleep 7

names=(redis-7.0 etcd-3.4 etcd-3.5 consul-1.8 'consul-1.8, three servers')
urls=(redis://127.0.0.1:17001/0 'etcd://127.0.0.1:17002/rota?quota_bytes=4294967296'
    'etcd://127.0.0.1:17012/rota?quota_bytes=4294967296' consul://127.0.0.1:17500/rota
    'consul://127.0.0.1:17510,127.0.0.1:17520,127.0.0.1:17530/rota')
for i in "${!names[@]}"; do
    "$rota" server --listen "127.0.0.1:$((17460 + i))" --store "${urls[$i]}" >"$dir/node-$i.log" 2>&1 &
done
for i in "${!names[@]}"; do
    until curl -fs -o /dev/null "http://127.0.0.1:$((17460 + i))/readyz"; do sleep 0.2; done
done

redis_info() { redis-cli -p 17001 info all | tr -d '\r'; }
# Calls of scripts, and bytes that Redis received.
redis_totals() {
    redis_info | sed -n 's/^cmdstat_evalsha:calls=\([0-9]*\).*/\1/p; s/^total_net_input_bytes://p' | sort -n | paste -sd ' '
}

for round in $(seq "$rounds"); do
    read -r calls_before bytes_before <<<"$(redis_totals)"
    for i in "${!names[@]}"; do
        "$rota" bench throughput --url "http://127.0.0.1:$((17460 + i))" --tasks 100000 -o json |
            jq -r --arg name "${names[$i]}" --arg round "$round" '"round \($round)  \($name)  \(.tasks_per_second | floor) tasks/s"'
        if [ "$i" = 0 ]; then
            read -r calls bytes <<<"$(redis_totals)"
            batches=$((calls - calls_before)) size=$(((bytes - bytes_before) / (calls - calls_before)))
            for clients in 1 4; do
                redis-benchmark -p 17001 -c "$clients" -n 20000 -d "$size" -r 1000 --csv -t set |
                    awk -F '"' -v c="$clients" -v n="$batches" -v size="$size" 'END {
                        printf "  the bare server, values of %d bytes, %d clients: %d a second, as many as %d tasks/s\n",
                            size, c, $4, $4 * 100000 / n }'
            done
        fi
    done
done
for i in "${!names[@]}"; do
    "$rota" bench latency --url "http://127.0.0.1:$((17460 + i))" --rate 300 -o json |
        jq -r --arg name "${names[$i]}" '"\($name)  p50 \(.submit_to_start.p50_ms) ms  p99 \(.submit_to_start.p99_ms) ms"'
done
