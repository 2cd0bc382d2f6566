#!/usr/bin/env bash
# Measures on each shared store how long it takes from the kill of the leader until another node accepts a task, and until
# that task is done, while many tasks live: `bench/stores/takeover.sh [ROUNDS]`. Needs the tools of tests/install.sh.
# The TTL of a leader is 3 s, and 10 s on Consul, whose sessions last up to twice that.
set -euo pipefail
cd "$(dirname "$0")/../.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --package rota --locked --features rota/fail-points
for _ in $(seq "${1:-1}"); do
    # Each in a process of its own, because a process has one network.
    for test in a_hundred_thousand_live_tasks_are_taken_over_in_time \
        live_tasks_are_taken_over_in_time_on_{etcd_3_5,redis,consul}; do
        cargo test --quiet --package rota-tests --locked --test takeover -- \
            --nocapture --exact "$test" 2>"$log" |
            grep --only-matching --perl-regexp '\w+, \d+ live tasks: .*' || { tail -n 40 "$log" >&2; exit 1; }
    done
done
