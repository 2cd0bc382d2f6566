#!/bin/sh
# A Rota worker in shell, with curl and jq: runs PROGRAM for every task of a kind.
#
#   worker.sh KIND PROGRAM [ARGUMENT]...
#
# The program gets the task's payload on standard input and finds ROTA_TASK_ID, ROTA_ATTEMPT and
# ROTA_LEASE_TOKEN (the fencing token) in its environment. Exit code 0 completes the task: what was
# printed is its result, as JSON if it is JSON, else as a text. 65 (EX_DATAERR) fails it for good;
# every other code is a failed attempt, tried again as the task's policy says. When the task is
# cancelled, or is no longer this worker's, the program gets SIGTERM and, 5 s later, SIGKILL; where there
# is setsid, all that it started gets them too.
#
# Settings: ROTA_URL (http://127.0.0.1:7420), ROTA_TOKEN (none), ROTA_NAME (the host's name and this
# process's number), ROTA_TTL (60s): silent for so long, the worker is taken for gone; its heartbeat
# comes three times as often, and at least every 5 s. SIGTERM and SIGINT end it after the task in hand.
set -u

kind=${1:?usage: worker.sh KIND PROGRAM [ARGUMENT]...}
shift
url=${ROTA_URL:-http://127.0.0.1:7420}
name=${ROTA_NAME:-$(uname -n | tr -cd 'A-Za-z0-9.-')-$$}
ttl=${ROTA_TTL:-60s}

umask 077
dir=$(mktemp -d)
stop=
waiting=
every=$((${ttl%s} / 3))
[ "$every" -le 5 ] || every=5
# A program gets a process group of its own, so that all of it can be stopped.
alone=$(command -v setsid)

# The session is ours to choose, so that it can be ended although the answer that names it was lost.
choose_session() {
    session=s_0$(LC_ALL=C tr -dc 0-9a-hjkmnp-tv-z </dev/urandom | head -c 12)
}

finish() {
    # Ending the session gives to others what it still has.
    api DELETE "/v1/sessions/$session" </dev/null >/dev/null 2>&1
    rm -rf "$dir"
}
choose_session
trap finish EXIT
trap 'stop=1; [ -z "$waiting" ] || kill "$waiting" 2>/dev/null' TERM INT

# The token stands in a file: arguments show in the list of processes.
{
    echo 'content-type: application/json'
    [ -z "${ROTA_TOKEN:-}" ] || echo "authorization: Bearer $ROTA_TOKEN"
} >"$dir/headers"
# The program must not inherit it.
unset ROTA_TOKEN

# api METHOD PATH: sends standard input, prints the answer; fails unless it is 2xx.
api() {
    curl --silent --show-error --fail-with-body --max-time 90 \
        --header "@$dir/headers" --request "$1" --data-binary @- "$url$2"
}

# report VERB ID, the latter as it stands in a path: sends standard input again and again until somebody answers. A refusal says that the
# lease is no longer ours: the task is another's, or was cancelled.
report() {
    cat >"$dir/report"
    for pause in 1 1 2 4 8 16; do
        answer=$(api POST "/v1/tasks/$2/$1" <"$dir/report" 2>"$dir/problem") && return
        case $answer in
        *'"status":4'*) echo "$2: $(echo "$answer" | jq -r .detail)" >&2 && return ;;
        esac
        sleep "$pause"
    done
    echo "$2: not reported: $(cat "$dir/problem")" >&2
}

end_program() {
    program=${alone:+-}$(cat "$dir/program")
    kill -s TERM -- "$program"
    sleep 5
    kill -s KILL -- "$program"
}

# Says that the worker lives, until it is told to stop the task: then ends the program and notes why.
# A session that is over has lost the task. It ends with the file too: a signal may come before the shell
# that runs this can be ended by one.
beat() {
    while sleep "$every" && [ -e "$dir/at_work" ]; do
        api POST "/v1/sessions/$session/heartbeat" </dev/null |
            jq -r --argjson token "$token" 'if .status == 404 then "lease_lost" else
                .stop[]? | select(.lease_token == $token) | .reason end' >"$dir/told"
        [ -s "$dir/told" ] || continue
        mv "$dir/told" "$dir/why"
        end_program
        return
    done
}

work() {
    id=$(jq -r '.tasks[0].id' "$dir/lease")
    # An id may have a slash.
    path=$(jq -r '.tasks[0].id | @uri' "$dir/lease")
    token=$(jq -r '.tasks[0].lease_token' "$dir/lease")
    attempt=$(jq -r '.tasks[0].attempt' "$dir/lease")
    jq -c '.tasks[0].payload' "$dir/lease" >"$dir/payload"
    : >"$dir/why"
    : >"$dir/at_work"
    beat >/dev/null 2>&1 &
    beating=$!
    # shellcheck disable=SC2016 # The inner shell expands it.
    ROTA_TASK_ID=$id ROTA_ATTEMPT=$attempt ROTA_LEASE_TOKEN=$token \
        $alone sh -c 'echo $$ >"$0" && exec "$@"' "$dir/program" "$@" \
        <"$dir/payload" >"$dir/out" 2>"$dir/err"
    code=$?
    rm -f "$dir/at_work"
    kill "$beating" 2>/dev/null
    why=$(cat "$dir/why")
    tail -c 65536 "$dir/err" >"$dir/tail"
    if [ "$code" = 0 ]; then
        jq -n --argjson token "$token" --rawfile out "$dir/out" --rawfile tail "$dir/tail" \
            '{lease_token: $token, result: ($out | try fromjson catch $out), output_tail: $tail}' |
            report complete "$path"
    elif [ "$why" = cancelled ]; then
        jq -n --argjson token "$token" --rawfile tail "$dir/tail" \
            '{lease_token: $token, output_tail: $tail}' |
            report cancelled "$path"
    elif [ -n "$why" ]; then
        # No report would be accepted.
        echo "$id: stopped: $why" >&2
    else
        jq -n --argjson token "$token" --arg code "$code" --rawfile tail "$dir/tail" \
            '{lease_token: $token, error: "exit code \($code)", permanent: ($code == "65"),
              output_tail: $tail}' |
            report fail "$path"
    fi
}

while [ -z "$stop" ]; do
    jq -n --arg worker "$name" --arg kind "$kind" --arg ttl "$ttl" --arg session "$session" \
        '{worker: $worker, session: $session, kinds: [$kind], max: 1, wait: "20s", ttl: $ttl, held: []}' \
        >"$dir/ask"
    # In the background, so that a signal does not have to wait for the end of the poll.
    api POST /v1/leases <"$dir/ask" >"$dir/lease" 2>"$dir/problem" &
    waiting=$!
    wait "$waiting"
    answered=$?
    count=$(jq '.tasks | arrays | length' "$dir/lease" 2>/dev/null)
    if [ "$answered" = 0 ] && [ -n "$count" ]; then
        [ "$count" = 0 ] || work "$@"
        [ "$(jq .draining "$dir/lease")" != true ] || stop=1
    elif [ "$answered" = 0 ]; then
        echo "$url gave an answer that is not Rota's (a proxy?); trying again" >&2
        sleep 1
    elif [ -z "$stop" ]; then
        case $(jq -r .status "$dir/lease" 2>/dev/null) in
        404 | 409) choose_session ;; # It has ended, or is another's: the next call opens another.
        *) cat "$dir/problem" >&2 && sleep 1 ;;
        esac
    fi
    waiting=
done
