#!/usr/bin/env bash
# Measures the cost of metrics: `bench/metrics/cost.sh [ROUNDS] [TASKS]` [default: 30 rounds, 300000 tasks]. Builds the
# last commit with `off.patch`, which adds a switch for metrics. Then `bench-metrics compare` runs this binary in turns
# with metrics off (before) and on (after). It uses one binary, because the code layout alone changes the results of two
# builds by some percent.
set -euo pipefail

here=$(git rev-parse --show-toplevel)
dir=$(mktemp -d)
end() {
    git -C "$here" worktree remove --force "$dir/tree"
    rm -rf "$dir"
}
trap end EXIT

git -C "$here" worktree add --quiet --detach "$dir/tree"
git -C "$dir/tree" apply "$here/bench/metrics/off.patch"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}/metrics-cost
(cd "$dir/tree" && cargo build --release -p rota -p bench-metrics)

bin=$CARGO_TARGET_DIR/release
printf '#!/bin/sh\nROTA_METRICS_OFF=1 exec "%s/rota" "$@"\n' "$bin" >"$dir/off"
printf '#!/bin/sh\nexec "%s/rota" "$@"\n' "$bin" >"$dir/on"
chmod +x "$dir/off" "$dir/on"
"$bin/bench-metrics" compare "$dir/off" "$dir/on" "${1:-30}" "${2:-300000}"
