"""*Workers*: as the leader sees them, and as they see themselves."""

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
    """Builds it."""
    about = "Which workers are sick. Below, what they show themselves, where they listen for Prometheus."
    made = board("rota-workers", "Workers", about, "worker", "kind")
    sections = [
        ("As the leader sees them", [*_now(), *_sessions()]),
        ("As they see themselves", _attempts()),
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
            "Sessions that finish what they have and take nothing new.",
            f'sum({sessions}"draining"}})',
            width=QUARTER,
        ),
        stat(
            "Awaited",
            "Sessions that the leader's predecessor had and that have not come back yet. They lose their "
            "tasks when their time is over.",
            f'sum({sessions}"awaited"}})',
            colors=steps(GREY, (1, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Slots used",
            "Of all slots of the workers that are selected.",
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
            "By worker. At its number of slots, a worker takes nothing more.",
            (f"max by (worker) (rota_session_slots_used{{{WORKER}}})", "{{worker}}"),
            stacked=True,
        ),
        graph(
            "Slots",
            "By worker.",
            (f"max by (worker) (rota_session_slots{{{WORKER}}})", "{{worker}}"),
            stacked=True,
        ),
        graph(
            "Silence",
            "How long ago each worker was last heard of. When it reaches session_ttl, its tasks are given to others.",
            (f"max by (worker) (rota_session_heartbeat_age_seconds{{{WORKER}}})", "{{worker}}"),
            unit="s",
        ),
        graph(
            "Sessions opened and ended",
            "A second: opened or taken up again, closed by their worker, expired in silence.",
            (opened, "opened"),
            (ended, "{{reason}}"),
            unit="ops",
        ),
        graph(
            "Attempts lost",
            "A second, with their worker. They are run again.",
            (
                f"sum by (queue) (rate(cluster_queue_kind:rota_tasks_lost_total:max{{{CLUSTER}}}[{WINDOW}]))",
                "{{queue}}",
            ),
            unit="ops",
        ),
        graph(
            "Reports refused",
            "A second: the lease of the attempt was over, so the worker's word no longer counted.",
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
            "Whether each worker has a session on a node, by its own word.",
            f"rota_worker_connected{{{CLUSTER}}}",
            "{{instance}}",
            says(_0=("not connected", RED), _1=("connected", GREEN)),
        ),
        timeline(
            "Scraped",
            "Whether Prometheus reached each worker.",
            f"up{{{PROCESS}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
        graph(
            "Attempts by outcome",
            "A second. Dropped: the lease was over, nobody was told.",
            (f"sum by (outcome) (rate({attempts}[{WINDOW}]))", "{{outcome}}"),
            unit="ops",
        ),
        graph(
            "Attempts by worker",
            "A second, all outcomes. One that lies far from the others is sick, or far away.",
            (f"sum by (instance) (rate({attempts}[{WINDOW}]))", "{{instance}}"),
            unit="ops",
        ),
        graph(
            "Failed attempts by worker",
            "A second. All of them on one worker: the worker is to blame, not the tasks.",
            (
                f"sum by (instance) (rate({failed}[{WINDOW}])) or sum by (instance) (rate({attempts}[{WINDOW}])) * 0",
                "{{instance}}",
            ),
            unit="ops",
        ),
        graph(
            "Handlers by kind, p99",
            "What the handler itself took; one attempt in a hundred took longer.",
            (slow, "{{kind}}"),
            unit="s",
        ),
        graph(
            "Slots by worker",
            "In use, of those there are.",
            (f"rota_worker_slots_used{{{CLUSTER}}} / rota_worker_slots{{{CLUSTER}}}", "{{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Connections",
            "Made within five minutes. A worker connects once, and again with each change of leader.",
            (f"increase(rota_worker_connects_total{{{CLUSTER}}}[5m])", "{{instance}}"),
        ),
        graph(
            "Refusals",
            "Answers within five minutes that refused a worker or a message of it. The worker keeps its tasks and retries.",
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
            "Processors",
            "Used, of one.",
            (f"rate(process_cpu_seconds_total{{{PROCESS}}}[{WINDOW}])", "{{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Memory",
            "Resident.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),
            unit="bytes",
        ),
        graph(
            "File descriptors",
            "Open, of those allowed.",
            (f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}"),
            unit="percentunit",
        ),
        graph("Threads", "Of the process.", (f"process_threads{{{PROCESS}}}", "{{instance}}"), width=HALF),
        graph(
            "Running for",
            "Since the process began. A saw is a process that is started again and again.",
            (f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}"),
            unit="s",
            width=HALF,
        ),
    ]
