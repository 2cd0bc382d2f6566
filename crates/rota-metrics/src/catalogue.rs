//! Every metric of Rota: name, type, labels, unit and meaning.
//!
//! Names follow the conventions of Prometheus: base units, the unit at the end, `_total` for counters. Only
//! declared metrics can be registered.

/// The declaration of a metric.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Metric {
    /// Full name, including `_total`.
    pub name: &'static str,
    /// Type of the metric.
    pub shape: Shape,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// Meaning, without a full stop at the end.
    pub help: &'static str,
    /// The processes that expose it.
    pub shown_by: ShownBy,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram, with these classic buckets and native ones.
    Histogram(Buckets),
}

/// The classic buckets of a histogram. Native ones need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Buckets {
    /// Times of tasks in seconds: from 1 ms to hours.
    Task,
    /// Times of answers and commits in seconds: from 0.5 ms to seconds.
    Answer,
    /// Counts.
    Size,
}

impl Buckets {
    /// The upper bounds.
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

/// The processes that expose a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShownBy {
    /// Only the leader.
    Leader,
    /// Every node.
    Node,
    /// Every worker with `metrics_listen`.
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
    // Tasks: totals are in the store with the tasks, so that they continue after a change of leader.
    TASKS_SUBMITTED: Counter, Leader, "rota_tasks_submitted_total", LANE,
        "Tasks created, without repeats of existing tasks";
    TASKS_REVIVED: Counter, Leader, "rota_tasks_revived_total", LANE,
        "Ended tasks that a client retried";
    TASKS_STARTED: Counter, Leader, "rota_tasks_started_total", LANE,
        "Attempts assigned to a worker";
    TASKS_COMPLETED: Counter, Leader, "rota_tasks_completed_total", LANE,
        "Tasks that completed";
    TASKS_FAILED: Counter, Leader, "rota_tasks_failed_total", &["queue", "kind", "reason"],
        "Tasks that failed, by reason: error, permanent, timeout or worker_lost";
    TASKS_CANCELLED: Counter, Leader, "rota_tasks_cancelled_total", LANE,
        "Tasks that a client cancelled";
    TASKS_EXPIRED: Counter, Leader, "rota_tasks_expired_total", LANE,
        "Tasks that did not start before their expiry date";
    TASKS_RETRIED: Counter, Leader, "rota_tasks_retried_total", LANE,
        "Attempts that failed and were followed by a retry";
    TASKS_LOST: Counter, Leader, "rota_tasks_lost_total", LANE,
        "Attempts that ended because their worker was lost";
    TASKS_RELEASED: Counter, Leader, "rota_tasks_released_total", LANE,
        "Attempts that a worker gave back without using up an attempt";
    TASKS_SNOOZED: Counter, Leader, "rota_tasks_snoozed_total", LANE,
        "Attempts that ended because their handlers put the task off";
    TASKS: Gauge, Leader, "rota_tasks", &["queue", "state"],
        "Tasks that have not ended, by state: scheduled, pending, or leased (with a worker)";
    TASKS_UNSERVED: Gauge, Leader, "rota_tasks_unserved", &["queue"],
        "Pending tasks whose kind no connected worker serves in their queue";
    OLDEST_PENDING: Gauge, Leader, "rota_queue_oldest_pending_age_seconds", &["queue"],
        "Time since the oldest pending task became due; 0 if there is none";
    QUEUE_PAUSED: Gauge, Leader, "rota_queue_paused", &["queue"],
        "1 while the queue is paused. For a label that several queues share: 1 while all of them \
         with waiting tasks are paused";
    SCHEDULE_TO_START: Histogram(Buckets::Task), Node, "rota_task_schedule_to_start_seconds",
        &["queue"],
        "Time from when a task was due until its assignment to a worker, without attempts that \
         came back from a lost or leaving worker; counted by the node that led";
    EXECUTION: Histogram(Buckets::Task), Node, "rota_task_execution_seconds", &["queue"],
        "Time from the assignment of an attempt until it completed or failed, without lost \
         attempts; counted by the node that led";
    TIMER_LATENESS: Histogram(Buckets::Task), Node, "rota_timer_lateness_seconds", NONE,
        "Lateness of timers of delayed tasks and retries; counted by the node that led";
    QUEUE_VIEW_AGE: Gauge, Leader, "rota_queue_view_age_seconds", NONE,
        "Age of the counts by queue and worker in this answer. More than a second or two means \
         that the engine did not answer in time";
    // Schedules.
    SCHEDULES: Gauge, Leader, "rota_schedules", &["state"],
        "Schedules, by state: active, paused or completed";
    SCHEDULE_NEXT: Gauge, Leader, "rota_schedule_next_tick_timestamp_seconds", NONE,
        "Unix time, in whole seconds, of the earliest tick of all active schedules that is not \
         decided; absent if no tick will come";
    SCHEDULE_OVERDUE: Gauge, Leader, "rota_schedule_overdue_seconds", NONE,
        "Time since that tick was due; 0 while it is still to come";
    SCHEDULES_BEHIND: Gauge, Leader, "rota_schedules_behind", NONE,
        "Active schedules with a tick that has been due for more than ten seconds and is not \
         decided";
    SCHEDULE_FAILURES: Gauge, Leader, "rota_schedule_failures", &["schedule"],
        "Tasks of a schedule that failed or expired since one completed; only schedules with \
         such tasks, without those that somebody paused";
    SCHEDULE_TICKS: Counter, Node, "rota_schedule_ticks_total", &["outcome", "reason"],
        "Decided ticks of schedules, by outcome (fired, queued, skipped, coalesced, missed or \
         refused) and, if it has one, by reason. A tick that was queued counts again with its \
         final outcome; counted by the node that led";
    SCHEDULE_LATENESS: Histogram(Buckets::Task), Node, "rota_schedule_lateness_seconds", NONE,
        "Time from when a tick was due, jitter included, until it created its task, without \
         ticks that waited for an earlier task; counted by the node that led";
    SCHEDULE_MISSED: Counter, Node, "rota_schedule_missed_total", &["schedule"],
        "Ticks of a schedule that should have created a task and did not, with the outcome \
         missed or refused; only schedules with such ticks; counted by the node that led";
    SCHEDULE_MISSED_TIME: Gauge, Node, "rota_schedule_missed_timestamp_seconds", &["schedule"],
        "Unix time at which the last of these ticks was decided";
    // Workers, from the view of the leader.
    SESSIONS: Gauge, Leader, "rota_sessions", &["state"],
        "Sessions of workers, by state: serving, draining, or awaited (not back yet after a \
         change of leader)";
    SESSION_SLOTS: Gauge, Leader, "rota_session_slots", &["worker"],
        "Slots of the sessions of a worker; without a stream, the number of tasks that it last \
         asked for or holds";
    SESSION_SLOTS_USED: Gauge, Leader, "rota_session_slots_used", &["worker"],
        "Tasks that the sessions of a worker hold";
    SESSION_HEARTBEAT_AGE: Gauge, Leader, "rota_session_heartbeat_age_seconds", &["worker"],
        "Time since the last heartbeat or other message of a worker";
    SESSIONS_OPENED: Counter, Node, "rota_sessions_opened_total", NONE,
        "Sessions opened, or resumed after a break, while this node led";
    SESSIONS_ENDED: Counter, Node, "rota_sessions_ended_total", &["reason"],
        "Sessions that ended while this node led: closed by their worker, or expired without a \
         heartbeat";
    EVENT_LISTENERS: Gauge, Node, "rota_event_listeners", NONE,
        "Listeners that receive events from this node";
    EVENTS_SENT: Counter, Node, "rota_events_sent_total", NONE,
        "Events sent to listeners; an event counts once for each";
    EVENT_RESETS: Counter, Node, "rota_event_resets_total", &["reason"],
        "Listeners that were told that they have missed events, by reason: leader_changed, \
         history_gone, too_slow or unknown_id";
    STALE_REPORTS: Counter, Node, "rota_stale_reports_refused_total", NONE,
        "Reports of workers that were refused because their lease had ended";
    // The cluster.
    LEADER: Gauge, Node, "rota_leader", NONE,
        "1 on the node that leads";
    LEADER_KNOWN: Gauge, Node, "rota_leader_known", NONE,
        "1 while this node leads or, according to the store, another node does";
    LEADER_EPOCH: Gauge, Node, "rota_leader_epoch", NONE,
        "Number of the newest leadership that this node knows of; grows with every change of \
         leader";
    LEADER_CHANGES: Counter, Node, "rota_leader_changes_total", NONE,
        "Changes of leader that this node saw, after the first leader";
    LEADERLESS: Counter, Node, "rota_leaderless_seconds_total", NONE,
        "Time during which this node knew of no leader; a dead leader counts as a leader until \
         its lease ends";
    READY: Gauge, Node, "rota_ready", &["check"],
        "1 for each required check of /readyz that passes: store, leader, backlog, engine, and \
         in a cluster forwarding";
    FEATURE_LEVEL: Gauge, Node, "rota_feature_level", &["of"],
        "Feature level: the one that this node knows (node), and the one that the cluster uses \
         (cluster)";
    UNREADABLE: Gauge, Leader, "rota_unreadable_records", NONE,
        "Records that the leader cannot read, because they are damaged or a newer version wrote \
         them; the leader skips them";
    ENGINE_PULSE_AGE: Gauge, Leader, "rota_engine_pulse_age_seconds", NONE,
        "Time since the last progress of the engine's loop, which makes progress every second";
    LIVE_TASKS: Gauge, Node, "rota_live_tasks", NONE,
        "Tasks that have not ended: those of the leader, or the copy of a follower";
    LIVE_BYTES: Gauge, Leader, "rota_live_set_bytes", NONE,
        "Memory of live tasks, estimated from their number";
    CLOCK_DOUBTED: Gauge, Node, "rota_clock_doubted", NONE,
        "1 after the wall clock jumped forward, while retention removes nothing";
    INBOX: Gauge, Node, "rota_inbox_requests", NONE,
        "Requests that wait for the engine's loop";
    INBOX_LIMIT: Gauge, Node, "rota_inbox_limit_requests", NONE,
        "Largest number of requests that can wait; further requests get 429 or RESOURCE_EXHAUSTED";
    DAMAGED_RECORDS: Counter, Node, "rota_damaged_records_total", &["space"],
        "Records of single tasks that could not be read, by the space of the store";
    // The store.
    BATCHES: Counter, Node, "rota_batches_total", NONE,
        "Batches that this node committed";
    BATCH_MUTATIONS: Histogram(Buckets::Size), Node, "rota_batch_mutations", NONE,
        "Changes in a committed batch";
    COMMIT: Histogram(Buckets::Answer), Node, "rota_commit_duration_seconds", NONE,
        "Time that the store took to commit a batch";
    STORE_ERRORS: Counter, Node, "rota_store_errors_total", &["kind"],
        "Commits that did not succeed at once: full, unavailable, ambiguous, fenced (another \
         node leads) or broken";
    STALE_WRITES: Counter, Node, "rota_stale_writes_refused_total", NONE,
        "Batches of this node that the store refused because another node leads";
    STORE_BYTES: Gauge, Node, "rota_store_size_bytes", NONE,
        "Bytes that the store uses, if known";
    STORE_LIMIT: Gauge, Node, "rota_store_limit_bytes", NONE,
        "Bytes that the store can grow to (quota, or free disk space plus used space), if known";
    STORE_REVISION: Gauge, Node, "rota_store_revision", NONE,
        "Newest revision of the store that this node knows of";
    STORE_UP: Gauge, Node, "rota_store_up", NONE,
        "1 while the store accepts writes";
    STORE_INFO: Gauge, Node, "rota_store_info", &["backend", "weakness"],
        "1, with the kind of the store, and the promise that it does not keep because the operator \
         accepted that; an empty weakness if it keeps all";
    STORE_LOST: Counter, Node, "rota_store_lost_batches_total", NONE,
        "Acknowledged batches that this node has seen in the store and that are missing from it now";
    STORE_LOST_MORE: Gauge, Node, "rota_store_lost_batches_unknown", NONE,
        "1 if more batches may be missing than rota_store_lost_batches_total counts, because the \
         store went back at a time when this node did not know its newest batch";
    STORE_LOSS_TIME: Gauge, Node, "rota_store_loss_timestamp_seconds", NONE,
        "Unix time at which this node noticed that the store has lost batches, or may have; \
         absent while it knows of no loss";
    // The API.
    API_REQUESTS: Counter, Node, "rota_api_requests_total", &["protocol", "route", "code"],
        "Requests answered, by route template and by HTTP status or gRPC code. Forwarded \
         requests count on both nodes";
    API_DURATION: Histogram(Buckets::Answer), Node, "rota_api_request_duration_seconds",
        &["protocol", "route"],
        "Time from a request to the head of its answer, including long polls, without streams";
    API_BODIES: Gauge, Node, "rota_api_bodies_bytes", NONE,
        "Memory in use for request bodies; at most limits.bodies_in_flight_bytes";
    API_ANSWERS: Gauge, Node, "rota_api_answers_bytes", NONE,
        "Memory in use for large answers; at most limits.answers_in_flight_bytes";
    FORWARD_CONNECTIONS: Gauge, Node, "rota_forward_connections", &["lane"],
        "Connections from this node to other nodes, by lane: short for requests that are \
         answered at once, long for long polls and streams of workers";
    FORWARD_STREAMS: Gauge, Node, "rota_forward_streams", &["lane"],
        "Requests that this node has open at other nodes, by lane";
    FORWARD_FAILURES: Counter, Node, "rota_forward_failures_total", &["reason"],
        "Failed attempts to forward a request, by reason: unreachable, no_room (all streams were \
         in use), late (no answer in time) or unknown (the connection broke)";
    // TLS on the port of the node. Without TLS, these are absent.
    TLS_HANDSHAKES: Counter, Node, "rota_tls_handshakes_total", &["outcome"],
        "TLS handshakes of clients, by outcome: done, failed (no agreement, or the connection broke), \
         late (not complete in time) or plain (the client does not speak TLS). Absent without TLS";
    TLS_RELOADS: Counter, Node, "rota_tls_reloads_total", &["outcome"],
        "Changes of the certificate, its key or the authorities of clients, by outcome: done, or \
         failed (the new files cannot be used, and the node keeps the old ones). Absent without TLS";
    TLS_EXPIRY: Gauge, Node, "rota_tls_certificate_expiry_timestamp_seconds", NONE,
        "Unix time at which the certificate that the node serves expires, or the first one of its \
         chain. Absent without TLS";
    // Workers, from their own view.
    WORKER_CONNECTED: Gauge, Worker, "rota_worker_connected", NONE,
        "1 while the worker has a session on a node";
    WORKER_CONNECTS: Counter, Worker, "rota_worker_connects_total", NONE,
        "Connections that the worker made to nodes";
    WORKER_REFUSALS: Counter, Worker, "rota_worker_refusals_total", NONE,
        "Refusals of the worker or one of its messages by a server, or by a proxy in front of \
         it; the worker keeps its tasks and retries";
    WORKER_SLOTS: Gauge, Worker, "rota_worker_slots", NONE,
        "Slots of the worker";
    WORKER_SLOTS_USED: Gauge, Worker, "rota_worker_slots_used", NONE,
        "Tasks that the worker runs";
    WORKER_ATTEMPTS: Counter, Worker, "rota_worker_attempts_total", &["kind", "outcome"],
        "Attempts that ended here: completed, failed, cancelled, released, or dropped (the lease \
         had ended)";
    WORKER_ATTEMPT: Histogram(Buckets::Task), Worker, "rota_worker_attempt_duration_seconds",
        &["kind"],
        "Running time of the handler";
    // Each process.
    BUILD: Gauge, Process, "rota_build_info", &["version"],
        "1; the label contains the version";
    PROCESS_CPU: Counter, Process, "process_cpu_seconds_total", NONE,
        "Processor time, user and system";
    PROCESS_RESIDENT: Gauge, Process, "process_resident_memory_bytes", NONE,
        "Resident memory";
    PROCESS_VIRTUAL: Gauge, Process, "process_virtual_memory_bytes", NONE,
        "Virtual memory";
    PROCESS_FDS: Gauge, Process, "process_open_fds", NONE,
        "Open file descriptors";
    PROCESS_FDS_MAX: Gauge, Process, "process_max_fds", NONE,
        "Largest number of open file descriptors allowed";
    PROCESS_START: Gauge, Process, "process_start_time_seconds", NONE,
        "Start time of the process, in seconds since 1970";
    PROCESS_THREADS: Gauge, Process, "process_threads", NONE,
        "Threads of the process";
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
