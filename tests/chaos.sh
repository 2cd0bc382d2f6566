#!/usr/bin/env bash
# Injects faults into a cluster under load: `tests/chaos.sh [STORE] [SEED] [DURATION] [FAULTS]`. STORE is etcd (the
# default), redis or consul. On redis it runs twice: once where commits wait for a replica, and once where they do not and
# each loss must be told. Without SEED, it draws a seed and prints it. Without DURATION, it injects every fault once.
# FAULTS (`Kill,CutLeader`) selects the faults whose names begin with one of these words.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-etcd} in
    etcd) runs=(hurt_in_every_way_nothing_is_lost_and_nothing_ends_twice hurt_in_every_way_each_tick_of_a_schedule_is_decided_once) ;;
    redis) runs=(hurt_in_every_way_nothing_is_lost_on_redis_with_replicas hurt_in_every_way_each_loss_of_redis_is_told) ;;
    consul) runs=(hurt_in_every_way_nothing_is_lost_on_consul) ;;
    *)
        echo "error: STORE=$1 is not etcd, redis or consul" >&2
        exit 2
        ;;
esac
export ROTA_TEST_SEED="${2:-}" ROTA_TEST_DURATION="${3:-1s}" ROTA_TEST_FAULTS="${4:-}"
cargo build --package rota --locked --features rota/fail-points
# Each in a process of its own, because a process has one network.
for run in "${runs[@]}"; do
    cargo test --package rota-tests --locked --test chaos -- --nocapture --exact "$run"
done
