"""*Schedules*: what becomes of the ticks of recurring schedules, and which schedules have problems."""

from .blocks import (
    CLUSTER,
    EIGHTH,
    GREEN,
    GREY,
    HALF,
    RED,
    THIRD,
    WINDOW,
    YELLOW,
    bars,
    board,
    finished,
    graph,
    heatmap,
    quantiles,
    row,
    stat,
    steps,
    table,
    to,
)

LATENESS = f"rota_schedule_lateness_seconds_bucket{{{CLUSTER}}}"
# Only schedules with a problem have series of their own. This stands for them if there are none.
NONE = 'or on () label_replace(vector(0), "schedule", "none", "", "")'


def dashboard():
    """Build the dashboard."""
    about = "Do schedules run, on time? Only schedules with a problem are named."
    made = board("rota-schedules", "Schedules", about)
    for panel in _now():
        made = made.with_panel(panel)
    sections = [("Ticks", _ticks()), ("Lateness", _lateness()), ("Schedules with a problem", _problems())]
    for title, panels in sections:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return finished(made)


def _schedules(state):
    return f'max(rota_schedules{{{CLUSTER}, state="{state}"}})'


def _ticks_per_second(by, selectors=CLUSTER):
    """Each node counts the ticks of the time in which it led, so the sum over the nodes is right."""
    return f"sum by ({by}) (rate(rota_schedule_ticks_total{{{selectors}}}[{WINDOW}]))"


def _now():
    queues = to("rota-queues", "Queues")
    cluster = to("rota-cluster", "Cluster and store")
    missed = f"cluster_schedule:rota_schedule_missed_timestamp_seconds:max{{{CLUSTER}}}"
    failing = f"cluster_schedule:rota_schedule_failures:max{{{CLUSTER}}}"
    return [
        stat("Active", "Schedules that are neither paused nor completed.", _schedules("active"), width=EIGHTH),
        stat(
            "Paused",
            "Paused schedules. Their ticks are skipped. `rota schedule list --state paused` names them.",
            _schedules("paused"),
            colors=steps(GREY, (1, YELLOW)),
        ),
        stat("Completed", "Schedules that have no more ticks.", _schedules("completed")),
        stat(
            "Next tick",
            "When the earliest tick of all active schedules is due.",
            f"max(rota_schedule_next_tick_timestamp_seconds{{{CLUSTER}}}) * 1000",
            unit="dateTimeFromNow",
        ),
        stat(
            "Overdue",
            "Time since the earliest tick that is not decided was due. An alert fires above one minute.",
            f"max(rota_schedule_overdue_seconds{{{CLUSTER}}})",
            unit="s",
            colors=steps(GREEN, (10, YELLOW), (60, RED)),
            link=cluster,
        ),
        stat(
            "Behind",
            "Schedules with a tick that has been due for more than ten seconds and is not decided.",
            f"max(rota_schedules_behind{{{CLUSTER}}})",
            colors=steps(GREEN, (1, YELLOW)),
            link=cluster,
        ),
        stat(
            "Missed",
            "Schedules with a tick that created no task in the last hour although it should have. An alert fires for "
            "each.",
            f"count(time() - {missed} < 3600) or vector(0)",
            colors=steps(GREEN, (1, RED)),
        ),
        stat(
            "Failing",
            "Schedules whose last task failed or expired. An alert fires for each after 15 minutes.",
            f"count({failing} > 0) or vector(0)",
            colors=steps(GREEN, (1, RED)),
            link=queues,
        ),
    ]


def _ticks():
    return [
        graph(
            "Ticks by outcome",
            "Per second. A tick that waits for an earlier task counts as queued, and again with its final outcome.",
            (_ticks_per_second("outcome"), "{{outcome}}"),
            unit="ops",
            width=HALF,
        ),
        graph(
            "Schedules by state",
            "Active, paused and completed schedules.",
            (f"max by (state) (rota_schedules{{{CLUSTER}}})", "{{state}}"),
            width=HALF,
            stacked=True,
        ),
        graph(
            "Skipped by reason",
            "Ticks per second: overlap (the task of an earlier tick had not ended), paused, exclusion (a calendar or "
            "an exclusion), gap (the local time did not exist) or by_request.",
            (_ticks_per_second("reason", f'{CLUSTER}, outcome="skipped"'), "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Refused by reason",
            "Ticks per second whose task could not be created: conflict (another task has the id), queue_full, "
            "too_many_names (of queues or kinds), expired (before it could start) or store_full.",
            (_ticks_per_second("reason", f'{CLUSTER}, outcome="refused"'), "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Not in time",
            "Ticks per second after a time without a leader: missed (too old to be caught up on) or coalesced (a later "
            "tick stands for them).",
            (_ticks_per_second("outcome", f'{CLUSTER}, outcome=~"missed|coalesced"'), "{{outcome}}"),
            unit="ops",
        ),
    ]


def _lateness():
    return [
        graph(
            "Lateness",
            "Time from when a tick was due until it created its task, without ticks that waited for an earlier task. "
            "After a time without a leader, ticks are caught up on and are as late as that time was long.",
            *quantiles(LATENESS, 0.5, 0.99),
            unit="s",
            colors=steps(GREY, (10, RED)),
        ),
        heatmap("Ticks by lateness", "Number of ticks by lateness.", LATENESS, width=THIRD),
        graph(
            "Overdue ticks",
            "Time since the earliest tick that is not decided was due.",
            (f"max(rota_schedule_overdue_seconds{{{CLUSTER}}})", "overdue"),
            unit="s",
            colors=steps(GREY, (60, RED)),
        ),
    ]


def _problems():
    missed = f"sum by (schedule) (rota_schedule_missed_total{{{CLUSTER}}})"
    missed_at = f"max by (schedule) (rota_schedule_missed_timestamp_seconds{{{CLUSTER}}}) * 1000"
    failures = f"max by (schedule) (cluster_schedule:rota_schedule_failures:max{{{CLUSTER}}})"
    return [
        bars(
            "Missed or refused ticks",
            "The ten schedules with the most ticks that created no task although they should have, since the nodes "
            "started.",
            f"topk(10, {missed}) {NONE}",
            "{{schedule}}",
            "short",
            steps(GREEN, (1, RED)),
            width=HALF,
        ),
        graph(
            "Failed tasks in a row",
            "The ten schedules with the most tasks that failed or expired since one completed.",
            (f"topk(10, {failures}) {NONE}", "{{schedule}}"),
            width=HALF,
        ),
        table(
            "All schedules with a problem",
            "Current values, since the nodes started. `rota schedule ticks NAME` lists the ticks of a schedule with "
            "their outcomes.",
            "schedule",
            [
                ("Missed or refused", "short", f"({missed} or {failures} * 0) {NONE}"),
                ("Last one", "dateTimeFromNow", missed_at),
                ("Failed tasks in a row", "short", f"({failures} or {missed} * 0) {NONE}"),
            ],
        ),
    ]
