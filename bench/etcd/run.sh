#!/usr/bin/env bash
# Measures throughput over etcd: `bench/etcd/run.sh ROTA MEMBERS [TASKS]`. ROTA is the binary, MEMBERS the number of
# members of etcd, TASKS the number of tasks [default: 100000]. etcd has its default settings, except for a larger quota.
# Everything runs on this machine, in a temporary directory that is removed afterwards.
set -euo pipefail

rota=$1 members=$2 tasks=${3:-100000}
dir=$(mktemp -d)
pids=()
end() {
    kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap end EXIT

cluster= endpoints=
for member in $(seq "$members"); do
    cluster+=${cluster:+,}e$member=http://127.0.0.1:$((23800 + member))
    endpoints+=${endpoints:+,}127.0.0.1:$((23700 + member))
done
for member in $(seq "$members"); do
    client=http://127.0.0.1:$((23700 + member)) peer=http://127.0.0.1:$((23800 + member))
    etcd --name "e$member" --data-dir "$dir/e$member" --log-level error \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$cluster" \
        --quota-backend-bytes 4294967296 \
        >"$dir/e$member.log" 2>&1 &
    pids+=($!)
done

url=http://127.0.0.1:23920
"$rota" server --insecure-no-auth --node=bench --listen=127.0.0.1:23920 --store="etcd://$endpoints/bench" \
    --store-etcd-quota-bytes=4294967296 >"$dir/node.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    curl -fs -o /dev/null --max-time 2 "$url/readyz" && break
    sleep 0.2
done
"$rota" bench throughput --url "$url" --tasks "$tasks"
