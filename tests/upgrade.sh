#!/usr/bin/env bash
# Upgrades and downgrades a cluster, with older versions built from the history. The first run takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --package rota --locked --features rota/fail-points
exec cargo test --package rota-tests --locked --test upgrade -- --nocapture --ignored --test-threads 1
