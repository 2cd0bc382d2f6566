#!/usr/bin/env bash
# Injects faults into a cluster under load: `tests/chaos.sh [SEED] [DURATION] [FAULTS]`. Without SEED, it
# draws a seed and prints it. Without DURATION, it injects every fault once. FAULTS (`Kill,CutLeader`)
# selects the faults whose names begin with one of these words.
set -euo pipefail
cd "$(dirname "$0")/.."

export ROTA_TEST_SEED="${1:-}" ROTA_TEST_DURATION="${2:-1s}" ROTA_TEST_FAULTS="${3:-}"
cargo build --package rota --locked --features rota/fail-points
exec cargo test --package rota-tests --locked --test chaos -- --nocapture hurt_in_every_way
