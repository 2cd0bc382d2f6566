//! Every metric that Rota shows: name, type, labels, unit, and what it means.
//!
//! Names follow the conventions of Prometheus: base units, the unit at the end, `_total` for what
//! only grows. What the declaration does not say cannot be registered.

/// A metric as it is declared.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Metric {
    /// Its full name, `_total` included.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop at the end.
    pub help: &'static str,
    /// Who shows it.
    pub shown_by: ShownBy,
}

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in these buckets and in native ones.
    Histogram(Buckets),
}

/// The classic buckets of a histogram. Native ones need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Buckets {
    /// Seconds that tasks take: from a millisecond to hours.
    Task,
    /// Seconds that answers and commits take: from half a millisecond to seconds.
    Answer,
    /// How many.
    Size,
}

impl Buckets {
    /// Their upper bounds.
    #[must_use]
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Self::Task => &[
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                60.0, 300.0, 1800.0, 7200.0,
            ],
            Self::Answer => &[
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                10.0,
            ],
            Self::Size => &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0],
        }
    }
}

/// Which processes show a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShownBy {
    /// The node that leads, and no other.
    Leader,
    /// Every node.
    Node,
    /// Every worker that listens for Prometheus.
    Worker,
    /// Nodes and workers.
    Process,
}

const fn metric(
    shape: Shape,
    shown_by: ShownBy,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, shape, labels, help, shown_by }
}

use Shape::{Counter, Gauge, Histogram};
use ShownBy::{Leader, Node, Process, Worker};

const LANE: &[&str] = &["queue", "kind"];
const NONE: &[&str] = &[];

/// Declares the metrics, and a list of all of them in this order.
macro_rules! catalogue {
    ($($constant:ident: $shape:expr, $shown_by:expr, $name:literal, $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric = metric($shape, $shown_by, $name, $labels, $help);
        )*
        /// Every metric, in the order of the reference page.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

catalogue! {
    // Tasks: totals are kept in the store beside the tasks, so that they go on where the last
    // leader ended.
    TASKS_SUBMITTED: Counter, Leader, "rota_tasks_submitted_total", LANE,
        "Tasks created. Repeats of a task that exists are not counted";
    TASKS_REVIVED: Counter, Leader, "rota_tasks_revived_total", LANE,
        "Ended tasks that a client made live again";
    TASKS_STARTED: Counter, Leader, "rota_tasks_started_total", LANE,
        "Attempts given to a worker";
    TASKS_COMPLETED: Counter, Leader, "rota_tasks_completed_total", LANE,
        "Tasks that ended well";
    TASKS_FAILED: Counter, Leader, "rota_tasks_failed_total", &["queue", "kind", "reason"],
        "Tasks that ended badly, by reason: error, permanent, timeout or worker_lost";
    TASKS_CANCELLED: Counter, Leader, "rota_tasks_cancelled_total", LANE,
        "Tasks that a client cancelled";
    TASKS_EXPIRED: Counter, Leader, "rota_tasks_expired_total", LANE,
        "Tasks that were not started by their expiry date";
    TASKS_RETRIED: Counter, Leader, "rota_tasks_retried_total", LANE,
        "Attempts that failed and are followed by another";
    TASKS_LOST: Counter, Leader, "rota_tasks_lost_total", LANE,
        "Attempts that ended because their worker was lost";
    TASKS_RELEASED: Counter, Leader, "rota_tasks_released_total", LANE,
        "Attempts that a worker gave back unharmed";
    TASKS: Gauge, Leader, "rota_tasks", &["queue", "state"],
        "Tasks that have not ended, by state: scheduled, pending, or leased (a worker has it)";
    TASKS_UNSERVED: Gauge, Leader, "rota_tasks_unserved", &["queue"],
        "Pending tasks of kinds that no connected worker serves in their queue";
    OLDEST_PENDING: Gauge, Leader, "rota_queue_oldest_pending_age_seconds", &["queue"],
        "Since when the pending task that is due longest has been due; 0 where none is";
    QUEUE_PAUSED: Gauge, Leader, "rota_queue_paused", &["queue"],
        "1 while the queue is paused; of queues that share a name, while all in which tasks wait are";
    SCHEDULE_TO_START: Histogram(Buckets::Task), Node, "rota_task_schedule_to_start_seconds",
        &["queue"],
        "From when a task was due to when it was given to a worker, without attempts that came \
         back from a lost or leaving worker. Counted by the node that led";
    EXECUTION: Histogram(Buckets::Task), Node, "rota_task_execution_seconds", &["queue"],
        "From when an attempt was given to a worker to when it completed or failed, without lost \
         ones. Counted by the node that led";
    TIMER_LATENESS: Histogram(Buckets::Task), Node, "rota_timer_lateness_seconds", NONE,
        "By how much timers of delayed tasks and retries were late. Counted by the node that led";
    QUEUE_VIEW_AGE: Gauge, Leader, "rota_queue_view_age_seconds", NONE,
        "Age of the counts by queue and worker in this answer; more than a second or two means that \
         the engine did not answer in time";
    // Workers, as the leader sees them.
    SESSIONS: Gauge, Leader, "rota_sessions", &["state"],
        "Workers' sessions, by state: serving, draining, or awaited (not back yet after a change of \
         leader)";
    SESSION_SLOTS: Gauge, Leader, "rota_session_slots", &["worker"],
        "The most tasks that a worker's sessions hold; without a stream, as many as it last asked for \
         or holds";
    SESSION_SLOTS_USED: Gauge, Leader, "rota_session_slots_used", &["worker"],
        "Tasks that a worker's sessions hold";
    SESSION_HEARTBEAT_AGE: Gauge, Leader, "rota_session_heartbeat_age_seconds", &["worker"],
        "How long ago a worker was last heard of";
    SESSIONS_OPENED: Counter, Node, "rota_sessions_opened_total", NONE,
        "Sessions opened, or taken up again after a break, with this node as leader";
    SESSIONS_ENDED: Counter, Node, "rota_sessions_ended_total", &["reason"],
        "Sessions that ended with this node as leader: closed by their worker, or expired in \
         silence";
    STALE_REPORTS: Counter, Node, "rota_stale_reports_refused_total", NONE,
        "Workers' reports refused because their lease was over";
    // The cluster.
    LEADER: Gauge, Node, "rota_leader", NONE,
        "1 on the node that leads";
    LEADER_KNOWN: Gauge, Node, "rota_leader_known", NONE,
        "1 while this node leads or, by the word of the store, another does";
    LEADER_EPOCH: Gauge, Node, "rota_leader_epoch", NONE,
        "The number of the newest leadership that this node knows of; grows with every leader";
    LEADER_CHANGES: Counter, Node, "rota_leader_changes_total", NONE,
        "Changes of leader that this node saw, after the first leader";
    LEADERLESS: Counter, Node, "rota_leaderless_seconds_total", NONE,
        "Time during which this node knew of no leader; one that died counts as one until its lease is over";
    READY: Gauge, Node, "rota_ready", &["check"],
        "1 for each check of /readyz that holds and must: store, leader, backlog, engine, and in a cluster forwarding";
    FEATURE_LEVEL: Gauge, Node, "rota_feature_level", &["of"],
        "Feature level: of this node, the one that it knows; of the cluster, the one that may be used";
    UNREADABLE: Gauge, Leader, "rota_unreadable_records", NONE,
        "Records that the leader cannot read, damaged or of a newer version: it leaves them alone and serves \
         all others";
    ENGINE_PULSE_AGE: Gauge, Leader, "rota_engine_pulse_age_seconds", NONE,
        "Since when the engine's loop has given no sign of life; it gives one every second";
    LIVE_TASKS: Gauge, Node, "rota_live_tasks", NONE,
        "Tasks that have not ended: the leader's own, or a follower's copy";
    LIVE_BYTES: Gauge, Leader, "rota_live_set_bytes", NONE,
        "Memory that live tasks take, as far as their number says";
    CLOCK_DOUBTED: Gauge, Node, "rota_clock_doubted", NONE,
        "1 while the wall clock jumped forward and nothing is removed for its age";
    INBOX: Gauge, Node, "rota_inbox_requests", NONE,
        "Requests that wait for the engine's loop";
    INBOX_LIMIT: Gauge, Node, "rota_inbox_limit_requests", NONE,
        "The most requests that may wait; then callers are turned away";
    DAMAGED_RECORDS: Counter, Node, "rota_damaged_records_total", &["space"],
        "Records of single tasks found unreadable, by the space of the store that holds them";
    // The store.
    BATCHES: Counter, Node, "rota_batches_total", NONE,
        "Batches that this node committed";
    BATCH_MUTATIONS: Histogram(Buckets::Size), Node, "rota_batch_mutations", NONE,
        "Changes in a committed batch";
    COMMIT: Histogram(Buckets::Answer), Node, "rota_commit_duration_seconds", NONE,
        "Time the store took to commit a batch";
    STORE_ERRORS: Counter, Node, "rota_store_errors_total", &["kind"],
        "Commits that did not succeed at once: full, unavailable, ambiguous, fenced (refused, for \
         another node leads) or broken";
    STALE_WRITES: Counter, Node, "rota_stale_writes_refused_total", NONE,
        "Batches of this node that the store refused because another node leads";
    STORE_BYTES: Gauge, Node, "rota_store_size_bytes", NONE,
        "Bytes the store uses, where known";
    STORE_LIMIT: Gauge, Node, "rota_store_limit_bytes", NONE,
        "Bytes the store may grow to (quota, or free disk plus used), where known";
    STORE_REVISION: Gauge, Node, "rota_store_revision", NONE,
        "The newest revision of the store that this node knows of";
    STORE_UP: Gauge, Node, "rota_store_up", NONE,
        "1 while the store takes writes";
    // The API.
    API_REQUESTS: Counter, Node, "rota_api_requests_total", &["protocol", "route", "code"],
        "Requests answered, by route template and by HTTP status or gRPC code. Those that a \
         follower hands on are counted by both nodes";
    API_DURATION: Histogram(Buckets::Answer), Node, "rota_api_request_duration_seconds",
        &["protocol", "route"],
        "From a request to the head of its answer, long polls included, streams not";
    API_BODIES: Gauge, Node, "rota_api_bodies_bytes", NONE,
        "Memory for request bodies in use: at most limits.bodies_in_flight_bytes";
    API_ANSWERS: Gauge, Node, "rota_api_answers_bytes", NONE,
        "Memory for large answers in use: at most limits.answers_in_flight_bytes";
    FORWARD_CONNECTIONS: Gauge, Node, "rota_forward_connections", &["lane"],
        "Connections from this node to other nodes: lane short carries requests that are answered \
         at once, lane long carries long polls and workers' streams";
    FORWARD_STREAMS: Gauge, Node, "rota_forward_streams", &["lane"],
        "Requests that this node has with other nodes now, by lane";
    FORWARD_FAILURES: Counter, Node, "rota_forward_failures_total", &["reason"],
        "Tries to have another node answer that failed: unreachable, no_room (all streams were in \
         use), late (no answer in time) or unknown (the connection broke)";
    // Workers, as they see themselves.
    WORKER_CONNECTED: Gauge, Worker, "rota_worker_connected", NONE,
        "1 while the worker has a session on a node";
    WORKER_CONNECTS: Counter, Worker, "rota_worker_connects_total", NONE,
        "Connections made to a node";
    WORKER_REFUSALS: Counter, Worker, "rota_worker_refusals_total", NONE,
        "Times that a server, or a proxy in front of it, refused the worker or a message of it; the \
         worker keeps its tasks and tries again";
    WORKER_SLOTS: Gauge, Worker, "rota_worker_slots", NONE,
        "Tasks that the worker runs at once";
    WORKER_SLOTS_USED: Gauge, Worker, "rota_worker_slots_used", NONE,
        "Tasks that the worker runs";
    WORKER_ATTEMPTS: Counter, Worker, "rota_worker_attempts_total", &["kind", "outcome"],
        "Attempts that ended here: completed, failed, cancelled, released, or dropped (the lease \
         was over)";
    WORKER_ATTEMPT: Histogram(Buckets::Task), Worker, "rota_worker_attempt_duration_seconds",
        &["kind"],
        "Time that a handler took";
    // Each process.
    BUILD: Gauge, Process, "rota_build_info", &["version"],
        "1; the label names the version";
    PROCESS_CPU: Counter, Process, "process_cpu_seconds_total", NONE,
        "Processor time, user and system";
    PROCESS_RESIDENT: Gauge, Process, "process_resident_memory_bytes", NONE,
        "Resident memory";
    PROCESS_VIRTUAL: Gauge, Process, "process_virtual_memory_bytes", NONE,
        "Virtual memory";
    PROCESS_FDS: Gauge, Process, "process_open_fds", NONE,
        "Open file descriptors";
    PROCESS_FDS_MAX: Gauge, Process, "process_max_fds", NONE,
        "The most file descriptors that may be open";
    PROCESS_START: Gauge, Process, "process_start_time_seconds", NONE,
        "When the process began, in seconds since 1970";
    PROCESS_THREADS: Gauge, Process, "process_threads", NONE,
        "Threads";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is declared twice");
        for metric in ALL {
            let Metric { name, shape, help, labels, .. } = metric;
            let lawful = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(lawful), "{name}");
            assert!(name.starts_with("rota_") || name.starts_with("process_"), "{name}");
            assert_eq!(*shape == Counter, name.ends_with("_total"), "{name}");
            for word in ["_ms", "_millis", "_minutes", "_kb", "_mb", "_percent"] {
                assert!(!name.contains(word), "{name} has no base unit");
            }
            if let Histogram(Buckets::Task | Buckets::Answer) = shape {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(!help.ends_with('.') && !help.contains('\n'), "{name}: {help:?}");
            assert!(labels.iter().all(|label| label.chars().all(lawful)), "{name}");
        }
    }

    #[test]
    fn buckets_grow() {
        for buckets in [Buckets::Task, Buckets::Answer, Buckets::Size] {
            assert!(buckets.bounds().is_sorted_by(|a, b| a < b), "{buckets:?}");
        }
    }
}
