#!/usr/bin/env bash
# Starts `rota dev` with a prefix of words, such as `chroot DIR`, and runs the line that its banner shows with the same
# prefix. So it does what a new user does. Prints how long both took.
#
#   first-task.sh HOME PREFIX…
set -euo pipefail
home=$1
shift
log=$(mktemp)
trap 'kill "$dev" 2>/dev/null || true; wait "$dev" 2>/dev/null || true; rm -f "$log" "$log.err"' EXIT
fail() {
    echo "error: $*" >&2
    cat "$log" "$log.err" >&2
    exit 1
}
now() {
    date +%s%3N
}
begin=$(now)
"$@" sh -c "cd $home && exec env HOME=$home PATH=\"\$PATH\" rota dev --allow-command --listen 127.0.0.1:0" \
    >"$log" 2>"$log.err" </dev/null &
dev=$!
until line=$(grep 'rota task create' "$log"); do
    kill -0 "$dev" 2>/dev/null || fail "rota dev ended"
    [ $(($(now) - begin)) -lt 30000 ] || fail "rota dev showed no banner"
    sleep 0.02
done
shown=$(now)
result=$("$@" sh -c "cd $home && HOME=$home $line") || fail "the first task failed: $result"
grep -qx hello <<<"$(tr -d ' ' <<<"$result")" || fail "the first task has another result: $result"
echo "banner after $((shown - begin)) ms, first result after $(($(now) - begin)) ms"
