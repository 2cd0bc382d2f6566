#!/bin/sh
# A Rota worker in shell, with curl and jq. It runs PROGRAM for every task of one kind.
#
#   worker.sh KIND PROGRAM [ARGUMENT]...
#
# The program gets the payload of the task on standard input, and in its environment ROTA_TASK_ID, ROTA_QUEUE,
# ROTA_KIND, ROTA_ATTEMPT, ROTA_LEASE_TOKEN (the fencing token), and of a schedule's task ROTA_SCHEDULE,
# ROTA_NOMINAL_TIME, ROTA_PREVIOUS_TIME, ROTA_LAST_SUCCESS_TIME and ROTA_ACTUAL_TIME (the start of the attempt).
# TRACEPARENT is set if the task has a trace.
#
# Exit code 0 completes the task. Its result is the standard output of the program: JSON if it is
# JSON, text otherwise. Exit code 65 (EX_DATAERR) fails the task permanently. The exit code in ROTA_SNOOZE,
# if that is set, puts the task off without spending an attempt. Any other exit code is a failed attempt,
# which Rota retries by the retry policy of the task.
#
# When the task is cancelled or the lease is lost, the program gets SIGTERM, and SIGKILL 5 s later. If
# setsid is installed, the processes that the program started get them too.
#
# Variables:
#   ROTA_URL    address of the server [default: http://127.0.0.1:7420]
#   ROTA_TOKEN  API token [default: none]
#   ROTA_NAME   name of the worker [default: host name and process id]
#   ROTA_SNOOZE        exit code by which the program puts the task off [default: none]
#   ROTA_SNOOZE_DELAY  how long the task waits then [default: 1m]
#   ROTA_TTL    time without a heartbeat after which the server considers the worker lost, in seconds
#               [default: 60s]. The worker sends a heartbeat every third of it, and at least every 5 s.
#
# SIGTERM and SIGINT end the worker after the current task.
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
# With setsid, the program gets its own process group, so that all of its processes can be stopped.
alone=$(command -v setsid)

# Choose the session id here: then the worker can end the session even if the server's answer was lost.
choose_session() {
    session=s_0$(LC_ALL=C tr -dc 0-9a-hjkmnp-tv-z </dev/urandom | head -c 12)
}

finish() {
    # The end of the session gives its tasks to other workers.
    api DELETE "/v1/sessions/$session" </dev/null >/dev/null 2>&1
    rm -rf "$dir"
}
choose_session
trap finish EXIT
trap 'stop=1; [ -z "$waiting" ] || kill "$waiting" 2>/dev/null' TERM INT

# Keep the token in a file, because the list of processes shows arguments.
{
    echo 'content-type: application/json'
    [ -z "${ROTA_TOKEN:-}" ] || echo "authorization: Bearer $ROTA_TOKEN"
} >"$dir/headers"
# The program must not inherit it.
unset ROTA_TOKEN

# api METHOD PATH: send standard input, print the answer, fail unless its status is 2xx.
api() {
    curl --silent --show-error --fail-with-body --max-time 90 \
        --header "@$dir/headers" --request "$1" --data-binary @- "$url$2"
}

# report VERB ID: send standard input until the server answers. ID is percent-encoded for the path. 404 and 409 mean that
# the lease has ended: the task was cancelled or belongs to another worker. A report that is not valid, such as a result
# that is too large, would be refused again, so the task fails for good with the reason.
report() {
    cat >"$dir/report"
    for pause in 1 1 2 4 8 16; do
        answer=$(api POST "/v1/tasks/$2/$1" <"$dir/report" 2>"$dir/problem") && return
        case $(printf '%s' "$answer" | jq -r .status 2>/dev/null) in
        404 | 409)
            echo "$2: $(printf '%s' "$answer" | jq -r .detail)" >&2
            return
            ;;
        400 | 413)
            echo "$2: $(printf '%s' "$answer" | jq -r .detail)" >&2
            [ "$1" != fail ] || return
            printf '%s' "$answer" | jq --argjson token "$token" \
                '{lease_token: $token, error: .detail, permanent: true}' | report fail "$2"
            return
            ;;
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

# Send heartbeats until the server tells the worker to stop the task. Then end the program and record
# the reason. A heartbeat answered with 404 means that the session has ended and the lease is lost. The
# loop also ends when the file at_work is gone, because the signal that should end this subshell can
# arrive before the subshell handles signals.
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
    # An id can contain a slash, so encode it for the path.
    path=$(jq -r '.tasks[0].id | @uri' "$dir/lease")
    token=$(jq -r '.tasks[0].lease_token' "$dir/lease")
    variables=$(jq -r '.tasks[0] | {ROTA_TASK_ID: .id, ROTA_QUEUE: .queue, ROTA_KIND: .kind, ROTA_ATTEMPT: .attempt,
        ROTA_LEASE_TOKEN: .lease_token, ROTA_SCHEDULE: .tick.schedule, ROTA_NOMINAL_TIME: .tick.nominal_time,
        ROTA_PREVIOUS_TIME: .tick.previous_time, ROTA_LAST_SUCCESS_TIME: .tick.last_success_time,
        ROTA_ACTUAL_TIME: (if .tick then now | todate else null end),
        TRACEPARENT: .traceparent} | to_entries[] | select(.value) | "\(.key)=\(.value)"' "$dir/lease")
    jq -c '.tasks[0].payload' "$dir/lease" >"$dir/payload"
    : >"$dir/why"
    : >"$dir/at_work"
    beat >/dev/null 2>&1 &
    beating=$!
    # shellcheck disable=SC2016,SC2086 # The inner shell expands $0. Names and dates have no spaces or wildcards.
    env $variables $alone sh -c 'echo $$ >"$0" && exec "$@"' "$dir/program" "$@" \
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
    elif [ -z "$why" ] && [ "$code" = "${ROTA_SNOOZE:-none}" ]; then
        jq -n --argjson token "$token" --arg delay "${ROTA_SNOOZE_DELAY:-1m}" --rawfile tail "$dir/tail" \
            '{lease_token: $token, delay: $delay, output_tail: $tail}' |
            report snooze "$path"
    elif [ -n "$why" ]; then
        # The lease has ended: the server would refuse a report.
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
    # Run in the background, so that a signal interrupts the wait.
    api POST /v1/leases <"$dir/ask" >"$dir/lease" 2>"$dir/problem" &
    waiting=$!
    wait "$waiting"
    answered=$?
    count=$(jq '.tasks | arrays | length' "$dir/lease" 2>/dev/null)
    if [ "$answered" = 0 ] && [ -n "$count" ]; then
        [ "$count" = 0 ] || work "$@"
        [ "$(jq .draining "$dir/lease")" != true ] || stop=1
    elif [ "$answered" = 0 ]; then
        echo "unexpected answer from $url; check for a proxy in between (retrying)" >&2
        sleep 1
    elif [ -z "$stop" ]; then
        case $(jq -r .status "$dir/lease" 2>/dev/null) in
        404 | 409) choose_session ;; # The session has ended or belongs to another worker: use a new one.
        *) cat "$dir/problem" >&2 && sleep 1 ;;
        esac
    fi
    waiting=
done
