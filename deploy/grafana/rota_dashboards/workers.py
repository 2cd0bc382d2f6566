"""*Workers*: metrics of the leader about workers, and metrics of the workers themselves."""

from .blocks import (
    CLUSTER,
    GREEN,
    GREY,
    HALF,
    QUARTER,
    RED,
    WINDOW,
    YELLOW,
    board,
    finished,
    graph,
    quantiles,
    row,
    says,
    stat,
    steps,
    timeline,
)

WORKER = f'{CLUSTER}, worker=~"$worker"'
PROCESS = f'{CLUSTER}, job="rota-workers"'


def dashboard():
    """Build the dashboard."""
    about = "Which workers have problems? The lower rows need workers that expose metrics (metrics_listen)."
    made = board("rota-workers", "Workers", about, "worker", "kind")
    sections = [
        ("Metrics of the leader", [*_now(), *_sessions()]),
        ("Metrics of the workers", _attempts()),
        ("Processes", _processes()),
    ]
    for title, panels in sections:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return finished(made)


def _now():
    sessions = f"cluster_state:rota_sessions:max{{{CLUSTER}, state="
    slots = f"sum(max by (worker) (rota_session_slots{{{WORKER}}}))"
    used = f"sum(max by (worker) (rota_session_slots_used{{{WORKER}}}))"
    return [
        stat(
            "Serving",
            "Sessions that take tasks.",
            f'sum({sessions}"serving"}})',
            colors=steps(RED, (1, GREEN)),
            width=QUARTER,
        ),
        stat(
            "Draining",
            "Sessions that finish their tasks and take no new ones.",
            f'sum({sessions}"draining"}})',
            width=QUARTER,
        ),
        stat(
            "Awaited",
            "Sessions from before the change of leader that have not reconnected yet. They lose their tasks when "
            "their TTL is over.",
            f'sum({sessions}"awaited"}})',
            colors=steps(GREY, (1, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Slots used",
            "Share of the slots in use, over the selected workers.",
            f"{used} / {slots}",
            unit="percentunit",
            colors=steps(GREEN, (0.9, YELLOW)),
            width=QUARTER,
        ),
    ]


def _sessions():
    opened = f"sum(rate(rota_sessions_opened_total{{{CLUSTER}}}[{WINDOW}]))"
    ended = f"sum by (reason) (rate(rota_sessions_ended_total{{{CLUSTER}}}[{WINDOW}]))"
    return [
        graph(
            "Tasks held",
            "By worker. A worker takes no more tasks than it has slots.",
            (f"max by (worker) (rota_session_slots_used{{{WORKER}}})", "{{worker}}"),
            stacked=True,
        ),
        graph(
            "Slots",
            "Number of slots of each worker.",
            (f"max by (worker) (rota_session_slots{{{WORKER}}})", "{{worker}}"),
            stacked=True,
        ),
        graph(
            "Time since the last heartbeat",
            "By worker. When it reaches session_ttl, the tasks of the worker go to others.",
            (f"max by (worker) (rota_session_heartbeat_age_seconds{{{WORKER}}})", "{{worker}}"),
            unit="s",
        ),
        graph(
            "Sessions opened and ended",
            "Per second: opened or resumed, closed by their worker, expired without a heartbeat.",
            (opened, "opened"),
            (ended, "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Attempts lost",
            "Attempts per second that were lost with their worker. The tasks run again.",
            (
                f"sum by (queue) (rate(cluster_queue_kind:rota_tasks_lost_total:max{{{CLUSTER}}}[{WINDOW}]))",
                "{{queue}}",
            ),
            unit="ops",
        ),
        graph(
            "Reports refused",
            "Reports per second that the leader refused because the lease of the attempt had ended.",
            (f"sum(rate(rota_stale_reports_refused_total{{{CLUSTER}}}[{WINDOW}]))", "refused"),
            unit="ops",
        ),
    ]


def _attempts():
    attempts = f'rota_worker_attempts_total{{{CLUSTER}, kind=~"$kind"}}'
    failed = f'rota_worker_attempts_total{{{CLUSTER}, kind=~"$kind", outcome="failed"}}'
    took = f'rota_worker_attempt_duration_seconds_bucket{{{CLUSTER}, kind=~"$kind"}}'
    ((slow, _),) = quantiles(took, 0.99, by="kind")
    return [
        timeline(
            "Connected",
            "Whether each worker reports a session with a node.",
            f"rota_worker_connected{{{CLUSTER}}}",
            "{{instance}}",
            says(_0=("not connected", RED), _1=("connected", GREEN)),
        ),
        timeline(
            "Scraped",
            "Whether Prometheus could scrape each worker.",
            f"up{{{PROCESS}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
        graph(
            "Attempts by outcome",
            "Per second. Dropped: the lease had ended, so the worker sent no report.",
            (f"sum by (outcome) (rate({attempts}[{WINDOW}]))", "{{outcome}}"),
            unit="ops",
        ),
        graph(
            "Attempts by worker",
            "Per second, all outcomes. A worker that differs much from the others has a problem or is far away.",
            (f"sum by (instance) (rate({attempts}[{WINDOW}]))", "{{instance}}"),
            unit="ops",
        ),
        graph(
            "Failed attempts by worker",
            "Per second. If one worker has all failures, the problem is the worker, not the tasks.",
            (
                f"sum by (instance) (rate({failed}[{WINDOW}])) or sum by (instance) (rate({attempts}[{WINDOW}])) * 0",
                "{{instance}}",
            ),
            unit="ops",
        ),
        graph(
            "Handlers by kind, p99",
            "Running time of the handler. One attempt in a hundred took longer.",
            (slow, "{{kind}}"),
            unit="s",
        ),
        graph(
            "Slots by worker",
            "Share of the slots in use.",
            (f"rota_worker_slots_used{{{CLUSTER}}} / rota_worker_slots{{{CLUSTER}}}", "{{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Connections",
            "New connections within five minutes. A worker connects once, and again after each change of leader.",
            (f"increase(rota_worker_connects_total{{{CLUSTER}}}[5m])", "{{instance}}"),
        ),
        graph(
            "Refusals",
            "Refusals of a worker or one of its messages within five minutes. The worker keeps its tasks and retries.",
            (
                f"sum by (instance) (increase(rota_worker_refusals_total{{{CLUSTER}}}[5m])) "
                f"or sum by (instance) (rota_worker_slots{{{CLUSTER}}}) * 0",
                "{{instance}}",
            ),
        ),
    ]


def _processes():
    return [
        graph(
            "CPU",
            "Use of processors. 100% is one processor.",
            (f"rate(process_cpu_seconds_total{{{PROCESS}}}[{WINDOW}])", "{{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Memory",
            "Resident memory.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),
            unit="bytes",
        ),
        graph(
            "File descriptors",
            "Share of the allowed file descriptors that are open.",
            (f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Threads",
            "Number of threads of the process.",
            (f"process_threads{{{PROCESS}}}", "{{instance}}"),
            width=HALF,
        ),
        graph(
            "Uptime",
            "Time since the process started. A sawtooth means that it restarts again and again.",
            (f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}"),
            unit="s",
            width=HALF,
        ),
    ]
