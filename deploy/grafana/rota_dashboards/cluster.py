"""*Cluster and store*: the leader, the speed of the store, the answers of the API, the processes of the nodes."""

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
    """Build the dashboard."""
    made = board(
        "rota-cluster",
        "Cluster and store",
        "Nodes, the leader, the store and the API.",
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
            "Nodes that report that they lead. If there is more than one for a moment, one has been replaced and does "
            "not know it yet. The store accepts nothing from it.",
            f"sum(rota_leader{{{CLUSTER}}})",
            colors=steps(RED, (1, GREEN), (2, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Epoch",
            "Number of the current leadership. It grows with every change of leader.",
            f"max(cluster:rota_leader_epoch:max{{{CLUSTER}}})",
            width=QUARTER,
        ),
        stat(
            "Changes of leader",
            "Changes of leader within the time range.",
            f"max(changes(cluster:rota_leader_epoch:max{{{CLUSTER}}}[$__range]))",
            colors=steps(GREY, (5, YELLOW)),
            width=QUARTER,
        ),
        stat(
            "Without a leader",
            "Time without a leader within the time range. The larger of two values: the time without a leader as "
            "Prometheus saw it, in steps of 15 s, and the longest time that a node counted itself. A node that is "
            "down counts nothing.",
            f"max(sum_over_time((1 - cluster:rota_leader:max{{{CLUSTER}}})[$__range:15s]) * 15 "
            f"or increase(rota_leaderless_seconds_total{{{CLUSTER}}}[$__range]))",
            unit="s",
            colors=steps(GREY, (60, RED)),
            width=QUARTER,
        ),
        timeline(
            "Leader",
            "Role that each node reports.",
            f"rota_leader{{{NODE}}}",
            "{{instance}}",
            says(_0=("follows", GREY), _1=("leads", BLUE)),
        ),
        timeline(
            "Ready",
            "Checks of /readyz over all nodes. A check passes if it passes on every node.",
            f"min by (check) (rota_ready{{{NODE}}})",
            "{{check}}",
            says(_0=("fails", RED), _1=("passes", GREEN)),
        ),
        timeline(
            "Scraped",
            "Whether Prometheus could scrape each node.",
            f"up{{{PROCESS}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
        timeline(
            "Knows a leader",
            "Whether each node leads or knows the leader.",
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
            "Share of the inbox of the engine in use. When it is full, clients get 429.",
            (inbox, "{{instance}}"),
            unit="percentunit",
            colors=steps(GREY, (0.8, RED)),
        ),
        graph(
            "Engine loop",
            "Time since the last progress of the leader's loop, which makes progress every second. After ten seconds "
            "the node is not ready.",
            (f"max(rota_engine_pulse_age_seconds{{{CLUSTER}}})", "engine"),
            (f"max(rota_queue_view_age_seconds{{{CLUSTER}}})", "counts by queue"),
            unit="s",
            colors=steps(GREY, (10, RED)),
        ),
        graph(
            "Wall clock in doubt",
            "1 after the wall clock of a node jumped forward. The leader removes no ended task until the grace period "
            "is over.",
            (f"rota_clock_doubted{{{NODE}}}", "{{instance}}"),
            colors=steps(GREY, (1, RED)),
        ),
        graph(
            "Live tasks",
            "Tasks that have not ended: those of the leader, and the copy of each follower. A copy that differs much "
            "is behind.",
            (f"rota_live_tasks{{{NODE}}}", "{{instance}}"),
        ),
        graph(
            "Unreadable records",
            "Records that are damaged, or that a newer version wrote. The leader skips them and serves all others.",
            (f"max(rota_unreadable_records{{{CLUSTER}}})", "records"),
        ),
        graph(
            "Feature level",
            "The level that the cluster uses, and the level that each node knows. A node that knows less than the "
            "cluster uses does not lead.",
            (f'max(rota_feature_level{{{CLUSTER},of="cluster"}})', "cluster"),
            (f'rota_feature_level{{{NODE},of="node"}}', "{{instance}}"),
        ),
        graph(
            "Memory of live tasks",
            "Estimate from the number of live tasks.",
            (f"max(rota_live_set_bytes{{{CLUSTER}}})", "live set"),
            unit="bytes",
        ),
        graph(
            "Stale writes refused",
            "Batches per second that the store refused because another node leads. This is correct behaviour.",
            (
                f"sum by (instance) (rate(rota_stale_writes_refused_total{{{NODE}}}[{WINDOW}]))",
                "{{instance}}",
            ),
            unit="ops",
        ),
        graph(
            "Changes of leader by node",
            "Changes that each node saw within five minutes.",
            (f"increase(rota_leader_changes_total{{{NODE}}}[5m])", "{{instance}}"),
        ),
    ]


def _store():
    commit = f"rota_commit_duration_seconds_bucket{{{CLUSTER}}}"
    return [
        graph(
            "Space used",
            "Bytes that the store uses, and its limit.",
            (f"max(rota_store_size_bytes{{{CLUSTER}}})", "used"),
            (f"max(rota_store_limit_bytes{{{CLUSTER}}})", "limit"),
            unit="bytes",
        ),
        graph(
            "Commits",
            "Time that the store took for a batch.",
            *quantiles(commit, 0.5, 0.95, 0.99),
            unit="s",
            colors=steps(GREY, (0.5, RED)),
        ),
        graph(
            "Errors",
            "Commits per second that did not succeed at once: full, unavailable, ambiguous (resolved and retried), "
            "fenced (another node leads), broken. Also records of single tasks that could not be read.",
            (f"sum by (kind) (rate(rota_store_errors_total{{{CLUSTER}}}[{WINDOW}]))", "{{kind}}"),
            (
                f"sum by (space) (rate(rota_damaged_records_total{{{CLUSTER}}}[{WINDOW}]))",
                "damaged: {{space}}",
            ),
            unit="ops",
        ),
        graph(
            "Batches",
            "Batches committed per second.",
            (f"sum(rate(rota_batches_total{{{CLUSTER}}}[{WINDOW}]))", "batches"),
            unit="ops",
        ),
        graph(
            "Changes in a batch",
            "Size of batches. Batches grow with the load.",
            *quantiles(f"rota_batch_mutations_bucket{{{CLUSTER}}}", 0.5, 0.99),
        ),
        graph(
            "Revisions",
            "Revisions per second that each node received. A node that hangs receives none.",
            (f"rate(rota_store_revision{{{NODE}}}[{WINDOW}])", "{{instance}}"),
            unit="ops",
        ),
        heatmap("Commit times", "Number of commits by duration.", commit),
        timeline(
            "Store",
            "Whether the store accepts writes, as each node sees it.",
            f"rota_store_up{{{NODE}}}",
            "{{instance}}",
            says(_0=("down", RED), _1=("up", GREEN)),
        ),
        graph(
            "Lost batches",
            "Acknowledged batches that each node has seen in the store and that are missing from it now. The series "
            "'unknown' is 1 if more may be missing than the node counts. Anything above 0 is a loss of tasks.",
            (f"rota_store_lost_batches_total{{{NODE}}}", "{{instance}}"),
            (f"max(rota_store_lost_batches_unknown{{{CLUSTER}}})", "unknown"),
            colors=steps(GREY, (1, RED)),
        ),
        table(
            "Promises of the store",
            "Kind of the store, and the promise that it does not keep because the operator accepted that. Empty if it "
            "keeps all.",
            "weakness",
            [("Nodes", "none", f"count by (backend, weakness) (rota_store_info{{{CLUSTER}}})")],
        ),
    ]


def _api():
    requests = f"rota_api_requests_total{{{NODE}}}"
    ((slow, _),) = quantiles(f"rota_api_request_duration_seconds_bucket{{{NODE}}}", 0.99, by="route")
    return [
        graph(
            "Requests by route",
            "Requests per second on the ten busiest routes.",
            (f"topk(10, sum by (route) (rate({requests}[{WINDOW}])))", "{{route}}"),
            unit="reqps",
        ),
        graph(
            "Answers by code",
            "Answers per second: HTTP status for REST, code for gRPC.",
            (f"sum by (protocol, code) (rate({requests}[{WINDOW}]))", "{{protocol}} {{code}}"),
            unit="reqps",
        ),
        graph(
            "Slowest routes, p99",
            "One request in a hundred took longer. Includes long polls.",
            (f"topk(10, {slow})", "{{route}}"),
            unit="s",
        ),
        graph(
            "Forwarded requests",
            "Requests that followers have open at the leader, and the connections that carry them.",
            (f"sum by (lane) (rota_forward_streams{{{NODE}}})", "{{lane}}"),
            (f"sum by (lane) (rota_forward_connections{{{NODE}}})", "{{lane}}, connections"),
        ),
        graph(
            "Memory for requests and answers",
            "Request bodies in progress, and large answers that clients have not read yet.",
            (f"rota_api_bodies_bytes{{{NODE}}}", "{{instance}}, bodies"),
            (f"rota_api_answers_bytes{{{NODE}}}", "{{instance}}, answers"),
            unit="bytes",
        ),
        graph(
            "Forwarding failures",
            "Failed attempts per second to reach another node, by reason.",
            (f"sum by (reason) (rate(rota_forward_failures_total{{{NODE}}}[{WINDOW}]))", "{{reason}}"),
        ),
        graph(
            "TLS handshakes",
            "TLS handshakes of clients per second, by outcome, and changes of certificate files. Empty without TLS.",
            (f"sum by (outcome) (rate(rota_tls_handshakes_total{{{NODE}}}[{WINDOW}]))", "{{outcome}}"),
            (f"sum by (outcome) (rate(rota_tls_reloads_total{{{NODE}}}[{WINDOW}]))", "files changed, {{outcome}}"),
        ),
        graph(
            "Events",
            "Clients that listen to events, events sent to them per second, and interruptions in which they missed some.",
            (f"sum(rota_event_listeners{{{NODE}}})", "listeners"),
            (f"sum(rate(rota_events_sent_total{{{NODE}}}[{WINDOW}]))", "events"),
            (f"sum(rate(rota_event_resets_total{{{NODE}}}[{WINDOW}]))", "interruptions"),
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
            "Resident and reserved memory.",
            (f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),
            (f"process_virtual_memory_bytes{{{PROCESS}}}", "{{instance}}, reserved"),
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
        table(
            "Versions",
            "Version and uptime of each node and worker.",
            "instance",
            [
                (
                    "Uptime",
                    "s",
                    f"sum by (instance, version) ((time() - process_start_time_seconds{{{CLUSTER}}}) "
                    f"* on (instance) group_left (version) rota_build_info{{{CLUSTER}}})",
                ),
            ],
            width=HALF,
        ),
    ]
