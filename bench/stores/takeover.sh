#!/usr/bin/env bash
# Measures on each shared store how long it takes from the kill of the leader until another node accepts a task, and until
# that task is done, while many tasks live: `bench/stores/takeover.sh [ROUNDS]`. Needs the tools of tests/install.sh.
# The TTL of a leader is 3 s, and 10 s on Consul, whose sessions last up to twice that.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --package rota --locked --features rota/fail-points
for _ in $(seq "${1:-1}"); do
    cargo test --quiet --package rota-tests --locked --test takeover -- --nocapture --test-threads 1 |
        grep --only-matching --perl-regexp '\w+, \d+ live tasks: .*'
done
