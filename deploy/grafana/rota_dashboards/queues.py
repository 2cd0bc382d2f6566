"""*Queues*: what happens to tasks, by queue and kind."""

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
    ("submitted", "Submitted", "Tasks created, without repeats of existing tasks."),
    ("started", "Started", "Attempts assigned to a worker."),
    ("completed", "Completed", "Tasks that completed."),
    ("retried", "Retried", "Attempts that failed and were followed by a retry."),
    ("lost", "Lost", "Attempts that ended because their worker was lost."),
    ("cancelled", "Cancelled", "Tasks that a client cancelled."),
    ("expired", "Expired", "Tasks that did not start before their expiry date."),
]


def dashboard():
    """Build the dashboard."""
    about = "What happens to tasks. The variable Kind applies to totals and rates, not to waiting tasks."
    made = board("rota-queues", "Queues", about, "queue", "kind")
    for panel in _totals():
        made = made.with_panel(panel)
    sections = [("Flow", _flow()), ("Waiting", _waiting()), ("Durations", _times())]
    for title, panels in sections:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return finished(made)


def _totals():
    since = " Since the start of the cluster, through all crashes and changes of leader."
    panels = [stat(title, about + since, f"sum({total(what)})", width=EIGHTH) for what, title, about in TOTALS]
    failed = f"sum({total('failed', level='cluster_queue_kind_reason')})"
    about = "Tasks that failed." + since
    panels.insert(3, stat("Failed", about, failed, width=EIGHTH))
    return panels


def _flow():
    ratio = f"cluster_queue:rota_tasks_failed:ratio_rate5m{{{QUEUE}}}"
    attempts = f"cluster_queue:rota_attempts_failed:ratio_rate5m{{{QUEUE}}}"
    return [
        graph(
            "Submitted",
            "Tasks created per second.",
            (speed("submitted", "queue"), "{{queue}}"),
            unit="ops",
        ),
        graph(
            "Completed",
            "Tasks completed per second.",
            (speed("completed", "queue"), "{{queue}}"),
            unit="ops",
        ),
        graph(
            "Started by kind",
            "Attempts assigned to workers per second, including retries.",
            (speed("started", "kind"), "{{kind}}"),
            unit="ops",
        ),
        graph(
            "Failed by reason",
            "Failed tasks per second: error (all attempts failed), permanent (the handler failed permanently), "
            "timeout, or worker_lost (too many workers were lost).",
            (failing("reason"), "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Failing attempts",
            "Share of failed attempts over five minutes, with or without a retry. An alert fires above 25% for five "
            "minutes.",
            (attempts, "{{queue}}"),
            unit="percentunit",
            colors=steps(GREY, (0.25, RED)),
        ),
        graph(
            "Failing tasks",
            "Share of failed tasks, of the tasks that ended after running, over five minutes. An alert fires above "
            "10% for five minutes.",
            (ratio, "{{queue}}"),
            unit="percentunit",
            colors=steps(GREY, (0.1, RED)),
        ),
        graph(
            "Unsuccessful attempts",
            "Per second: failed and retried, lost with their worker, given back by a worker that left, or put off by "
            "their handler.",
            (speed("retried"), "retried"),
            (speed("lost"), "lost"),
            (speed("released"), "given back"),
            (speed("snoozed"), "snoozed"),
            unit="ops",
        ),
        graph(
            "Failed by kind",
            "Failed tasks per second, by kind.",
            (failing("kind"), "{{kind}}"),
            unit="ops",
        ),
        graph(
            "Ended or revived by clients",
            "Per second: cancelled tasks, tasks that expired before they started, and ended tasks that a client "
            "retried.",
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
            "Tasks that have not ended: scheduled (due later or in backoff), pending (due), leased (with a worker).",
            (f"sum by (state) ({states}}})", "{{state}}"),
            width=THIRD,
            stacked=True,
        ),
        graph(
            "Longest wait",
            "Time since the oldest waiting task became due.",
            (f"cluster_queue:rota_queue_oldest_pending_age_seconds:max{{{QUEUE}}}", "{{queue}}"),
            unit="s",
            colors=steps(GREY, (300, RED)),
        ),
        graph(
            "Unserved",
            "Pending tasks whose kind no connected worker serves in their queue. An alert fires after five minutes.",
            (f"cluster_queue:rota_tasks_unserved:max{{{QUEUE}}}", "{{queue}}"),
            width=HALF,
        ),
        timeline(
            "Paused",
            "Paused queues. No task in them starts.",
            f"cluster_queue:rota_queue_paused:max{{{QUEUE}}}",
            "{{queue}}",
            says(_0=("open", GREEN), _1=("paused", YELLOW)),
        ),
        table(
            "All queues",
            "Current values. Rates are over five minutes.",
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
                    "Completed per second",
                    "ops",
                    f"sum by (queue) (cluster_queue:rota_tasks_completed:rate5m{{{QUEUE}}})",
                ),
                (
                    "Failed per second",
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
            "Time from when a task was due until a worker got it, over all queues.",
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
            "Time from assignment until the final report. One attempt in a hundred took longer.",
            (slow_run, "{{queue}}"),
            unit="s",
        ),
        heatmap("Waits", "Number of tasks by waiting time.", f"{wait}{{{QUEUE}}}"),
        heatmap("Executions", "Number of attempts by duration.", f"{run}{{{QUEUE}}}"),
        graph(
            "Lateness of timers",
            "Delay of timers for delayed tasks and retries, over all queues, without the wait for a worker.",
            *quantiles(f"rota_timer_lateness_seconds_bucket{{{CLUSTER}}}", 0.5, 0.99),
            unit="s",
            width=HALF,
        ),
        graph(
            "Attempts that ended",
            "Per second, by queue: completed or failed, without lost attempts.",
            (f"sum by (queue) (rate(rota_task_execution_seconds_count{{{QUEUE}}}[{WINDOW}]))", "{{queue}}"),
            unit="ops",
            width=HALF,
        ),
    ]
