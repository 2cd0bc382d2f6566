#!/usr/bin/env bash
# Hurts a cluster under load: `tests/chaos.sh [SEED] [DURATION] [FAULTS]`. Without a seed, one is drawn
# and printed; without a duration, every fault strikes once; with names of faults (`Kill,CutLeader`), only
# those whose names begin so do.
set -euo pipefail
cd "$(dirname "$0")/.."

export ROTA_TEST_SEED="${1:-}" ROTA_TEST_DURATION="${2:-1s}" ROTA_TEST_FAULTS="${3:-}"
cargo build --package rota --locked --features rota/fail-points
exec cargo test --package rota-tests --locked --test chaos -- --nocapture hurt_in_every_way
