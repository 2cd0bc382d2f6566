//! The state that the coordinator and the handles of the engine share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rota_core::{MonoTime, TaskId, WallTime};
use rota_metrics::NodeMetrics;
use rota_store::{Seat, watch};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::{
    api::{Check, EngineError, Health, Role},
    down::Downstream,
    events::hub::EventHub,
    host::Host,
    landed::Landed,
    level,
    memory::Account,
    options::EngineOptions,
    output::hub::OutputHub,
    planted::Planted,
    records::RecordReads,
    request::Room,
    signs::Signs,
    specs::{PayloadSizes, SpecReads},
    tick_counts,
    tick_traces::TickTraces,
    timekeeper::Timekeeper,
    unreadable,
};

/// A loop that has stalled for this multiple of the time that makes a node unready will not recover.
const STUCK_AFTER: u32 = 3;
/// Maximum interval at which the loop wakes to show progress.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
const NO_COMMIT: u64 = u64::MAX;

/// The phase of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for the election.
    Campaigning,
    /// Was elected, and loads the backlog.
    Loading,
    /// Serves.
    Leading,
    /// Has stopped, on request or for this reason.
    Stopped(Option<String>),
}

/// The shared state. Its locks are held only for a few instructions, never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) live_tasks: AtomicUsize,
    pub(crate) epoch: AtomicU64,
    /// The highest feature level that this node supports, and the last read level of the cluster.
    pub(crate) known_level: u32,
    pub(crate) cluster_level: AtomicU32,
    /// Number of records that this leader cannot read.
    pub(crate) unreadable: AtomicUsize,
    /// The revision of the store that this node's copy has reached.
    pub(crate) revision: AtomicU64,
    /// Whether this node has a copy of the backlog, so that it can take over at once.
    pub(crate) stands_by: AtomicBool,
    /// Whether this node was among the members since its campaign began, so that no other node uses its name.
    pub(crate) is_named: AtomicBool,
    /// Name of this node.
    pub(crate) node: String,
    /// Address at which other nodes reach it.
    address: Option<String>,
    pub(crate) leader: watch::Receiver<Option<Seat>>,
    pub(crate) started_at: WallTime,
    pub(crate) metrics: NodeMetrics,
    pub(crate) tick_traces: Option<Arc<dyn TickTraces>>,
    /// The bytes in the channels to workers.
    pub(crate) downstream: Arc<Downstream>,
    /// The recent average size of payloads.
    pub(crate) payloads: PayloadSizes,
    /// The bytes in the cache of definitions.
    pub(crate) cached: Arc<Account>,
    /// The memory budget for requests to the coordinator.
    pub(crate) room: Room,
    /// Reads of definitions.
    pub(crate) records: RecordReads,
    pub(crate) specs: SpecReads,
    /// Queues and workers of the last durable step.
    pub(crate) landed: Landed,
    pub(crate) signs: Signs,
    pub(crate) events: EventHub,
    /// Output of running tasks that somebody listens to.
    pub(crate) output: Arc<OutputHub>,
    pub(crate) timekeeper: Timekeeper,
    /// Timeout of a call.
    pub(crate) call_timeout: Duration,
    stalled_after: Duration,
    store_problem: Mutex<Option<StoreProblem>>,
    /// The problem of the store that the lookout found.
    seen_problem: watch::Sender<Option<String>>,
    /// Why the store should get no new tasks, although it still accepts commits.
    pressure: Mutex<Option<String>>,
    pulse: AtomicI64,
    /// Start of the current commit, by the monotonic clock. `NO_COMMIT` if there is none.
    commit_began: AtomicU64,
    waiting: AtomicUsize,
    waiters: Mutex<FxHashMap<TaskId, Vec<oneshot::Sender<()>>>>,
}

/// See [`Shared::standing_changes`].
pub(crate) struct StandingChanges {
    phase: watch::Receiver<Phase>,
    leader: watch::Receiver<Option<Seat>>,
    seen_problem: watch::Receiver<Option<String>>,
}

impl StandingChanges {
    /// Resolves at the next change. False if there will be no more. Cancel safe.
    pub(crate) async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            changed = self.phase.changed() => changed.is_ok(),
            changed = self.leader.changed() => changed.is_ok(),
            changed = self.seen_problem.changed() => changed.is_ok(),
        }
    }
}

/// A waiter for the end of a task. Dropping it removes it.
pub(crate) struct Waiter<'a> {
    shared: &'a Shared,
    task: TaskId,
    ended: Option<oneshot::Receiver<()>>,
}

impl Waiter<'_> {
    /// Resolves when the task has ended, or when this node will not learn of its end. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // A dropped sender means the same.
            let _ = ended.await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // The list keeps waiters whose receivers still exist.
        self.ended = None;
        self.shared.forget_waiters(self.task);
    }
}

/// A commit in progress, until this is dropped.
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.store(NO_COMMIT, Ordering::Relaxed);
    }
}

/// Why commits fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreProblem {
    /// The store is full.
    Full(String),
    /// The store does not answer, or refuses.
    Unavailable(String),
}

impl StoreProblem {
    fn message(&self) -> &str {
        match self {
            Self::Full(message) | Self::Unavailable(message) => message,
        }
    }
}

fn unpoisoned<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code under these locks can panic halfway through a change.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        host: Host,
        options: &EngineOptions,
        leader: watch::Receiver<Option<Seat>>,
    ) -> Self {
        let records = RecordReads::new(options.metrics.clone());
        tick_counts::declare(options.metrics.ticks());
        Self {
            phase: watch::Sender::new(Phase::Campaigning),
            live_tasks: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            known_level: options.feature_level,
            cluster_level: AtomicU32::new(0),
            unreadable: AtomicUsize::new(0),
            revision: AtomicU64::new(0),
            stands_by: AtomicBool::new(false),
            is_named: AtomicBool::new(false),
            node: options.node.clone(),
            address: options.address.clone(),
            leader,
            started_at: host.now().wall,
            host,
            metrics: options.metrics.clone(),
            tick_traces: options.tick_traces.clone(),
            downstream: Arc::default(),
            payloads: PayloadSizes::default(),
            cached: Arc::default(),
            room: Room::new(options.request_bytes_max),
            specs: SpecReads::new(records.clone()),
            records,
            landed: Landed::default(),
            signs: Signs::default(),
            events: EventHub::new(options.events, options.metrics.clone()),
            output: Arc::new(OutputHub::new(options.output)),
            timekeeper: Timekeeper::new(options.clock_grace),
            call_timeout: options.call_timeout,
            stalled_after: options.stalled_after,
            store_problem: Mutex::new(None),
            seen_problem: watch::Sender::default(),
            pressure: Mutex::new(None),
            pulse: AtomicI64::new(0),
            commit_began: AtomicU64::new(NO_COMMIT),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::new(FxHashMap::default()),
        }
    }

    pub(crate) fn set_store_problem(&self, problem: Option<StoreProblem>) {
        *unpoisoned(&self.store_problem) = problem;
    }

    pub(crate) fn store_problem(&self) -> Option<StoreProblem> {
        unpoisoned(&self.store_problem).clone()
    }

    pub(crate) fn set_seen_problem(&self, problem: Option<String>) {
        self.seen_problem.send_if_modified(|seen| {
            let changed = *seen != problem;
            *seen = problem;
            changed
        });
    }

    pub(crate) fn set_pressure(&self, pressure: Option<String>) {
        *unpoisoned(&self.pressure) = pressure;
    }

    /// The role of this node.
    pub(crate) fn role(&self) -> Role {
        if matches!(*self.phase.borrow(), Phase::Loading | Phase::Leading) {
            return Role::Leader;
        }
        match &*self.leader.borrow() {
            Some(seat) if seat.member.name != self.node => Role::Follower(seat.clone()),
            _ => Role::Unknown,
        }
    }

    /// The leader, if it is known with enough certainty: this node, or another one that was seen while the
    /// store answers. If the store does not answer, the last seen leader is only an address to try.
    pub(crate) fn known_leader(&self) -> Option<Seat> {
        let seat = self.leader.borrow().clone();
        match self.role() {
            Role::Leader => seat.filter(|seat| seat.member.name == self.node),
            Role::Follower(seat) => Some(seat).filter(|_| self.seen_problem.borrow().is_none()),
            Role::Unknown => None,
        }
    }

    /// The address of a leader that has the same name as this node.
    fn namesake(&self) -> Option<String> {
        let seat = self.leader.borrow();
        let member = &seat.as_ref()?.member;
        let other = member.name == self.node && member.address != self.address;
        member.address.clone().filter(|_| other)
    }

    /// Notifies of possible changes of [`Shared::known_leader`].
    pub(crate) fn standing_changes(&self) -> StandingChanges {
        StandingChanges {
            phase: self.phase.subscribe(),
            leader: self.leader.clone(),
            seen_problem: self.seen_problem.subscribe(),
        }
    }

    /// Refuses new tasks at once while the store accepts none, or should get none.
    pub(crate) fn admit(&self) -> Result<(), EngineError> {
        self.admit_change()?;
        match unpoisoned(&self.pressure).clone() {
            None => Ok(()),
            Some(reason) => Err(EngineError::StoreFull(reason)),
        }
    }

    /// Refuses a client's change at once while commits fail. Otherwise it would only wait, and its outcome
    /// would be unknown.
    pub(crate) fn admit_change(&self) -> Result<(), EngineError> {
        match self.store_problem() {
            None => Ok(()),
            Some(StoreProblem::Full(reason)) => Err(EngineError::StoreFull(reason)),
            Some(StoreProblem::Unavailable(reason)) => {
                Err(EngineError::Unavailable { reason, retry_after: Duration::from_secs(2) })
            }
        }
    }

    /// Whether commits wait for space, while the store can be read.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.store_problem(), Some(StoreProblem::Full(_)))
    }

    /// Records progress of the loop.
    pub(crate) fn beat(&self, now: MonoTime) {
        self.pulse.store(i64::try_from(now.0).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Begins a commit. There is only one at a time.
    pub(crate) fn commit_begins(&self) -> UnderWay<'_> {
        self.commit_began.store(self.host.now().mono.0, Ordering::Relaxed);
        UnderWay(&self.commit_began)
    }

    /// The duration of the current commit so far.
    fn commit_age(&self) -> Option<Duration> {
        let began = self.commit_began.load(Ordering::Relaxed);
        (began != NO_COMMIT).then(|| self.host.now().mono.since(MonoTime(began)).as_duration())
    }

    /// Time since the last progress of the loop.
    pub(crate) fn pulse_age(&self) -> Duration {
        let pulse = u64::try_from(self.pulse.load(Ordering::Relaxed)).unwrap_or(0);
        self.host.now().mono.since(MonoTime(pulse)).as_duration()
    }

    /// Registers a waiter for the end of a task. Read the state of the task after this call, not before, so
    /// that an end in between is not missed.
    pub(crate) fn wait_for(&self, task: TaskId) -> Waiter<'_> {
        let (sender, ended) = oneshot::channel();
        let mut waiters = unpoisoned(&self.waiters);
        waiters.entry(task).or_default().push(sender);
        self.waiting.store(waiters.len(), Ordering::Release);
        Waiter { shared: self, task, ended: Some(ended) }
    }

    /// Whether there are waiters for the ends of tasks.
    pub(crate) fn someone_waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Removes the dropped waiters of a task.
    fn forget_waiters(&self, task: TaskId) {
        let mut waiters = unpoisoned(&self.waiters);
        if let Some(list) = waiters.get_mut(&task) {
            list.retain(|waiter| !waiter.is_closed());
            if list.is_empty() {
                waiters.remove(&task);
            }
        }
        self.waiting.store(waiters.len(), Ordering::Release);
    }

    /// Wakes all waiters, because this node will not learn of the ends.
    pub(crate) fn wake_all(&self) {
        unpoisoned(&self.waiters).clear();
        self.waiting.store(0, Ordering::Release);
    }

    pub(crate) fn task_ended(&self, task: TaskId) {
        if self.waiting.load(Ordering::Acquire) == 0 || Planted::LosesWakeUps.is_made_once_in(3) {
            return;
        }
        let woken = unpoisoned(&self.waiters).remove(&task);
        for waiter in woken.into_iter().flatten() {
            // The waiter may be gone.
            let _ = waiter.send(());
        }
    }

    pub(crate) fn health(&self) -> Health {
        let phase = self.phase.borrow().clone();
        let follows = matches!(self.role(), Role::Follower(_));
        let outdated =
            level::outdated(self.known_level, self.cluster_level.load(Ordering::Relaxed));
        let named = self.is_named.load(Ordering::Relaxed) || outdated.is_some();
        let leader = match &phase {
            Phase::Campaigning if follows && !named => Some(format!(
                "this node has not joined the cluster yet; another node may still use its name, `{}`",
                self.node
            )),
            Phase::Campaigning if self.known_leader().is_some() => None,
            Phase::Campaigning if follows => {
                Some("the leader is unknown, because the store does not answer".to_owned())
            }
            Phase::Campaigning => Some(match self.namesake() {
                Some(address) => format!(
                    "another node with the same name, `{}`, is the leader at {address}; give each node its own name \
                     (node)",
                    self.node
                ),
                None => match &outdated {
                    Some(reason) => format!("there is no leader; {reason}"),
                    None => "there is no leader".to_owned(),
                },
            }),
            Phase::Stopped(None) => Some("the engine has stopped".to_owned()),
            Phase::Stopped(Some(reason)) => Some(format!("the engine has stopped: {reason}")),
            Phase::Loading | Phase::Leading => None,
        };
        let copied = self.stands_by.load(Ordering::Relaxed);
        let backlog = match &phase {
            Phase::Loading => Some("the node is loading the backlog".to_owned()),
            // A node that cannot lead needs no copy.
            Phase::Campaigning if follows && !copied && outdated.is_none() => {
                Some("the node is copying the backlog".to_owned())
            }
            _ => None,
        };
        let store = self.store_problem().map(|problem| problem.message().to_owned());
        let store = store.or_else(|| self.seen_problem.borrow().clone());
        let silent = self.pulse_age();
        // Loading can take long, and has its own check.
        let at_work = matches!(phase, Phase::Campaigning | Phase::Leading);
        // A loop that waits for an unavailable or full store continues when it is back, and a restart would
        // not help. The store has its own check.
        let stalled = at_work && silent > self.stalled_after && store.is_none();
        let idle = stalled.then(|| format!("the engine has made no progress for {silent:?}"));
        // The loop waits for a commit although the store reports no problem. A restart may help.
        let slow = self.commit_age().filter(|age| stalled && *age > self.stalled_after);
        let slow = slow.map(|age| format!("a commit has been running for {} s", age.as_secs()));
        let stuck = match &phase {
            // It ended unexpectedly, and nothing in this process restarts it.
            Phase::Stopped(Some(_)) => leader.clone(),
            _ => slow
                .clone()
                .or_else(|| idle.clone())
                .filter(|_| silent > self.stalled_after * STUCK_AFTER),
        };
        let engine = idle.filter(|_| slow.is_none());
        let store = store.or(slow);
        let records = unreadable::problem(self.unreadable.load(Ordering::Relaxed));
        Health {
            stuck,
            checks: vec![
                Check::needed("store", store),
                Check::needed("leader", leader),
                Check::needed("backlog", backlog),
                Check::needed("engine", engine),
                // The node serves all other records.
                Check { name: "records", problem: records, needed: false },
                // The node forwards as long as another one is the leader.
                Check { name: "version", problem: outdated, needed: false },
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_stays_of_one_who_waited() {
        let (_, leader) = watch::channel(None);
        let shared = Shared::new(Host::system(), &EngineOptions::default(), leader);
        let task = TaskId::from_u64(1).unwrap();
        let mut stays = shared.wait_for(task);
        drop(shared.wait_for(task));
        assert!(shared.someone_waits());
        shared.task_ended(task);
        stays.ended().await;
        // One who comes too late, as the task has ended before.
        drop(shared.wait_for(task));
        drop(stays);
        assert!(!shared.someone_waits());
    }
}
