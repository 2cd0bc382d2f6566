//! What the coordinator's loop and the handles to it share.

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
    host::Host,
    landed::Landed,
    level,
    options::EngineOptions,
    planted::Planted,
    records::RecordReads,
    request::Room,
    signs::Signs,
    specs::{PayloadSizes, SpecReads},
    timekeeper::Timekeeper,
    unreadable,
};

/// A loop that has been stalled for so many times as long as makes a node unready will not go on.
const STUCK_AFTER: u32 = 3;
/// The loop wakes at least this often to show that it lives.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
const NO_COMMIT: u64 = u64::MAX;

/// Where the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits to be elected.
    Campaigning,
    /// Was elected and reads the backlog.
    Loading,
    /// Serves.
    Leading,
    /// Has stopped, because it was told to or because of this.
    Stopped(Option<String>),
}

/// Shared state. Locks in here are held for a few instructions, never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) live_tasks: AtomicUsize,
    pub(crate) epoch: AtomicU64,
    /// The feature level that this node knows, and that of the cluster when it was last read.
    pub(crate) known_level: u32,
    pub(crate) cluster_level: AtomicU32,
    /// Records that this leader cannot read.
    pub(crate) unreadable: AtomicUsize,
    /// The revision of the store up to which this node has followed.
    pub(crate) revision: AtomicU64,
    /// Whether this node has a copy of the backlog, and could take over at once.
    pub(crate) stands_by: AtomicBool,
    /// Whether this node was seen among the members since its campaign began, so the name is its own.
    pub(crate) is_named: AtomicBool,
    /// This node's name.
    pub(crate) node: String,
    /// Where others reach it.
    address: Option<String>,
    pub(crate) leader: watch::Receiver<Option<Seat>>,
    pub(crate) started_at: WallTime,
    pub(crate) metrics: NodeMetrics,
    /// What is on its way down to workers.
    pub(crate) downstream: Arc<Downstream>,
    /// How large payloads are lately.
    pub(crate) payloads: PayloadSizes,
    /// Room for requests on their way to the coordinator.
    pub(crate) room: Room,
    /// Reads that answer questions.
    pub(crate) records: RecordReads,
    pub(crate) specs: SpecReads,
    /// Queues and workers of the last step that landed.
    pub(crate) landed: Landed,
    pub(crate) signs: Signs,
    pub(crate) timekeeper: Timekeeper,
    /// No call waits longer for its answer.
    pub(crate) call_timeout: Duration,
    stalled_after: Duration,
    store_problem: Mutex<Option<StoreProblem>>,
    /// What is wrong with the store as far as looking at it tells.
    seen_problem: watch::Sender<Option<String>>,
    /// Why the store should get no new work, though it still takes commits.
    pressure: Mutex<Option<String>>,
    pulse: AtomicI64,
    /// When the commit under way began, by the monotonic clock; `NO_COMMIT` where none is.
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
    /// Resolves at the next change; false where there will be none any more. Cancel safe.
    pub(crate) async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            changed = self.phase.changed() => changed.is_ok(),
            changed = self.leader.changed() => changed.is_ok(),
            changed = self.seen_problem.changed() => changed.is_ok(),
        }
    }
}

/// Someone who waits for a task's end. Nothing of it stays when it is dropped.
pub(crate) struct Waiter<'a> {
    shared: &'a Shared,
    task: TaskId,
    ended: Option<oneshot::Receiver<()>>,
}

impl Waiter<'_> {
    /// Resolves when the task has ended, or when this node will not learn of it. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // A dropped sender means as much.
            let _ = ended.await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // The list keeps those whose receivers are there.
        self.ended = None;
        self.shared.forget_waiters(self.task);
    }
}

/// A commit that is under way until this is dropped.
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.store(NO_COMMIT, Ordering::Relaxed);
    }
}

/// Why commits do not get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreProblem {
    /// There is no room.
    Full(String),
    /// It does not answer, or refuses.
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
    // Nothing that is done under these locks can leave their contents half changed.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        host: Host,
        options: &EngineOptions,
        leader: watch::Receiver<Option<Seat>>,
    ) -> Self {
        let records = RecordReads::new(options.metrics.clone());
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
            downstream: Arc::default(),
            payloads: PayloadSizes::default(),
            room: Room::default(),
            specs: SpecReads::new(records.clone()),
            records,
            landed: Landed::default(),
            signs: Signs::default(),
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

    /// What this node does.
    pub(crate) fn role(&self) -> Role {
        if matches!(*self.phase.borrow(), Phase::Loading | Phase::Leading) {
            return Role::Leader;
        }
        match &*self.leader.borrow() {
            Some(seat) if seat.member.name != self.node => Role::Follower(seat.clone()),
            _ => Role::Unknown,
        }
    }

    /// Who leads, if that is certain enough to be said: this node does, or another was seen to and the
    /// store answers. Without its answers the seat that was seen last says where to try, no more.
    pub(crate) fn known_leader(&self) -> Option<Seat> {
        let seat = self.leader.borrow().clone();
        match self.role() {
            Role::Leader => seat.filter(|seat| seat.member.name == self.node),
            Role::Follower(seat) => Some(seat).filter(|_| self.seen_problem.borrow().is_none()),
            Role::Unknown => None,
        }
    }

    /// Where a leader is that has this node's name and is not this node.
    fn namesake(&self) -> Option<String> {
        let seat = self.leader.borrow();
        let member = &seat.as_ref()?.member;
        let other = member.name == self.node && member.address != self.address;
        member.address.clone().filter(|_| other)
    }

    /// Tells when [`Shared::known_leader`] may have changed.
    pub(crate) fn standing_changes(&self) -> StandingChanges {
        StandingChanges {
            phase: self.phase.subscribe(),
            leader: self.leader.clone(),
            seen_problem: self.seen_problem.subscribe(),
        }
    }

    /// Refuses new work at once while the store takes none, or should get none.
    pub(crate) fn admit(&self) -> Result<(), EngineError> {
        self.admit_change()?;
        match unpoisoned(&self.pressure).clone() {
            None => Ok(()),
            Some(reason) => Err(EngineError::StoreFull(reason)),
        }
    }

    /// Refuses a client's change at once while no commit gets through: it would only wait, and then not
    /// be known.
    pub(crate) fn admit_change(&self) -> Result<(), EngineError> {
        match self.store_problem() {
            None => Ok(()),
            Some(StoreProblem::Full(reason)) => Err(EngineError::StoreFull(reason)),
            Some(StoreProblem::Unavailable(reason)) => {
                Err(EngineError::Unavailable { reason, retry_after: Duration::from_secs(2) })
            }
        }
    }

    /// Whether commits wait for room, while the store can be read.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.store_problem(), Some(StoreProblem::Full(_)))
    }

    /// The loop lives.
    pub(crate) fn beat(&self, now: MonoTime) {
        self.pulse.store(i64::try_from(now.0).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// A commit begins. One at a time is under way.
    pub(crate) fn commit_begins(&self) -> UnderWay<'_> {
        self.commit_began.store(self.host.now().mono.0, Ordering::Relaxed);
        UnderWay(&self.commit_began)
    }

    /// How long the commit under way has taken so far.
    fn commit_age(&self) -> Option<Duration> {
        let began = self.commit_began.load(Ordering::Relaxed);
        (began != NO_COMMIT).then(|| self.host.now().mono.since(MonoTime(began)).as_duration())
    }

    /// How long ago the loop gave its last sign of life.
    pub(crate) fn pulse_age(&self) -> Duration {
        let pulse = u64::try_from(self.pulse.load(Ordering::Relaxed)).unwrap_or(0);
        self.host.now().mono.since(MonoTime(pulse)).as_duration()
    }

    /// Waits for the task to end. Ask for the task's state after this, not before, so that an end in
    /// between is not missed.
    pub(crate) fn wait_for(&self, task: TaskId) -> Waiter<'_> {
        let (sender, ended) = oneshot::channel();
        let mut waiters = unpoisoned(&self.waiters);
        waiters.entry(task).or_default().push(sender);
        self.waiting.store(waiters.len(), Ordering::Release);
        Waiter { shared: self, task, ended: Some(ended) }
    }

    /// Whether anybody waits for a task's end.
    pub(crate) fn someone_waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Forgets those who stopped waiting for a task.
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

    /// Wakes all who wait: this node will not learn of the end.
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
            // One who no longer waits needs no waking.
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
                "this node has not entered the cluster yet; another node may still use its name, `{}`",
                self.node
            )),
            Phase::Campaigning if self.known_leader().is_some() => None,
            Phase::Campaigning if follows => {
                Some("whether the leader still leads is not known without the store".to_owned())
            }
            Phase::Campaigning => Some(match self.namesake() {
                Some(address) => format!(
                    "another node of this name, `{}`, leads at {address}; give each a name of its own \
                     (node)",
                    self.node
                ),
                None => match &outdated {
                    Some(reason) => format!("no node leads; {reason}"),
                    None => "no node leads".to_owned(),
                },
            }),
            Phase::Stopped(None) => Some("the engine has stopped".to_owned()),
            Phase::Stopped(Some(reason)) => Some(format!("the engine has stopped: {reason}")),
            Phase::Loading | Phase::Leading => None,
        };
        let copied = self.stands_by.load(Ordering::Relaxed);
        let backlog = match &phase {
            Phase::Loading => Some("the backlog is being loaded".to_owned()),
            // A node that does not lead needs no copy.
            Phase::Campaigning if follows && !copied && outdated.is_none() => {
                Some("the backlog is being copied".to_owned())
            }
            _ => None,
        };
        let store = self.store_problem().map(|problem| problem.message().to_owned());
        let store = store.or_else(|| self.seen_problem.borrow().clone());
        let silent = self.pulse_age();
        // Loading takes as long as it takes, and has a check of its own.
        let at_work = matches!(phase, Phase::Campaigning | Phase::Leading);
        // Who waits for a store that is away or full goes on when it is back; a restart would not bring
        // it. One trouble is told once.
        let stalled = at_work && silent > self.stalled_after && store.is_none();
        let idle = stalled.then(|| format!("the engine has done nothing for {silent:?}"));
        // The loop waits for a commit whose store says nothing of a problem. A restart may help.
        let slow = self.commit_age().filter(|age| stalled && *age > self.stalled_after);
        let slow =
            slow.map(|age| format!("a commit has taken {} s and is not over", age.as_secs()));
        let stuck = match &phase {
            // It ended by itself, and nothing in this process begins it again.
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
                // It forwards, as long as another node leads.
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
