#!/bin/sh
# Counts the instructions that the state machine takes for the whole way of a task (submit, assign, complete,
# and the ticks in between), at another commit and here, and prints the ratio. Unlike times, the counts are the
# same in every run, so they show a difference of one percent on a busy machine.
#
#   bench/core/instructions.sh COMMIT [TASKS]
#
# TASKS is the number of other tasks that wait [default: 10000]. Needs valgrind and the history of the repository.
set -eu
base=${1:?usage: instructions.sh COMMIT [TASKS]}
tasks=${2:-10000}
cd "$(dirname "$0")/../.."
there=target/instructions/$(git rev-parse --short "$base")
[ -d "$there" ] || git worktree add --quiet --detach "$there" "$base"

# count DIRECTORY FIGURE: build the benchmark of that directory and count.
count() {
    (cd "$1" && cargo build --quiet --release --package bench-core)
    program=${CARGO_TARGET_DIR:-$1/target}/release/bench-core
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" cycle "$2" "$tasks" 2>&1 >/dev/null |
        sed -n 's/.*Collected : //p'
}

for figure in scheduled unserved ahead; do
    before=$(count "$there" "$figure")
    now=$(count . "$figure")
    echo "$figure $before $now" | awk '{ printf "%-10s before %.0f, now %.0f instructions: %.3f\n", $1, $2, $3, $3 / $2 }'
done
git worktree remove --force "$there"
