#!/usr/bin/env bash
# Makes the pictures of the dashboard in this folder, from a real server with real tasks: `docs/screenshots/make.sh [ROTA]`.
# Needs chromium. ROTA is the program, target/debug/rota by default.
set -euo pipefail
cd "$(dirname "$0")/../.."

rota=${1:-target/debug/rota}
home="$(mktemp -d)"
address=127.0.0.1:7591
trap 'kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$home"' EXIT

"$rota" dev --allow-command --store "file://$home/data" --listen "$address" >"$home/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    curl --silent --fail "http://$address/readyz" >"$home/ready" && break
    sleep 0.2
done
# The node draws curves over the time since somebody first looked, with a point every 10 seconds.
curl --silent --fail --output "$home/first" "http://$address/ui/"

task() { "$rota" --url "http://$address" task create "$@" >"$home/created"; }

for number in $(seq 1 7); do
    task --queue mail --max-attempts 1 --label customer="$number" --command -- sh -c "echo sent to customer $number"
done
for number in 1 2 3 4 5; do
    task --queue mail --max-attempts 1 --command -- sh -c "echo 'smtp 10.0.0.$number: timed out after ${number}00 ms' >&2; exit 75"
done
task --queue thumbnails --max-attempts 3 --command -- convert missing.png small.jpg
task --id report/2026-11-27 --queue reports --description "Nightly report of sales" --max-attempts 2 \
    --command -- sh -c 'echo reading 4,812 orders; sleep 1; echo writing report.pdf; exit 3'
task --id import/products --queue imports --priority 7 --command -- sh -c 'for i in $(seq 60); do echo "row $i"; sleep 1; done'
task --queue exports --kind export.csv --payload '{"table": "orders", "from": 9007199254740993}'
"$rota" --url "http://$address" queue pause exports >"$home/created"
"$rota" --url "http://$address" schedule create cleanup --cron '*/5 * * * *' --command -- echo clean >"$home/created"
sleep 45

# Names a picture, its page, its size, and the colours: 0 is dark, 1 is light.
picture() {
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$home/browser" \
        --blink-settings=preferredColorScheme="$4" --virtual-time-budget=2000 --window-size="$3" \
        --screenshot="docs/screenshots/$1.png" "http://$address/ui/$2" 2>"$home/browser.log"
}

picture overview "" 1440,860 1
picture overview-dark "" 1440,860 0
picture tasks tasks 1440,900 1
picture task 'task?id=report%2F2026-11-27' 1440,1150 1
picture failures failures 1440,640 1
