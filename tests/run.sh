#!/usr/bin/env bash
# Runs all tests of the workspace, and prints their counts at the end. Uses cargo-nextest if it is
# installed, because it runs the slow tests of real processes in parallel with the others. Then it also
# compares the time of each suite with tests/budget.tsv.
set -euo pipefail
cd "$(dirname "$0")/.."

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# Build the binary, which the tests of real processes start, together with the tests. Built alone, its
# dependencies would have other features and would be compiled twice. The feature fail-points lets tests
# crash the binary at chosen points. No shipped build has it.
points=rota/fail-points
cargo build --workspace --lib --bins --tests --examples --locked --features "$points"

if cargo nextest --version >/dev/null 2>&1; then
    # One more than there are processors, because many tests wait for a disk or for the end of a lease.
    cargo nextest run --workspace --locked --features "$points" --no-fail-fast --test-threads $(($(nproc) + 1)) 2>&1 | tee -a "$log" || failed=1
    cargo test --workspace --locked --features "$points" --doc 2>&1 | tee -a "$log" || failed=1
    tests/budget.sh "$log" "$SECONDS" || [ -z "${BUDGET_HOLDS:-}" ] || failed=1
else
    cargo test --workspace --locked --features "$points" --no-fail-fast 2>&1 | tee -a "$log" || failed=1
fi

# nextest: "Summary [ 1.2s] 90 tests run: 88 passed (1 slow), 2 failed, 0 skipped";
# cargo: "test result: ok. 4 passed; 0 failed; 1 ignored; …".
awk '
    /Summary \[/ || /^test result:/ {
        gsub(/\([^)]*\)|[,;.:]/, " ")
        for (i = 2; i <= NF; i++) {
            if ($i == "passed") passed += $(i - 1)
            if ($i == "failed") failed += $(i - 1)
            if ($i == "skipped" || $i == "ignored") skipped += $(i - 1)
        }
    }
    END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "$log"
exit "${failed:-0}"
