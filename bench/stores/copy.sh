#!/usr/bin/env bash
# Measures `rota store copy` from an embedded store to etcd, and reports the seconds and the checksum of both.
# `bench/stores/copy.sh [TASKS]`: so many live tasks with payloads of 256 bytes, a million by default. Needs a release build
# of rota and etcd. With TO=URL, it copies to that (empty) store instead. With ROTA=PROGRAM, it measures that program.
# With DATA=DIRECTORY, it keeps the filled store there and uses it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
tasks=${1:-1000000}
rota=$(realpath "${ROTA:-${CARGO_TARGET_DIR:-target}/release/rota}")
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
data=${DATA:-$dir/data}

if [ ! -e "$data" ]; then
    echo "Filling an embedded store with $tasks live tasks"
    "$rota" bench restart --data "$data" --backlog "$tasks" -o json >"$dir/filled.json"
fi

if [ -z "${TO:-}" ]; then
    etcd --data-dir "$dir/etcd" --quota-backend-bytes=8589934592 \
        --listen-client-urls http://127.0.0.1:17022 --advertise-client-urls http://127.0.0.1:17022 \
        --listen-peer-urls http://127.0.0.1:17023 --initial-advertise-peer-urls http://127.0.0.1:17023 \
        --initial-cluster default=http://127.0.0.1:17023 >"$dir/etcd.log" 2>&1 &
    TO='etcd://127.0.0.1:17022/rota?quota_bytes=8589934592'
    until etcdctl --endpoints 127.0.0.1:17022 endpoint health >/dev/null 2>&1; do sleep 0.2; done
fi

began=$(date +%s.%N)
"$rota" store copy "file:$data" "$TO" -o json >"$dir/copied.json"
ended=$(date +%s.%N)
jq -r --argjson began "$began" --argjson ended "$ended" '
    "copied \(.to.records) records with \(.to.spaces.live.records) live tasks in \($ended - $began | . * 10 | floor / 10) s",
    "checksum of FROM \(.from.checksum)", "checksum of TO   \(.to.checksum)"' "$dir/copied.json"
