#!/usr/bin/env bash
# Runs all tests of the workspace and ends with their counts. cargo-nextest is used where it is
# installed: it runs the slow tests of real processes beside the others.
set -euo pipefail
cd "$(dirname "$0")/.."

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# The tests of real processes start the binary, which is built along with them: alone it would have
# other features of its dependencies, and all would be built twice.
# It has the points at which a test can have it crash, which no shipped build has.
points=rota/fail-points
cargo build --workspace --lib --bins --tests --examples --locked --features "$points"

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --features "$points" --no-fail-fast 2>&1 | tee -a "$log" || failed=1
    cargo test --workspace --locked --features "$points" --doc 2>&1 | tee -a "$log" || failed=1
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
