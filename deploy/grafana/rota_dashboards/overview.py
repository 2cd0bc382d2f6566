"""*Overview*: the health of a cluster on one screen. Each panel links to the dashboard with the details."""

from .blocks import (
    CLUSTER,
    GREEN,
    GREY,
    QUARTER,
    RED,
    WINDOW,
    YELLOW,
    bars,
    board,
    failing,
    failing_attempts,
    finished,
    graph,
    quantiles,
    says,
    speed,
    stat,
    steps,
    to,
)

SERVER_ERRORS = "5..|Internal|Unavailable|Unknown|DataLoss|DeadlineExceeded"


def dashboard():
    """Build the dashboard."""
    made = board("rota-overview", "Overview", "Is the cluster healthy? Each panel links to details.")
    for panel in [*_now(), *_lately()]:
        made = made.with_panel(panel)
    return finished(made)


def _now():
    queues, workers = to("rota-queues", "Queues"), to("rota-workers", "Workers")
    cluster = to("rota-cluster", "Cluster and store")
    failed = f"sum(cluster_queue:rota_attempts_failed:rate5m{{{CLUSTER}}})"
    completed = f"sum(cluster_queue:rota_tasks_completed:rate5m{{{CLUSTER}}})"
    ready = f"(sum(min by (instance) (rota_ready{{{CLUSTER}}})) or vector(0))"
    nodes = f'count(up{{{CLUSTER}, job="rota-nodes"}})'
    return [
        stat(
            "Alerts",
            "Alerts of Rota that fire now. docs/operating.md has a runbook for each.",
            f'count(ALERTS{{alertname=~"Rota.*", alertstate="firing", {CLUSTER}}}) or vector(0)',
            colors=steps(GREEN, (1, RED)),
        ),
        stat(
            "Leader",
            "Whether there is a leader. Without a leader, nothing is accepted, started or completed.",
            f"cluster:rota_leader:max{{{CLUSTER}}}",
            colors=steps(RED, (1, GREEN)),
            mapping=says(_0=("none", RED), _1=("leads", GREEN)),
            link=cluster,
        ),
        stat(
            "Nodes ready",
            "Nodes on which every check of /readyz passes, of the nodes that Prometheus knows. Yellow: some are not "
            "ready. Red: more than half are not ready.",
            f'{ready} / {nodes} * on () group_left (ready) count_values("ready", {ready}) '
            f'* on () group_left (nodes) count_values("nodes", {nodes})',
            unit="percentunit",
            colors=steps(RED, (0.5, YELLOW), (1, GREEN)),
            link=cluster,
            legend="{{ready}} of {{nodes}}",
            named=True,
        ),
        stat(
            "Workers",
            "Connected workers that take tasks.",
            f'sum(cluster_state:rota_sessions:max{{{CLUSTER}, state="serving"}})',
            colors=steps(RED, (1, GREEN)),
            link=workers,
        ),
        stat(
            "Waiting",
            "Tasks that are due and wait for a worker.",
            f'sum(cluster_queue_state:rota_tasks:max{{{CLUSTER}, state="pending"}})',
            link=queues,
        ),
        stat(
            "Longest wait",
            "Time since the oldest waiting task became due, over all queues.",
            f"max(cluster_queue:rota_queue_oldest_pending_age_seconds:max{{{CLUSTER}}})",
            unit="s",
            colors=steps(GREEN, (60, YELLOW), (300, RED)),
            link=queues,
        ),
        stat(
            "Failing",
            "Share of failed attempts in the last five minutes, with or without a retry.",
            f"{failed} / ({failed} + {completed} > 0) or vector(0)",
            unit="percentunit",
            colors=steps(GREEN, (0.1, YELLOW), (0.25, RED)),
            link=queues,
        ),
        stat(
            "Store used",
            "Share of the space that the store may use. With etcd, Rota refuses new tasks from 80% on.",
            f"max(cluster:rota_store_used:ratio{{{CLUSTER}}})",
            unit="percentunit",
            colors=steps(GREEN, (0.7, YELLOW), (0.8, RED)),
            link=cluster,
        ),
    ]


def _lately():
    queues, workers = to("rota-queues", "Queues"), to("rota-workers", "Workers")
    cluster = to("rota-cluster", "Cluster and store")
    one_queue = to("rota-queues", "This queue", "var-queue=${__field.labels.queue}")
    wait = f"rota_task_schedule_to_start_seconds_bucket{{{CLUSTER}}}"
    requests = f"rota_api_requests_total{{{CLUSTER}"
    return [
        graph(
            "Tasks per second",
            "If more tasks are submitted than completed for long, a backlog grows.",
            (speed("submitted", selectors=CLUSTER), "submitted"),
            (speed("completed", selectors=CLUSTER), "completed"),
            (failing(selectors=CLUSTER), "failed"),
            (speed("retried", selectors=CLUSTER), "retried"),
            unit="ops",
            width=QUARTER,
            link=queues,
        ),
        graph(
            "Wait to start",
            "Time from when a task was due until a worker got it.",
            *quantiles(wait, 0.5, 0.95, 0.99),
            unit="s",
            width=QUARTER,
            link=queues,
        ),
        bars(
            "Longest wait by queue",
            "The ten queues with the oldest waiting task, including paused queues.",
            f"topk(10, max by (queue) (cluster_queue:rota_queue_oldest_pending_age_seconds:max{{{CLUSTER}}}))",
            "{{queue}}",
            "s",
            steps(GREEN, (60, YELLOW), (300, RED)),
            link=one_queue,
        ),
        graph(
            "Failing attempts by queue",
            "Failed attempts per second, with or without a retry, in the ten worst queues.",
            (f"topk(10, {failing_attempts('queue', CLUSTER)})", "{{queue}}"),
            unit="ops",
            width=QUARTER,
            link=queues,
        ),
        graph(
            "Tasks by state",
            "Tasks that have not ended: scheduled (due later), pending (waiting) or leased (with a worker).",
            (f"sum by (state) (cluster_queue_state:rota_tasks:max{{{CLUSTER}}})", "{{state}}"),
            width=QUARTER,
            stacked=True,
            link=queues,
        ),
        graph(
            "Slots",
            "Slots of all workers, and slots in use. If all are in use for long, add workers.",
            (f"sum(max by (worker) (rota_session_slots{{{CLUSTER}}}))", "slots"),
            (f"sum(max by (worker) (rota_session_slots_used{{{CLUSTER}}}))", "used"),
            width=QUARTER,
            link=workers,
        ),
        graph(
            "Commits",
            "Time until the store has made a batch durable. Every change waits for it.",
            *quantiles(f"rota_commit_duration_seconds_bucket{{{CLUSTER}}}", 0.5, 0.99),
            unit="s",
            width=QUARTER,
            colors=steps(GREY, (0.5, RED)),
            link=cluster,
        ),
        graph(
            "API",
            "Requests per second, and those that failed with a server error. Forwarded requests count on both nodes.",
            (f"sum(rate({requests}}}[{WINDOW}]))", "requests"),
            (
                f'sum(rate({requests}, code=~"{SERVER_ERRORS}"}}[{WINDOW}])) or sum(rate({requests}}}[{WINDOW}])) * 0',
                "failed",
            ),
            unit="reqps",
            width=QUARTER,
            link=cluster,
        ),
    ]
