"""*Cluster and store*: who leads, how well the store keeps up, what the API answers, how the nodes are."""

from .blocks import (
    BLUE,
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
    heatmap,
    quantiles,
    row,
    says,
    stat,
    steps,
    table,
    timeline,
)

NODE = f'{CLUSTER}, instance=~"$node"'
PROCESS = f'{NODE}, job="rota-nodes"'


def dashboard():
    """Builds it."""
    made = board(
        "rota-cluster",
        "Cluster and store",
        "Nodes, their leader, the store behind them, and the API before them.",
        "node",
    )
    sections = [
        ("Leadership", _leadership()),
        ("Engine", _engine()),
        ("Store", _store()),
        ("API", _api()),
        ("Processes", _processes()),
    ]
    for title, panels in sections:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return finished(made)


def _leadership():
    return [
        stat(
            "Leaders",
            "Nodes that say that they lead. More than one for a moment: one of them has been replaced and does "
            "not know yet; the store takes nothing from it.",
            f"sum(rota_leader{{{CLUSTER}}})",
            colors=steps(RED, (1, GREEN), (2, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Epoch",
            "The number of the newest leadership. Grows with every leader.",
            f"max(cluster:rota_leader_epoch:max{{{CLUSTER}}})",
            width=QUARTER,
        ),
        stat(
            "Changes of leader",
            "Seen within the time range.",
            f"max(changes(cluster:rota_leader_epoch:max{{{CLUSTER}}}[$__range]))",
            colors=steps(GREY, (5, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Without a leader",
            "Within the time range: as long as Prometheus saw no node lead, which is told to a quarter of a minute, or "
            "as the node saw it that saw most of it. Whichever is more: nodes that are down count nothing.",
            f"max(sum_over_time((1 - cluster:rota_leader:max{{{CLUSTER}}})[$__range:15s]) * 15 "
            f"or increase(rota_leaderless_seconds_total{{{CLUSTER}}}[$__range]))",
            unit="s",
            colors=steps(GREY, (60, RED)),
            width=QUARTER,
        ),
        timeline(
            "Who leads",
            "By each node's own word.",
            f"rota_leader{{{NODE}}}",
            "{{instance}}",
            says(_0=("follows", GREY), _1=("leads", BLUE)),
        ),
        timeline(
            "Ready",
            "The checks of /readyz, over all nodes: it holds where it holds on each of them.",
            f"min by (check) (rota_ready{{{NODE}}})",
            "{{check}}",
            says(_0=("fails", RED), _1=("holds", GREEN)),
        ),
        timeline(
            "Scraped",
            "Whether Prometheus reached each node.",
            f"up{{{PROCESS}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
        timeline(
            "Knows a leader",
            "Whether each node leads or knows who does.",
            f"rota_leader_known{{{NODE}}}",
            "{{instance}}",
            says(_0=("unknown", RED), _1=("known", GREEN)),
        ),
    ]


def _engine():
    inbox = f"rota_inbox_requests{{{NODE}}} / rota_inbox_limit_requests{{{NODE}}}"
    return [
        graph(
            "Inbox",
            "How full the queue of requests before the engine's loop is. When it is full, callers are turned away.",
            (inbox, "{{instance}}"),
            unit="percentunit",
            colors=steps(GREY, (0.8, RED)),
        ),
        graph(
            "Signs of life",
            "Since when the leader's loop has given none; it gives one every second. After ten it is not ready.",
            (f"max(rota_engine_pulse_age_seconds{{{CLUSTER}}})", "engine"),
            (f"max(rota_queue_view_age_seconds{{{CLUSTER}}})", "counts by queue"),
            unit="s",
            colors=steps(GREY, (10, RED)),
        ),
        graph(
            "Wall clock in doubt",
            "1 while a node's wall clock jumped forward. The leader removes no finished task until the grace is over.",
            (f"rota_clock_doubted{{{NODE}}}", "{{instance}}"),
            colors=steps(GREY, (1, RED)),
        ),
        graph(
            "Live tasks",
            "That have not ended: the leader's own, and each follower's copy. A copy far off the others is behind.",
            (f"rota_live_tasks{{{NODE}}}", "{{instance}}"),
        ),
        graph(
            "Unreadable records",
            "Damaged, or written by a newer version. The leader leaves them alone and serves all others.",
            (f"max(rota_unreadable_records{{{CLUSTER}}})", "records"),
        ),
        graph(
            "Feature level",
            "What the cluster may use, and what each node knows. A node that knows less than the cluster uses "
            "does not lead.",
            (f'max(rota_feature_level{{{CLUSTER},of="cluster"}})', "cluster"),
            (f'rota_feature_level{{{NODE},of="node"}}', "{{instance}}"),
        ),
        graph(
            "Memory of live tasks",
            "As far as their number says.",
            (f"max(rota_live_set_bytes{{{CLUSTER}}})", "live set"),
            unit="bytes",
        ),
        graph(
            "Stale writes refused",
            "A second: batches that the store refused because another node leads. It did its duty.",
            (
                f"sum by (instance) (rate(rota_stale_writes_refused_total{{{NODE}}}[{WINDOW}]))",
                "{{instance}}",
            ),
            unit="ops",
        ),
        graph(
            "Changes of leader by node",
            "Seen by each node within five minutes.",
            (f"increase(rota_leader_changes_total{{{NODE}}}[5m])", "{{instance}}"),
        ),
    ]


def _store():
    commit = f"rota_commit_duration_seconds_bucket{{{CLUSTER}}}"
    return [
        graph(
            "Used",
            "Bytes that the store uses, and may grow to.",
            (f"max(rota_store_size_bytes{{{CLUSTER}}})", "used"),
            (f"max(rota_store_limit_bytes{{{CLUSTER}}})", "limit"),
            unit="bytes",
        ),
        graph(
            "Commits",
            "How long the store took for a batch.",
            *quantiles(commit, 0.5, 0.95, 0.99),
            unit="s",
            colors=steps(GREY, (0.5, RED)),
        ),
        graph(
            "Errors",
            "Commits a second that did not succeed at once: full, unavailable, ambiguous (tried again), fenced "
            "(another node leads), broken. And records of single tasks that could not be read.",
            (f"sum by (kind) (rate(rota_store_errors_total{{{CLUSTER}}}[{WINDOW}]))", "{{kind}}"),
            (
                f"sum by (space) (rate(rota_damaged_records_total{{{CLUSTER}}}[{WINDOW}]))",
                "damaged: {{space}}",
            ),
            unit="ops",
        ),
        graph(
            "Batches",
            "Committed a second.",
            (f"sum(rate(rota_batches_total{{{CLUSTER}}}[{WINDOW}]))", "batches"),
            unit="ops",
        ),
        graph(
            "Changes in a batch",
            "The more load, the larger the batches: that is what carries it.",
            *quantiles(f"rota_batch_mutations_bucket{{{CLUSTER}}}", 0.5, 0.99),
        ),
        graph(
            "Revisions",
            "A second, as each node hears of them. A node that stands still hears nothing.",
            (f"rate(rota_store_revision{{{NODE}}}[{WINDOW}])", "{{instance}}"),
            unit="ops",
        ),
        heatmap("Commit times", "How many commits took how long.", commit),
        timeline(
            "Store",
            "Whether each node finds that the store takes writes.",
            f"rota_store_up{{{NODE}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
    ]


def _api():
    requests = f"rota_api_requests_total{{{NODE}}}"
    ((slow, _),) = quantiles(f"rota_api_request_duration_seconds_bucket{{{NODE}}}", 0.99, by="route")
    return [
        graph(
            "Requests by route",
            "A second, the ten busiest.",
            (f"topk(10, sum by (route) (rate({requests}[{WINDOW}])))", "{{route}}"),
            unit="reqps",
        ),
        graph(
            "Answers by code",
            "A second: HTTP statuses of REST, codes of gRPC.",
            (f"sum by (protocol, code) (rate({requests}[{WINDOW}]))", "{{protocol}} {{code}}"),
            unit="reqps",
        ),
        graph(
            "Slowest routes, p99",
            "One request in a hundred took longer. Long polls are among them.",
            (f"topk(10, {slow})", "{{route}}"),
            unit="s",
        ),
        graph(
            "Requests with other nodes",
            "What followers have with the leader now, and the connections that carry it.",
            (f"sum by (lane) (rota_forward_streams{{{NODE}}})", "{{lane}}"),
            (f"sum by (lane) (rota_forward_connections{{{NODE}}})", "{{lane}}, connections"),
        ),
        graph(
            "Memory for requests and answers",
            "Request bodies under way, and large answers that clients have not read yet.",
            (f"rota_api_bodies_bytes{{{NODE}}}", "{{instance}}, bodies"),
            (f"rota_api_answers_bytes{{{NODE}}}", "{{instance}}, answers"),
            unit="bytes",
        ),
        graph(
            "Failed tries to reach another node",
            "A second, by reason.",
            (f"sum by (reason) (rate(rota_forward_failures_total{{{NODE}}}[{WINDOW}]))", "{{reason}}"),
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
            "Resident, and reserved.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),
            (f"process_virtual_memory_bytes{{{PROCESS}}}", "{{instance}}, reserved"),
            unit="bytes",
        ),
        graph(
            "File descriptors",
            "Open, of those allowed.",
            (f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}"),
            unit="percentunit",
        ),
        graph("Threads", "Of the process.", (f"process_threads{{{PROCESS}}}", "{{instance}}"), width=HALF),
        table(
            "Versions",
            "What runs where, and for how long; workers too.",
            "instance",
            [
                (
                    "Running for",
                    "s",
                    f"sum by (instance, version) ((time() - process_start_time_seconds{{{CLUSTER}}}) "
                    f"* on (instance) group_left (version) rota_build_info{{{CLUSTER}}})",
                ),
            ],
            width=HALF,
        ),
    ]
