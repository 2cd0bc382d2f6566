#!/usr/bin/env bash
# Compares the time of each suite with its budget in tests/budget.tsv: `tests/budget.sh LOG SECONDS`, where LOG is the
# output of cargo-nextest and SECONDS the time of the whole run. Fails if a suite, or the run, is above its limit.
set -euo pipefail
cd "$(dirname "$0")/.."

awk -v seconds="$2" '
    BEGIN { FS = "\t" }
    FILENAME == ARGV[1] {
        if ($0 !~ /^#/ && NF == 3) { budget[$1] = $2; limit[$1] = $3 }
        next
    }
    { gsub(/\033\[[0-9;]*m/, "") }
    # "        PASS [   0.113s] ( 12/918) rota-core machine::tests::counts::one". A test that fails is listed again
    # at the end. A suite is a crate, or a test binary of the crate rota-tests.
    /^ +[A-Z]+ +\[ *[0-9.]+s\]/ && !/Summary/ {
        line = $0
        sub(/^[^[]*\[ */, "", line)
        time = line + 0
        sub(/^[^]]*\] */, "", line)
        sub(/^\([^)]*\) */, "", line)
        if (line in seen) next
        seen[line] = 1
        suite = line
        sub(/ .*/, "", suite)
        if (suite !~ /^rota-tests::/) sub(/::.*/, "", suite)
        times[suite] += time
    }
    function check(suite, time, output,    row, note) {
        row = suite in budget ? suite : "other"
        note = time > limit[row] ? "ABOVE THE LIMIT" : time > budget[row] ? "above the budget" : ""
        if (time > limit[row]) failed = 1
        printf "%-26s %8.1f %8d %8d  %s\n", suite, time, budget[row], limit[row], note | output
    }
    END {
        printf "%-26s %8s %8s %8s\n", "suite", "seconds", "budget", "limit" | "cat"
        close("cat")
        for (suite in times) check(suite, times[suite], "sort")
        close("sort")
        check("total", seconds, "cat")
        close("cat")
        exit failed
    }
' tests/budget.tsv "$1"
