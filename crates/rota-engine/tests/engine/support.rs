//! An engine on a directory of its own, and a store that can be told to misbehave.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rota_core::{Binds, HeldLease, Name, Outcome, Policy, Priority, Report, RetryPolicy};
use rota_engine::{
    Dispatched, Engine, EngineOptions, Host, LeaseRequest, NewTask, RunAt, SPACES, TaskRef,
};
use rota_store::{
    Batch, BatchLimits, ChangeStream, CommitError, EmbeddedOptions, EmbeddedStore, Fence, Head,
    Leadership, Member, Revision, Seat, Snapshot, Space, Store, StoreError, StoreStatus,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the store does with the next commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// What it should.
    Well,
    /// Nothing, until it is well again.
    Holding,
    /// Says that there is no room.
    Full,
    /// Commits, and says once that there was no room.
    LandsAsFull,
    /// Cannot be reached, and says so when asked how it is.
    Away,
    /// Commits, and says that it does not know.
    LandsAmbiguously,
    /// Does not commit, and says that it does not know.
    FailsAmbiguously,
    /// Says once that another leads.
    Deposes,
}

/// What the store does when one definition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpecFault {
    /// It never answers.
    Hangs,
    /// It answers something that is no definition.
    Damaged,
    /// It has none.
    Missing,
}

/// The embedded store with moods.
pub(crate) struct MoodyStore {
    inner: EmbeddedStore,
    /// The most mutations of a batch.
    pub(crate) mutations_max: AtomicUsize,
    mood: watch::Sender<Mood>,
    /// Leaderships have lapsed, and nobody has noticed yet.
    pub(crate) lapsed: Arc<AtomicBool>,
    /// Commits that were asked for, and those that were let through.
    pub(crate) entered: AtomicU32,
    pub(crate) commits: AtomicU32,
    /// Whether definitions of tasks cannot be read until they can again.
    holds_specs: watch::Sender<bool>,
    /// Definitions that were asked for.
    pub(crate) specs: AtomicUsize,
    /// By task.
    pub(crate) spec_faults: Mutex<BTreeMap<String, SpecFault>>,
    /// A call that would answer more bytes fails.
    pub(crate) answer_bytes_max: AtomicUsize,
    /// The largest answer so far.
    pub(crate) answer_bytes: AtomicUsize,
}

impl MoodyStore {
    pub(crate) fn open(directory: &Path) -> Arc<Self> {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let inner = EmbeddedStore::open(directory, SPACES, options).expect("an empty directory");
        Arc::new(Self {
            mutations_max: AtomicUsize::new(inner.limits().mutations_max),
            inner,
            mood: watch::Sender::new(Mood::Well),
            lapsed: Arc::default(),
            entered: AtomicU32::new(0),
            commits: AtomicU32::new(0),
            holds_specs: watch::Sender::new(false),
            specs: AtomicUsize::new(0),
            spec_faults: Mutex::default(),
            answer_bytes_max: AtomicUsize::new(usize::MAX),
            answer_bytes: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(crate) fn fault(&self, task: &TaskRef, fault: SpecFault) {
        self.spec_faults.lock().expect("nobody panics with it").insert(task.to_string(), fault);
    }

    pub(crate) fn hold_specs(&self, holds: bool) {
        self.holds_specs.send_replace(holds);
    }
}

/// A leadership that can lapse unnoticed, as that of a process that was stopped does.
struct MoodyLeadership {
    inner: Box<dyn Leadership>,
    lapsed: Arc<AtomicBool>,
}

#[async_trait]
impl Leadership for MoodyLeadership {
    fn fence(&self) -> Fence {
        self.inner.fence()
    }

    fn is_held(&self) -> bool {
        !self.lapsed.load(Ordering::Relaxed) && self.inner.is_held()
    }

    async fn lost(&self) {
        self.inner.lost().await;
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        self.inner.resign(successor).await;
    }
}

#[async_trait]
impl Store for MoodyStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.entered.fetch_add(1, Ordering::Relaxed);
        assert!(batch.mutations.len() <= self.limits().mutations_max, "a batch is too large");
        let mut moods = self.mood.subscribe();
        moods.wait_for(|mood| *mood != Mood::Holding).await.expect("the sender is ours");
        self.commits.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.borrow();
        match mood {
            Mood::Well | Mood::Holding => self.inner.commit(fence, batch).await,
            Mood::Full => Err(CommitError::Full("no room (test)".to_owned())),
            Mood::LandsAsFull => {
                self.set(Mood::Well);
                self.inner.commit(fence, batch).await?;
                Err(CommitError::Full("no room (test)".to_owned()))
            }
            Mood::Away => Err(CommitError::Unavailable("away (test)".to_owned())),
            Mood::LandsAmbiguously => {
                self.set(Mood::Well);
                self.inner.commit(fence, batch).await?;
                Err(CommitError::Ambiguous("lost the answer (test)".to_owned()))
            }
            Mood::FailsAmbiguously => {
                self.set(Mood::Well);
                Err(CommitError::Ambiguous("lost the request (test)".to_owned()))
            }
            Mood::Deposes => {
                self.set(Mood::Well);
                Err(CommitError::Fenced { ours: fence.epoch })
            }
        }
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let specs = keys.iter().filter(|(space, _)| space.name == "spec").count();
        self.specs.fetch_add(specs, Ordering::Relaxed);
        if specs > 0 {
            let mut holds = self.holds_specs.subscribe();
            holds.wait_for(|holds| !holds).await.expect("the sender is ours");
        }
        let fault = |(space, key): &(Space, Bytes)| {
            let faults = self.spec_faults.lock().expect("nobody panics with it");
            let fault = faults.get(std::str::from_utf8(key).expect("text")).copied();
            fault.filter(|_| space.name == "spec")
        };
        if keys.iter().any(|key| fault(key) == Some(SpecFault::Hangs)) {
            std::future::pending::<()>().await;
        }
        let mut values = self.inner.get(keys).await?;
        for (key, value) in keys.iter().zip(&mut values) {
            match fault(key) {
                Some(SpecFault::Damaged) => *value = Some(Bytes::from_static(b"\xff\xff")),
                Some(SpecFault::Missing) => *value = None,
                Some(SpecFault::Hangs) | None => {}
            }
        }
        let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
        if bytes > self.answer_bytes_max.load(Ordering::Relaxed) {
            return Err(StoreError::Timeout(Duration::from_secs(3)));
        }
        self.answer_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(values)
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.inner.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.inner.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.watch(after).await
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        let inner = self.inner.campaign(me).await?;
        self.lapsed.store(false, Ordering::Relaxed);
        Ok(Box::new(MoodyLeadership { inner, lapsed: self.lapsed.clone() }))
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.inner.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.inner.members().await
    }

    async fn status(&self) -> StoreStatus {
        let away = *self.mood.borrow() == Mood::Away;
        let problem = away.then(|| "away (test)".to_owned());
        StoreStatus { problem, ..self.inner.status().await }
    }

    fn limits(&self) -> BatchLimits {
        let mutations_max = self.mutations_max.load(Ordering::Relaxed);
        BatchLimits { mutations_max, ..self.inner.limits() }
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A running engine.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<MoodyStore>,
    stop: CancellationToken,
}

impl Node {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, EngineOptions::default())
    }

    pub(crate) fn start_with(directory: &Path, options: EngineOptions) -> Self {
        Self::start_on(MoodyStore::open(directory), options)
    }

    /// A node that shares its store with others.
    pub(crate) fn start_on(store: Arc<MoodyStore>, options: EngineOptions) -> Self {
        let stop = CancellationToken::new();
        let engine = Engine::start(Host::system(), store.clone(), options, stop.clone());
        Self { engine, store, stop }
    }

    pub(crate) async fn stop(self) {
        let store = self.store.clone();
        self.leave().await;
        store.close().await;
    }

    /// Stops, and leaves the store to the others.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.engine.stopped().await;
    }

    /// Submits one task and gives the name by which it can be found.
    pub(crate) async fn submit(&self, task: NewTask) -> TaskRef {
        let results = self.engine.submit(vec![task]).await.expect("the engine answers");
        TaskRef::Id(results[0].as_ref().expect("accepted").task)
    }

    /// Leases up to so many tasks as the worker `w`.
    pub(crate) async fn lease(&self, max: u32) -> Vec<Dispatched> {
        let request = LeaseRequest {
            session: None,
            worker: name("w"),
            queues: Vec::new(),
            kinds: Vec::new(),
            max,
            wait: Duration::from_secs(10),
            ttl: Duration::from_secs(60),
            held: None,
        };
        self.engine.lease(request).await.expect("the engine answers").tasks
    }

    pub(crate) async fn report(&self, task: &Dispatched, outcome: Outcome) -> bool {
        let lease = HeldLease { task: task.spec.id, token: task.token };
        let report =
            Report::Ended { started_at: None, output_tail: Bytes::from_static(b"out"), outcome };
        let results = self.engine.report(vec![(lease, report)]).await.expect("the engine answers");
        results[0].is_ok()
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A task of that kind, with one attempt.
pub(crate) fn task(kind: &str) -> NewTask {
    NewTask {
        binds: Binds::default(),
        queue: name("q"),
        kind: name(kind),
        payload: Bytes::from_static(b"{}"),
        labels: Vec::new(),
        priority: Priority::default(),
        run_at: RunAt::Now,
        expires_at: None,
        trace: None,
        policy: Policy {
            retry: RetryPolicy { max_attempts: 1, ..RetryPolicy::default() },
            ..Policy::default()
        },
    }
}

pub(crate) fn completed(result: &'static str) -> Outcome {
    Outcome::Completed { result: Bytes::from_static(result.as_bytes()) }
}
