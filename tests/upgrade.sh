#!/usr/bin/env bash
# Upgrades and downgrades a cluster. Builds the older versions from the history, so the first run takes
# minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --package rota --locked --features rota/fail-points
exec cargo test --package rota-tests --locked --test upgrade -- --nocapture --ignored --test-threads 1
