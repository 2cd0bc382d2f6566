//! Metrics that are read from the engine when somebody scrapes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, UNIX_EPOCH},
};

use rota_core::{Machine, MachineStats, Millis, ScheduleStats, SessionState, WallTime};
use rota_metrics::{NodeMetrics, OTHER, Snapshot, catalogue as all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{api::Role, engine::Engine, memory::MemoryPeaks, shared::Shared};

/// Timeout for an answer of the machine, because metrics are most needed during problems.
const PATIENCE: Duration = Duration::from_secs(1);

/// The last stats of the machine, for when it does not answer.
#[derive(Debug, Default)]
pub(crate) struct LastStats(tokio::sync::Mutex<Option<(u64, Instant, Arc<MachineStats>)>>);

/// A number for the exposition format.
#[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
fn number(value: impl TryInto<u64>) -> f64 {
    value.try_into().map_or(0.0, |value: u64| value as f64)
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

impl Engine {
    /// The metrics of this node.
    #[must_use]
    pub fn metrics(&self) -> &NodeMetrics {
        &self.inner.options.metrics
    }

    /// The current values of metrics that are not counted continuously. The cost grows with queues and
    /// sessions, not with tasks. Answers within about a second in any case.
    pub async fn collect_metrics(&self) -> Snapshot {
        let (stats, status) =
            tokio::join!(self.stats(), timeout(PATIENCE, self.inner.store.status()));
        let mut snapshot = Snapshot::default();
        self.collect_node(&mut snapshot);
        if let Ok(status) = status {
            snapshot.put_known(&all::STORE_BYTES, status.bytes_used.map(number));
            snapshot.put_known(&all::STORE_LIMIT, status.bytes_max.map(number));
            snapshot.put(&all::STORE_REVISION, number(status.revision.0));
            snapshot.put(&all::STORE_UP, flag(status.problem.is_none()));
            let weakness = status.weakness.unwrap_or_default();
            snapshot.set(&all::STORE_INFO, [status.backend, &weakness], 1.0);
        } else {
            snapshot.put(&all::STORE_UP, 0.0);
        }
        if let Some((taken, stats)) = stats {
            let age = taken.elapsed();
            snapshot.put(&all::QUEUE_VIEW_AGE, age.as_secs_f64());
            snapshot.put(&all::LIVE_BYTES, number(stats.memory_bytes));
            let now = self.inner.shared.host.now();
            collect_queues(&mut snapshot, self.metrics(), &stats, now.wall);
            collect_sessions(&mut snapshot, self.metrics(), &stats, Millis::from_duration(age));
            let believed = self.inner.shared.timekeeper.believed(now);
            collect_schedules(&mut snapshot, self.metrics(), &stats.schedules, believed);
        }
        snapshot
    }

    /// The most bytes that each bounded part of this node's memory has held.
    #[must_use]
    pub fn memory_peaks(&self) -> MemoryPeaks {
        let shared = &self.inner.shared;
        let (submissions, reports) = shared.room.most();
        let (channels, channel) = shared.downstream.most();
        MemoryPeaks { cached: shared.cached.most(), submissions, reports, channels, channel }
    }

    /// Figures of the machine, and their time. `None` if this node is not the leader.
    async fn stats(&self) -> Option<(Instant, Arc<MachineStats>)> {
        if self.role() != Role::Leader {
            return None;
        }
        let epoch = self.inner.shared.epoch.load(Ordering::Relaxed);
        // One survey at a time for all scrapers.
        let mut last = self.inner.stats.0.lock().await;
        if let Ok(Ok(stats)) = timeout(PATIENCE, self.query(Machine::stats)).await {
            *last = Some((epoch, Instant::now(), Arc::new(stats)));
        }
        let (of, taken, stats) = last.as_ref()?;
        (*of == epoch).then(|| (*taken, stats.clone()))
    }

    fn collect_node(&self, snapshot: &mut Snapshot) {
        let shared = &self.inner.shared;
        let leads = self.role() == Role::Leader;
        snapshot.put(&all::LEADER, flag(leads));
        if leads {
            snapshot.put(&all::ENGINE_PULSE_AGE, shared.pulse_age().as_secs_f64());
            let unreadable = shared.unreadable.load(Ordering::Relaxed);
            snapshot.put(&all::UNREADABLE, number(unreadable));
        }
        for check in self.health().checks.into_iter().filter(|check| check.needed) {
            snapshot.set(&all::READY, [check.name], flag(check.problem.is_none()));
        }
        snapshot.set(&all::FEATURE_LEVEL, ["node"], number(shared.known_level));
        let cluster_level = shared.cluster_level.load(Ordering::Relaxed);
        snapshot.set(&all::FEATURE_LEVEL, ["cluster"], number(cluster_level));
        snapshot.put(&all::LIVE_TASKS, number(shared.live_tasks.load(Ordering::Relaxed)));
        let (waiting, limit) = self.inner.inbox.waiting();
        snapshot.put(&all::INBOX, number(waiting));
        snapshot.put(&all::INBOX_LIMIT, number(limit));
        snapshot.put(&all::CLOCK_DOUBTED, flag(shared.timekeeper.doubts()));
        let lost = self.store_lost();
        let batches = lost.as_ref().and_then(|lost| lost.batches);
        snapshot.put(&all::STORE_LOST, number(batches.unwrap_or(0)));
        let maybe_more = lost.as_ref().is_some_and(|lost| lost.maybe_more);
        snapshot.put(&all::STORE_LOST_MORE, flag(maybe_more));
        let noticed = lost.and_then(|lost| lost.noticed.duration_since(UNIX_EPOCH).ok());
        snapshot.put_known(&all::STORE_LOSS_TIME, noticed.map(|at| at.as_secs_f64()));
    }
}

#[derive(Default)]
struct QueueSum {
    scheduled: u64,
    pending: u64,
    leased: u64,
    unserved: u64,
    oldest: Option<WallTime>,
    paused: bool,
    /// Whether tasks wait in a queue that is not paused.
    waits: bool,
}

fn collect_queues(
    snapshot: &mut Snapshot,
    metrics: &NodeMetrics,
    stats: &MachineStats,
    now: WallTime,
) {
    let mut sums: BTreeMap<Arc<str>, QueueSum> = BTreeMap::new();
    for queue in &stats.queues {
        let counts = &queue.counts;
        let name = metrics.queues().fold(&counts.name);
        let alone = *name != *OTHER;
        let sum = sums.entry(name).or_default();
        sum.scheduled += counts.scheduled;
        sum.pending += counts.pending;
        sum.leased += counts.leased;
        // Alerts ignore paused queues. If several queues share a label, a paused one must not silence alerts
        // for the others, so it is excluded from the metrics of alerts.
        if alone || !counts.paused {
            sum.unserved += queue.unserved;
            sum.oldest = [sum.oldest, counts.oldest_pending].into_iter().flatten().min();
        }
        sum.paused |= counts.paused;
        sum.waits |= !counts.paused && counts.pending > 0;
    }
    for (queue, sum) in sums {
        for (state, count) in
            [("scheduled", sum.scheduled), ("pending", sum.pending), ("leased", sum.leased)]
        {
            snapshot.set(&all::TASKS, [queue.clone(), state.into()], number(count));
        }
        snapshot.set(&all::TASKS_UNSERVED, [queue.clone()], number(sum.unserved));
        let age = sum.oldest.map_or(0.0, |oldest| now.since(oldest).as_duration().as_secs_f64());
        snapshot.set(&all::OLDEST_PENDING, [queue.clone()], age);
        snapshot.set(&all::QUEUE_PAUSED, [queue], flag(sum.paused && !sum.waits));
    }
}

#[derive(Default)]
struct WorkerSum {
    slots: u64,
    held: u64,
    silent: Millis,
}

fn collect_sessions(
    snapshot: &mut Snapshot,
    metrics: &NodeMetrics,
    stats: &MachineStats,
    age: Millis,
) {
    let mut states = BTreeMap::from([("serving", 0u64), ("draining", 0), ("awaited", 0)]);
    let mut by_worker: BTreeMap<&str, WorkerSum> = BTreeMap::new();
    for session in &stats.sessions {
        let state = match session.state {
            SessionState::Serving => "serving",
            SessionState::Draining => "draining",
            SessionState::Awaited => "awaited",
        };
        *states.entry(state).or_default() += 1;
        let named = by_worker.len() < metrics.names_max()
            || by_worker.contains_key(session.worker.as_str());
        let sum = by_worker.entry(if named { &session.worker } else { OTHER }).or_default();
        sum.slots += u64::from(session.slots);
        sum.held += u64::from(session.held);
        sum.silent = sum.silent.max(Millis(session.heartbeat_age.0 + age.0));
    }
    for (state, count) in states {
        snapshot.set(&all::SESSIONS, [state], number(count));
    }
    for (worker, sum) in by_worker {
        snapshot.set(&all::SESSION_SLOTS, [worker], number(sum.slots));
        snapshot.set(&all::SESSION_SLOTS_USED, [worker], number(sum.held));
        let silent = sum.silent.as_duration().as_secs_f64();
        snapshot.set(&all::SESSION_HEARTBEAT_AGE, [worker], silent);
    }
}

/// Adds the figures of schedules. `now` is the date by which ticks are decided.
fn collect_schedules(
    snapshot: &mut Snapshot,
    metrics: &NodeMetrics,
    stats: &ScheduleStats,
    now: WallTime,
) {
    let ScheduleStats { active, paused, completed, next_due, behind, failing, failing_beyond } =
        stats;
    for (state, count) in [("active", active), ("paused", paused), ("completed", completed)] {
        snapshot.set(&all::SCHEDULES, [state], number(*count));
    }
    snapshot.put(&all::SCHEDULES_BEHIND, number(*behind));
    snapshot.put_known(
        &all::SCHEDULE_NEXT,
        next_due.map(|due| due.since(WallTime(0)).as_duration().as_secs_f64()),
    );
    let overdue = next_due.map(|due| now.since(due).as_duration()).unwrap_or_default();
    snapshot.put(&all::SCHEDULE_OVERDUE, overdue.as_secs_f64());
    let mut beyond = *failing_beyond;
    for (at, (schedule, failures)) in failing.iter().enumerate() {
        if at < metrics.names_max() {
            snapshot.set(&all::SCHEDULE_FAILURES, [schedule.as_str()], number(*failures));
        } else {
            beyond = beyond.max(Some(*failures));
        }
    }
    if let Some(failures) = beyond {
        snapshot.set(&all::SCHEDULE_FAILURES, [OTHER], number(failures));
    }
}

/// Counts changes of leader, until `stop` is cancelled.
pub(crate) async fn follow_leaders(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changes = shared.standing_changes();
    loop {
        shared.metrics.leader_seen(shared.known_leader().map(|seat| seat.epoch.0));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            more = changes.changed() => if !more {
                return;
            },
        }
    }
}
