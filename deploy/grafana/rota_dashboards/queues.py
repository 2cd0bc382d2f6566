"""*Queues*: what becomes of tasks, by queue and kind."""

from .blocks import (
    CLUSTER,
    EIGHTH,
    GREEN,
    GREY,
    HALF,
    QUEUE,
    RED,
    THIRD,
    WINDOW,
    YELLOW,
    board,
    failing,
    finished,
    graph,
    heatmap,
    quantiles,
    row,
    says,
    speed,
    stat,
    steps,
    table,
    timeline,
    total,
)

TOTALS = [
    ("submitted", "Submitted", "Tasks created. Repeats of a task that exists are not counted."),
    ("started", "Started", "Attempts given to a worker."),
    ("completed", "Completed", "Tasks that ended well."),
    ("retried", "Tried again", "Attempts that failed and were followed by another."),
    ("lost", "Lost", "Attempts that ended because their worker was lost."),
    ("cancelled", "Cancelled", "Tasks that a client cancelled."),
    ("expired", "Expired", "Tasks that were not started by their expiry date."),
]


def dashboard():
    """Builds it."""
    about = "What becomes of tasks. The variable Kind narrows down what is counted as it happens, not what waits now."
    made = board("rota-queues", "Queues", about, "queue", "kind")
    for panel in _totals():
        made = made.with_panel(panel)
    sections = [("Flow", _flow()), ("Waiting", _waiting()), ("Times", _times())]
    for title, panels in sections:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return finished(made)


def _totals():
    since = " Since the cluster began, through all crashes and changes of leader."
    panels = [stat(title, about + since, f"sum({total(what)})", width=EIGHTH) for what, title, about in TOTALS]
    failed = f"sum({total('failed', level='cluster_queue_kind_reason')})"
    about = "Tasks that ended badly, with all their attempts." + since
    panels.insert(3, stat("Failed", about, failed, width=EIGHTH))
    return panels


def _flow():
    ratio = f"cluster_queue:rota_tasks_failed:ratio_rate5m{{{QUEUE}}}"
    attempts = f"cluster_queue:rota_attempts_failed:ratio_rate5m{{{QUEUE}}}"
    return [
        graph(
            "Submitted",
            "Tasks created a second.",
            (speed("submitted", "queue"), "{{queue}}"),
            unit="ops",
        ),
        graph(
            "Completed",
            "Tasks a second that ended well.",
            (speed("completed", "queue"), "{{queue}}"),
            unit="ops",
        ),
        graph(
            "Started by kind",
            "Attempts a second given to workers, the first and all further ones.",
            (speed("started", "kind"), "{{kind}}"),
            unit="ops",
        ),
        graph(
            "Failed by reason",
            "Tasks a second that failed for good: error (attempts used up), permanent (the handler "
            "said so), timeout, or worker_lost (too many workers were lost with them).",
            (failing("reason"), "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Failing attempts",
            "How many of the attempts failed, whether others follow or not, over five minutes. Above 25% for five "
            "minutes an alert fires.",
            (attempts, "{{queue}}"),
            unit="percentunit",
            colors=steps(GREY, (0.25, RED)),
        ),
        graph(
            "Failing tasks",
            "How many of the tasks that were run to their end failed, over five minutes. Above 10% for five "
            "minutes an alert fires.",
            (ratio, "{{queue}}"),
            unit="percentunit",
            colors=steps(GREY, (0.1, RED)),
        ),
        graph(
            "Attempts without success",
            "A second: tried again after a failure, lost with their worker, or given back " "by a worker that left.",
            (speed("retried"), "tried again"),
            (speed("lost"), "lost"),
            (speed("released"), "given back"),
            unit="ops",
        ),
        graph(
            "Failed by kind",
            "Tasks a second that failed for good, by what runs them.",
            (failing("kind"), "{{kind}}"),
            unit="ops",
        ),
        graph(
            "Ended or revived by clients",
            "Tasks a second that were cancelled, that expired before they were started, "
            "and ended ones that were made live again.",
            (speed("cancelled"), "cancelled"),
            (speed("expired"), "expired"),
            (speed("revived"), "revived"),
            unit="ops",
        ),
    ]


def _waiting():
    states = f"cluster_queue_state:rota_tasks:max{{{QUEUE}"
    return [
        graph(
            "Waiting by queue",
            "Tasks that are due and wait for a worker.",
            (f'{states}, state="pending"}}', "{{queue}}"),
            width=THIRD,
            stacked=True,
        ),
        graph(
            "By state",
            "Tasks that have not ended: scheduled (due later, or backing off), pending (due), leased (a "
            "worker has it).",
            (f"sum by (state) ({states}}})", "{{state}}"),
            width=THIRD,
            stacked=True,
        ),
        graph(
            "Longest wait",
            "For how long the task has been due that is due longest.",
            (f"cluster_queue:rota_queue_oldest_pending_age_seconds:max{{{QUEUE}}}", "{{queue}}"),
            unit="s",
            colors=steps(GREY, (300, RED)),
        ),
        graph(
            "Unserved",
            "Pending tasks of kinds that no connected worker serves in their queue. More than none for "
            "five minutes: an alert fires.",
            (f"cluster_queue:rota_tasks_unserved:max{{{QUEUE}}}", "{{queue}}"),
            width=HALF,
        ),
        timeline(
            "Paused",
            "Queues that somebody paused: nothing in them is started.",
            f"cluster_queue:rota_queue_paused:max{{{QUEUE}}}",
            "{{queue}}",
            says(_0=("open", GREEN), _1=("paused", YELLOW)),
        ),
        table(
            "All queues",
            "As they are now. Speeds are over five minutes.",
            "queue",
            [
                ("Waiting", "short", f'sum by (queue) ({states}, state="pending"}})'),
                ("Running", "short", f'sum by (queue) ({states}, state="leased"}})'),
                ("Due later", "short", f'sum by (queue) ({states}, state="scheduled"}})'),
                (
                    "Longest wait",
                    "s",
                    f"max by (queue) (cluster_queue:rota_queue_oldest_pending_age_seconds:max{{{QUEUE}}})",
                ),
                (
                    "Completed a second",
                    "ops",
                    f"sum by (queue) (cluster_queue:rota_tasks_completed:rate5m{{{QUEUE}}})",
                ),
                (
                    "Failed a second",
                    "ops",
                    f"sum by (queue) (cluster_queue:rota_tasks_failed:rate5m{{{QUEUE}}})",
                ),
                (
                    "Failing attempts",
                    "percentunit",
                    f"max by (queue) (cluster_queue:rota_attempts_failed:ratio_rate5m{{{QUEUE}}})",
                ),
                (
                    "Failing tasks",
                    "percentunit",
                    f"max by (queue) (cluster_queue:rota_tasks_failed:ratio_rate5m{{{QUEUE}}})",
                ),
            ],
        ),
    ]


def _times():
    wait, run = "rota_task_schedule_to_start_seconds_bucket", "rota_task_execution_seconds_bucket"
    ((slow_wait, _),) = quantiles(f"{wait}{{{QUEUE}}}", 0.99, by="queue")
    ((slow_run, _),) = quantiles(f"{run}{{{QUEUE}}}", 0.99, by="queue")
    return [
        graph(
            "Wait to start",
            "From when a task was due to when a worker had it, all queues together.",
            *quantiles(f"{wait}{{{QUEUE}}}", 0.5, 0.95, 0.99),
            unit="s",
        ),
        graph(
            "Wait to start by queue, p99",
            "One task in a hundred waited longer.",
            (slow_wait, "{{queue}}"),
            unit="s",
        ),
        graph(
            "Execution by queue, p99",
            "From when a worker had an attempt to when it said how it ended; one in a " "hundred took longer.",
            (slow_run, "{{queue}}"),
            unit="s",
        ),
        heatmap("Waits", "How many tasks waited how long.", f"{wait}{{{QUEUE}}}"),
        heatmap("Executions", "How many attempts took how long.", f"{run}{{{QUEUE}}}"),
        graph(
            "Lateness of timers",
            "By how much delayed tasks and retries became due too late, in all queues. Not the " "wait for a worker.",
            *quantiles(f"rota_timer_lateness_seconds_bucket{{{CLUSTER}}}", 0.5, 0.99),
            unit="s",
            width=HALF,
        ),
        graph(
            "Attempts that ended",
            "A second, by queue: completed or failed, lost ones left aside.",
            (f"sum by (queue) (rate(rota_task_execution_seconds_count{{{QUEUE}}}[{WINDOW}]))", "{{queue}}"),
            unit="ops",
            width=HALF,
        ),
    ]
