//! The handle to a running engine, and the task that campaigns and leads.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rota_core::{Machine, Millis, TaskId, TaskIdSequence};
use rota_store::{
    BatchSeq, Epoch, Leadership, LostBatches, Member, Store, StoreError, StoreStatus,
};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    api::{EngineError, Health, Info, Role},
    batch,
    cache::SpecCache,
    coordinator::{Books, Coordinator, LeadershipEnd, Term},
    dispatch::{self, ToDispatcher, ToWorkers},
    fail_point::FailPoint,
    hand_over,
    host::Host,
    inbox::{INBOX, Inbox, InboxSender, WeakInboxSender, inbox},
    ledger::Ledger,
    level,
    load::MachineOptions,
    marks::Marks,
    metrics::{self, LastStats},
    options::EngineOptions,
    planted::Planted,
    pull::PullSessions,
    request::{Answer, Held, Release, Request},
    retention,
    shared::{PULSE, Phase, Shared},
    standby::Standby,
    store_monitor, timekeeper,
    troubles::CampaignTroubles,
};

/// Time that a caller waits for a place in the inbox.
const INBOX_WAIT: Duration = Duration::from_secs(1);
/// Time that a read waits for a commit before the last committed state is used as answer.
const TRY_QUERY_WAIT: Duration = Duration::from_secs(2);
/// The time whose ids a leader leaves out where the store may have lost batches: longer than a replica of a store is behind
/// that is promoted.
const LOST_IDS: Millis = Millis::from_secs(60);
/// Pause after a failed campaign.
const CAMPAIGN_PAUSE: Duration = Duration::from_secs(1);
/// Interval of checks whether this node is among the members.
const ENTRY_LOOK: Duration = Duration::from_millis(250);
/// A node that is elected within this time needs no copy of the backlog.
const FOLLOW_AFTER: Duration = Duration::from_millis(200);

/// A handle to a running engine. Cheap to clone; all clones are handles to the same engine.
///
/// Its methods are cancel safe: a dropped call leaves no state in the process, but its request may still be
/// carried out.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: EngineOptions,
    pub(crate) inbox: InboxSender,
    pub(crate) dispatcher: ToDispatcher,
    pub(crate) pull: PullSessions,
    pub(crate) stats: LastStats,
    stopped: TaskTracker,
}

impl Inner {
    /// Spawns a task that the engine waits for before it reports that it has stopped.
    pub(crate) fn own(&self, task: impl Future<Output = ()> + Send + 'static, on: &Handle) {
        self.stopped.spawn_on(task, on);
    }
}

impl Engine {
    /// Starts the engine on the current runtime, with the clocks, random numbers and threads of `host`. It
    /// campaigns, loads the backlog, and serves until `stop` is cancelled. Then [`Engine::stopped`] resolves
    /// when everything is released. Calls before it leads wait, up to their timeout.
    #[must_use]
    pub fn start(
        host: Host,
        store: Arc<dyn Store>,
        options: EngineOptions,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared::new(host, &options, store.leader()));
        let (sender, inbox) = inbox();
        let (workers, down) = mpsc::channel(dispatch::QUEUED_MAX);
        let stopped = TaskTracker::new();
        let to_coordinator = sender.downgrade();
        let to_itself = to_coordinator.clone();
        stopped.spawn(dispatch::run(store.clone(), shared.clone(), to_coordinator, down));
        stopped.spawn(metrics::follow_leaders(shared.clone(), stop.clone()));
        stopped.spawn(timekeeper::run(shared.clone(), stop.clone()));
        stopped.spawn(store_monitor::run(store.clone(), shared.clone(), stop.clone()));
        stopped.spawn(retention::run(store.clone(), shared.clone(), sender.clone(), stop.clone()));
        stopped.spawn(level::run(store.clone(), shared.clone(), sender.clone(), stop.clone()));
        let dispatcher = ToDispatcher(workers.downgrade());
        let leader = Leader {
            store: store.clone(),
            shared: shared.clone(),
            options: options.clone(),
            workers,
            inbox: to_itself,
            stop,
        };
        stopped.spawn(leader.run(inbox));
        stopped.close();
        let pull = PullSessions::default();
        let stats = LastStats::default();
        let inbox = sender;
        let inner = Inner { store, shared, options, inbox, dispatcher, pull, stats, stopped };
        Self { inner: Arc::new(inner) }
    }

    /// Resolves when the engine has stopped and given up leadership.
    pub async fn stopped(&self) {
        self.inner.stopped.wait().await;
    }

    /// The health of the engine. Answers at once.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// Maximum bytes that one step of one task can write: its payload and definition, or its result and
    /// output. The store accepts no more at once, and a task is never divided.
    #[must_use]
    pub fn task_bytes_max(&self) -> usize {
        batch::task_bytes_max(self.inner.store.limits())
    }

    /// Time without a heartbeat after which the session of a worker ends.
    #[must_use]
    pub fn session_ttl(&self) -> Duration {
        self.inner.options.session_ttl
    }

    /// Information about the engine. Answers at once.
    #[must_use]
    pub fn info(&self) -> Info {
        let Inner { shared, options, .. } = self.inner.as_ref();
        let role = shared.role();
        let leader = match &role {
            Role::Leader => Some(options.node.clone()),
            Role::Follower(seat) => Some(seat.member.name.clone()),
            Role::Unknown => None,
        };
        let epoch = match &role {
            Role::Follower(seat) => seat.epoch.0,
            Role::Leader | Role::Unknown => shared.epoch.load(Ordering::Relaxed),
        };
        let machine = &options.machine;
        let limits = BTreeMap::from([
            ("queue_length", machine.queue_length_max),
            ("queues", machine.queues_max.into()),
            ("kinds", machine.kinds_max.into()),
            ("sessions", machine.sessions_max.into()),
            ("schedules", machine.schedules_max.into()),
            ("calendars", machine.calendars_max.into()),
            ("event_listeners", options.events.listeners as u64),
            ("event_buffer_bytes", options.events.ring_bytes as u64),
            ("event_keep_ms", u64::try_from(options.events.keep.as_millis()).unwrap_or(u64::MAX)),
            ("output_listeners", options.output.listeners as u64),
            ("output_listeners_per_task", options.output.task_listeners as u64),
            ("output_buffer_bytes", options.output.task_bytes as u64),
        ]);
        Info {
            node: options.node.clone(),
            leader,
            role,
            epoch,
            revision: shared.revision.load(Ordering::Relaxed),
            started_at: shared.started_at,
            now: shared.host.now().wall,
            live_tasks: shared.live_tasks.load(Ordering::Relaxed) as u64,
            feature_level: options.feature_level,
            cluster_feature_level: shared.cluster_level.load(Ordering::Relaxed),
            limits,
        }
    }

    /// Acknowledged batches that the store has lost, as far as this node knows.
    #[must_use]
    pub fn store_lost(&self) -> Option<LostBatches> {
        self.inner.store.lost()
    }

    /// The state of the store.
    pub async fn store_status(&self) -> StoreStatus {
        self.inner.store.status().await
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<T: Send>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, EngineError> {
        self.ask_with(None, request).await
    }

    /// As [`Engine::ask`], with the memory that the request holds.
    pub(crate) async fn ask_with<T: Send>(
        &self,
        room: Option<Held>,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, EngineError> {
        let (answer, receiver) = Answer::new(room);
        self.send(request(answer)).await?;
        match tokio::time::timeout(self.inner.options.call_timeout, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(EngineError::LeadershipLost),
            Err(_) if Planted::LiesAboutTimeouts.is_made() => {
                Err(unavailable("no answer within the timeout"))
            }
            Err(_) => Err(EngineError::OutcomeUnknown("no answer within the timeout")),
        }
    }

    /// Waits for memory, for a short time.
    pub(crate) async fn room(
        &self,
        room: impl Future<Output = Held> + Send,
    ) -> Result<Option<Held>, EngineError> {
        match tokio::time::timeout(INBOX_WAIT, room).await {
            Ok(room) => Ok(Some(room)),
            Err(_) => Err(EngineError::Overloaded {
                reason: "waiting requests use all memory for requests".to_owned(),
                retry_after: INBOX_WAIT,
            }),
        }
    }

    /// Reads from the machine, and answers once the state that was read is durable.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, receiver) = Answer::new(None);
        let question = {
            Request::Query(Box::new(move |machine| -> Release {
                let said = question(machine);
                Box::new(move || {
                    // The caller may no longer wait for the answer.
                    let _ = answer.send(Ok(said));
                })
            }))
        };
        self.send(question).await?;
        match tokio::time::timeout(self.inner.options.call_timeout, receiver).await {
            Ok(Ok(result)) => result,
            // Not `NotLeader`: the caller may have changed something before this read.
            Ok(Err(_)) => Err(EngineError::LeadershipLost),
            Err(_) => Err(unavailable("no answer within the timeout")),
        }
    }

    /// As [`Engine::query`], for what the store can tell as well. `None`: the machine's answer waits for a
    /// commit that takes long, so the store is to be asked.
    pub(crate) async fn try_query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<Option<T>, EngineError> {
        match tokio::time::timeout(TRY_QUERY_WAIT, self.query(question)).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn send(&self, request: Request) -> Result<(), EngineError> {
        use mpsc::error::SendTimeoutError;
        let now = self.inner.shared.host.now().mono;
        match self.inner.inbox.send(request, now, INBOX_WAIT).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => {
                self.inner.shared.admit()?;
                Err(EngineError::Overloaded {
                    reason: format!("{INBOX} requests are already waiting"),
                    retry_after: INBOX_WAIT,
                })
            }
            Err(SendTimeoutError::Closed(_)) => Err(EngineError::NotLeader),
        }
    }
}

pub(crate) fn unavailable(reason: &str) -> EngineError {
    EngineError::Unavailable { reason: reason.to_owned(), retry_after: Duration::from_secs(1) }
}

/// The task that campaigns, loads and leads, in a loop.
struct Leader {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    options: EngineOptions,
    workers: mpsc::Sender<ToWorkers>,
    /// Sends requests of this task to the coordinator.
    inbox: WeakInboxSender,
    stop: CancellationToken,
}

impl Leader {
    async fn run(self, mut inbox: Inbox) {
        let mut broken = None;
        let mut troubles = CampaignTroubles::default();
        while !self.stop.is_cancelled() {
            self.shared.phase.send_replace(Phase::Campaigning);
            // If it cannot be read, the campaign reports the error.
            if self.is_outdated().await.unwrap_or(false) {
                self.sit_out(&mut inbox).await;
                continue;
            }
            let mut standby = Standby::default();
            let pause = match self.campaign(&mut inbox, &mut standby).await {
                None => break,
                Some(Ok(leadership)) => match self.lead(&mut inbox, leadership, standby).await {
                    Ok(LeadershipEnd::Stopped) => break,
                    Ok(LeadershipEnd::Resigned(successor)) => {
                        info!(successor, "leadership transferred");
                        Duration::ZERO
                    }
                    Ok(LeadershipEnd::Deposed) => {
                        warn!("leadership lost");
                        Duration::ZERO
                    }
                    Ok(LeadershipEnd::Broken(reason)) => {
                        error!(reason, "store unusable");
                        broken = Some(reason);
                        break;
                    }
                    Err(error @ StoreError::Corrupt(_)) => {
                        error!(%error, "cannot load the backlog");
                        broken = Some(error.to_string());
                        break;
                    }
                    Err(error) => {
                        warn!(%error, "loading the backlog failed; retrying");
                        CAMPAIGN_PAUSE
                    }
                },
                Some(Err(error)) => {
                    troubles.tell(&error);
                    CAMPAIGN_PAUSE
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.shared.phase.send_replace(Phase::Stopped(broken));
        inbox.close();
        while let Some(sent) = inbox.recv().await {
            sent.request.refuse();
        }
    }

    fn machine_options(&self) -> MachineOptions {
        MachineOptions { limits: self.options.machine, retention: self.options.retention }
    }

    /// Lets another node prepare to take over, if there is one, and returns which one is ready.
    async fn prepare_successor(&self) -> Option<String> {
        let inbox = self.inbox.upgrade()?;
        hand_over::prepare(&self.store, &self.shared, &inbox, &self.options.node, None).await
    }

    /// Whether the cluster uses a feature level that this node does not support.
    async fn is_outdated(&self) -> Result<bool, StoreError> {
        let cluster = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(false),
            cluster = level::of_cluster(self.store.as_ref()) => cluster?,
        };
        let before = self.shared.cluster_level.swap(cluster, Ordering::Relaxed);
        let outdated = level::outdated(self.options.feature_level, cluster);
        if let Some(reason) = outdated.as_ref().filter(|_| before != cluster) {
            error!(reason, "node does not lead");
        }
        Ok(outdated.is_some())
    }

    /// Waits without campaigning.
    async fn sit_out(&self, inbox: &mut Inbox) {
        let over = tokio::time::sleep(level::PERIOD);
        let mut over = std::pin::pin!(over);
        let mut pulse = tokio::time::interval(PULSE);
        loop {
            let follows = matches!(self.shared.role(), Role::Follower(_));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = &mut over => return,
                _ = pulse.tick() => self.shared.beat(self.shared.host.now().mono),
                Some(sent) = inbox.recv(), if follows => sent.request.refuse(),
            }
        }
    }

    /// Resolves when this node is among the members. Until then another node may use its name.
    async fn until_entered(&self, me: &Member) {
        let is_me = |member: &Member| (&member.name, &member.address) == (&me.name, &me.address);
        // If they cannot be read, the campaign reports the error.
        while !self.store.members().await.is_ok_and(|members| members.iter().any(is_me)) {
            tokio::time::sleep(ENTRY_LOOK).await;
        }
    }

    /// Waits for the election, and keeps a copy of the backlog meanwhile. `None` if it was told to stop.
    /// Requests wait in the inbox, unless another node is the leader.
    async fn campaign(
        &self,
        inbox: &mut Inbox,
        standby: &mut Standby,
    ) -> Option<Result<Box<dyn Leadership>, StoreError>> {
        let me = Member {
            name: self.options.node.clone(),
            address: self.options.address.clone(),
            level: self.options.feature_level,
            ready_for: Epoch(0),
        };
        self.shared.is_named.store(false, Ordering::Relaxed);
        let mut enters = std::pin::pin!(self.until_entered(&me));
        let mut campaign = self.store.campaign(&me);
        let mut leader = self.shared.leader.clone();
        let follow = async {
            tokio::time::sleep(FOLLOW_AFTER).await;
            let (name, options) = (&self.options.node, self.machine_options());
            standby.follow(self.store.as_ref(), &self.shared, name, options).await;
        };
        let mut follow = std::pin::pin!(follow);
        let mut pulse = tokio::time::interval(PULSE);
        loop {
            let follows = matches!(self.shared.role(), Role::Follower(_));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                won = &mut campaign => return Some(won),
                changed = leader.changed() => if changed.is_err() {
                    // The store is gone; the campaign reports the error.
                    return Some(campaign.await);
                },
                _ = pulse.tick() => self.shared.beat(self.shared.host.now().mono),
                sent = inbox.recv(), if follows => sent?.request.refuse(),
                () = &mut enters, if !self.shared.is_named.load(Ordering::Relaxed) => {
                    self.shared.is_named.store(true, Ordering::Relaxed);
                }
                () = &mut follow => {}
            }
        }
    }

    async fn lead(
        &self,
        inbox: &mut Inbox,
        leadership: Box<dyn Leadership>,
        standby: Standby,
    ) -> Result<LeadershipEnd, StoreError> {
        FailPoint::AfterElection.reach();
        let fence = leadership.fence();
        self.shared.epoch.store(fence.epoch.0, Ordering::Relaxed);
        // A leader that noticed this node too late may have raised the level since the campaign began. If the
        // level is unknown, this node must not lead, because it would fail tasks whose definitions it cannot
        // read.
        if self.is_outdated().await? {
            leadership.resign(None).await;
            return Ok(LeadershipEnd::Resigned(None));
        }
        self.shared.phase.send_replace(Phase::Loading);
        let options = self.machine_options();
        let loading = async {
            let mut loaded = standby.load(&self.store, options, &self.shared.host).await?;
            let snapshot = self.store.snapshot().await?;
            let metrics = self.shared.metrics.clone();
            let ledger = Ledger::load(snapshot.as_ref(), metrics, &mut loaded.unreadable).await?;
            let level = self.shared.cluster_level.load(Ordering::Relaxed);
            let level = level::above(self.store.as_ref(), &self.shared, level).await?;
            Ok::<_, StoreError>((loaded, ledger, Marks::load(snapshot.as_ref()).await?, level))
        };
        let (mut loaded, ledger, marks, level) = tokio::select! {
            biased;
            () = leadership.lost() => return Ok(LeadershipEnd::Deposed),
            loaded = loading => loaded?,
        };
        let newest = loaded.ids.last();
        let written = marks.written.or(newest.map(TaskId::created_at));
        self.shared.timekeeper.compare(written, self.shared.host.now());
        loaded.ids = TaskIdSequence::after(newest.max(marks.newest));
        if leadership.seq_floor() > BatchSeq(0) {
            // The store may have lost batches. An id in them was told to a client, and must not become another task's.
            // The clock alone does not see to that: it may be behind that of the former leader.
            loaded.ids = loaded.ids.skipping(LOST_IDS);
        }
        let live = loaded.machine.live_tasks();
        info!(epoch = fence.epoch.0, live, "leading");
        self.shared.live_tasks.store(live, Ordering::Relaxed);
        loaded.unreadable.log();
        self.shared.unreadable.store(loaded.unreadable.count(), Ordering::Relaxed);
        self.shared.beat(self.shared.host.now().mono);
        ledger.show();
        let seq_floor = leadership.seq_floor();
        // Several owners check whether it is held; this function has the last reference.
        let leadership = Arc::new(leadership);
        self.shared.events.lead(fence.epoch.0);
        self.shared.output.lead();
        self.shared.signs.begin(leadership.clone(), loaded.machine.session_ids());
        self.shared.phase.send_replace(Phase::Leading);
        let cache = SpecCache::new(self.options.payload_cache_bytes, &self.shared.cached);
        let (store, shared) = (self.store.clone(), self.shared.clone());
        let mut coordinator = Coordinator::new(
            store,
            shared,
            Term { fence, seq_floor },
            loaded,
            cache,
            Books { ledger, marks, level },
            &self.workers,
        );
        let mut ready = None;
        let end = {
            let stop = CancellationToken::new();
            let stopping = async {
                self.stop.cancelled().await;
                ready = self.prepare_successor().await;
                stop.cancel();
                std::future::pending().await
            };
            tokio::select! {
                biased;
                end = coordinator.run(inbox, leadership.as_ref().as_ref(), &stop) => end,
                end = stopping => end,
            }
        };
        self.shared.signs.end();
        self.shared.metrics.clear_totals();
        self.shared.unreadable.store(0, Ordering::Relaxed);
        // What its last commit ran into was the leader's; how the store is, the store_monitor tells.
        self.shared.set_store_problem(None);
        // From here on requests wait until the leader is known.
        self.shared.phase.send_replace(Phase::Campaigning);
        self.shared.stands_by.store(false, Ordering::Relaxed);
        self.shared.wake_all();
        self.shared.landed.forget();
        self.shared.events.end();
        self.shared.output.end();
        // The channels of this leadership end; sessions reconnect under the next leader.
        let _ = self.workers.send(ToWorkers::DetachAll).await;
        let successor =
            if let LeadershipEnd::Resigned(successor) = &end { successor } else { &ready };
        if let Some(leadership) = Arc::into_inner(leadership) {
            leadership.resign(successor.as_deref()).await;
        }
        // The next leader need not wait until the memory of many tasks is freed.
        drop(coordinator);
        Ok(end)
    }
}
