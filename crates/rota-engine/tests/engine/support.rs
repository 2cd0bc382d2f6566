//! An engine on a directory of its own, and a store that can be told to misbehave.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rota_core::{
    AttemptOutcome, ClientKeys, Definition, LeaseId, MonoTime, Name, Now, Priority, Report,
    WallTime,
};
use rota_engine::{
    Clock, Dispatched, Engine, EngineOptions, Host, LeaseRequest, NewTask, Parallel, Random, RunAt,
    SPACES, SessionEvent, SessionRequest, SessionStream, TaskRef,
};
use rota_store::{
    Batch, BatchLimits, BatchSeq, ChangeStream, CommitError, EmbeddedOptions, EmbeddedStore, Epoch,
    Fence, Head, Leadership, LostBatches, Member, Revision, Seat, Snapshot, Space, Store,
    StoreError, StoreStatus, watch,
};
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
    /// Commits, and says when asked that it should get no new work.
    NearlyFull,
    /// Commits, and says once that there was no room.
    LandsAsFull,
    /// Cannot be reached, and says so when asked how it is.
    Away,
    /// Commits, and says that it does not know.
    LandsAmbiguously,
    /// Does not commit, and says that it does not know.
    FailsAmbiguously,
    /// The same, until it is well again.
    FailsAmbiguouslyAlways,
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
    /// A newer version wrote it, with a value that this one does not know.
    Newer,
}

/// The embedded store with moods.
pub(crate) struct MoodyStore {
    inner: EmbeddedStore,
    /// The most mutations of a batch.
    pub(crate) mutations_max: AtomicUsize,
    /// The most bytes of a batch.
    pub(crate) bytes_max: AtomicUsize,
    mood: watch::Sender<Mood>,
    /// Leaderships have lapsed, and nobody has noticed yet.
    pub(crate) lapsed: Arc<AtomicBool>,
    /// Commits that were asked for, and those that were let through.
    pub(crate) entered: AtomicU32,
    pub(crate) commits: AtomicU32,
    /// Whether definitions of tasks cannot be read until they can again.
    holds_specs: watch::Sender<bool>,
    /// Whether names of tasks cannot be read until they can again, which stops the engine's loop.
    holds_names: watch::Sender<bool>,
    /// Whether states of ended tasks cannot be read until they can again, and reads that wait for that.
    holds_ended: watch::Sender<bool>,
    pub(crate) ended_waiting: AtomicUsize,
    /// Batches that it has lost.
    pub(crate) lost: Mutex<Option<LostBatches>>,
    /// Whether no snapshot is given until it is again, which stops a leader that loads.
    holds_snapshots: watch::Sender<bool>,
    /// Snapshots that were asked for.
    pub(crate) snapshots: AtomicUsize,
    /// Definitions that were asked for.
    pub(crate) specs: AtomicUsize,
    /// By task.
    pub(crate) spec_faults: Mutex<BTreeMap<String, SpecFault>>,
    /// The live state of a task that another leader has created.
    pub(crate) foreign: Mutex<Option<(Bytes, Bytes)>>,
    /// Tasks of which the store cannot read the record of the end, for example because a block of its file is damaged.
    pub(crate) unreadable_ends: Mutex<Vec<String>>,
    /// A call that would answer more bytes fails.
    pub(crate) answer_bytes_max: AtomicUsize,
    /// The largest answer so far.
    pub(crate) answer_bytes: AtomicUsize,
    /// Who announced that it is ready to take over, and from which leadership.
    pub(crate) announced: Mutex<Vec<(String, Epoch)>>,
    holds_announcements: AtomicBool,
    /// The least number of the first batch of the next leadership.
    pub(crate) seq_floor: AtomicU64,
    /// Whether campaigns do not even enter their node among the members until they may.
    holds_campaigns: watch::Sender<bool>,
}

impl MoodyStore {
    pub(crate) fn open(directory: &Path) -> Arc<Self> {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let inner = EmbeddedStore::open(directory, SPACES, options).expect("an empty directory");
        Arc::new(Self {
            mutations_max: AtomicUsize::new(inner.limits().mutations_max),
            bytes_max: AtomicUsize::new(inner.limits().bytes_max),
            inner,
            mood: watch::Sender::new(Mood::Well),
            lapsed: Arc::default(),
            entered: AtomicU32::new(0),
            commits: AtomicU32::new(0),
            holds_specs: watch::Sender::new(false),
            holds_names: watch::Sender::new(false),
            holds_ended: watch::Sender::new(false),
            ended_waiting: AtomicUsize::new(0),
            holds_snapshots: watch::Sender::new(false),
            snapshots: AtomicUsize::new(0),
            specs: AtomicUsize::new(0),
            spec_faults: Mutex::default(),
            foreign: Mutex::default(),
            unreadable_ends: Mutex::default(),
            answer_bytes_max: AtomicUsize::new(usize::MAX),
            answer_bytes: AtomicUsize::new(0),
            announced: Mutex::default(),
            holds_announcements: AtomicBool::new(false),
            seq_floor: AtomicU64::new(0),
            lost: Mutex::default(),
            holds_campaigns: watch::Sender::new(false),
        })
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The record of a live task.
    pub(crate) async fn live_state(&self, task: &TaskRef) -> Bytes {
        let space =
            SPACES.iter().find(|space| space.name == "live").expect("a space of the engine");
        let key = Bytes::from(task.to_string());
        let found = self.inner.get(&[(*space, key)]).await.expect("an answer");
        found.into_iter().next().flatten().expect("the task is live")
    }

    pub(crate) fn fault(&self, task: &TaskRef, fault: SpecFault) {
        self.spec_faults.lock().expect("nobody panics with it").insert(task.to_string(), fault);
    }

    pub(crate) fn hold_announcements(&self) {
        self.holds_announcements.store(true, Ordering::SeqCst);
    }

    pub(crate) fn release_announcements(&self) {
        self.holds_announcements.store(false, Ordering::SeqCst);
        for (name, leadership) in self.announced.lock().expect("nobody panics with it").drain(..) {
            self.inner.announce_ready(&name, leadership);
        }
    }

    pub(crate) fn hold_campaigns(&self, holds: bool) {
        self.holds_campaigns.send_replace(holds);
    }

    pub(crate) fn hold_specs(&self, holds: bool) {
        self.holds_specs.send_replace(holds);
    }

    pub(crate) fn hold_names(&self, holds: bool) {
        self.holds_names.send_replace(holds);
    }

    pub(crate) fn hold_ended(&self, holds: bool) {
        self.holds_ended.send_replace(holds);
    }

    pub(crate) fn hold_snapshots(&self, holds: bool) {
        self.holds_snapshots.send_replace(holds);
    }
}

/// A leadership that can lapse unnoticed, as that of a process that was stopped does.
struct MoodyLeadership {
    inner: Box<dyn Leadership>,
    lapsed: Arc<AtomicBool>,
    seq_floor: BatchSeq,
}

#[async_trait]
impl Leadership for MoodyLeadership {
    fn fence(&self) -> Fence {
        self.inner.fence()
    }

    fn seq_floor(&self) -> BatchSeq {
        self.seq_floor
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
        if !self.limits().take(batch.mutations.len(), batch.bytes()) {
            return Err(CommitError::Invalid("too many bytes (test)".to_owned()));
        }
        let mut moods = self.mood.subscribe();
        moods.wait_for(|mood| *mood != Mood::Holding).await.expect("the sender is ours");
        self.commits.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.borrow();
        match mood {
            Mood::Well | Mood::Holding | Mood::NearlyFull => self.inner.commit(fence, batch).await,
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
            Mood::FailsAmbiguouslyAlways => {
                Err(CommitError::Ambiguous("an unknown error (test)".to_owned()))
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
        if keys.iter().any(|(space, _)| space.name == "name") {
            let mut holds = self.holds_names.subscribe();
            holds.wait_for(|holds| !holds).await.expect("the sender is ours");
        }
        if *self.holds_ended.borrow() && keys.iter().any(|(space, _)| space.name == "done") {
            self.ended_waiting.fetch_add(1, Ordering::Relaxed);
            let mut holds = self.holds_ended.subscribe();
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
        let unreadable = self.unreadable_ends.lock().expect("nobody panics with it").clone();
        if keys.iter().any(|(space, key)| {
            space.name == "done" && unreadable.iter().any(|task| task.as_bytes() == key)
        }) {
            return Err(StoreError::Corrupt("a block is damaged".to_owned()));
        }
        let mut values = self.inner.get(keys).await?;
        for (key, value) in keys.iter().zip(&mut values) {
            match fault(key) {
                Some(SpecFault::Damaged) => *value = Some(Bytes::from_static(b"\xff\xff")),
                Some(SpecFault::Missing) => *value = None,
                Some(SpecFault::Newer) => {
                    // A kind with a character that no name of this version has.
                    let kind = [&[3 << 3 | 2, 3][..], "€".as_bytes()].concat();
                    *value = value.take().map(|record| [&record, &kind[..]].concat().into());
                }
                Some(SpecFault::Hangs) | None => {}
            }
        }
        if let Some((task, state)) = self.foreign.lock().expect("nobody panics with it").as_ref() {
            for ((space, key), value) in keys.iter().zip(&mut values) {
                if space.name == "live" && key == task {
                    *value = Some(state.clone());
                }
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
        // The embedded store's thread that writes answers this too, behind the commit that hangs.
        if self.entered.load(Ordering::Relaxed) > self.commits.load(Ordering::Relaxed) {
            let mut mood = self.mood.subscribe();
            mood.wait_for(|mood| *mood != Mood::Holding).await.expect("the sender is ours");
        }
        self.inner.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        let mut holds = self.holds_snapshots.subscribe();
        holds.wait_for(|holds| !holds).await.expect("the sender is ours");
        self.inner.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.watch(after).await
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        let mut holds = self.holds_campaigns.subscribe();
        holds.wait_for(|holds| !holds).await.expect("the sender is ours");
        let inner = self.inner.campaign(me).await?;
        self.lapsed.store(false, Ordering::Relaxed);
        let seq_floor = BatchSeq(self.seq_floor.load(Ordering::Relaxed));
        Ok(Box::new(MoodyLeadership { inner, lapsed: self.lapsed.clone(), seq_floor }))
    }

    fn lost(&self) -> Option<LostBatches> {
        self.lost.lock().expect("nobody panics with it").clone()
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.inner.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.inner.members().await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.announced.lock().expect("nobody panics with it").push((name.to_owned(), leadership));
        if !self.holds_announcements.load(Ordering::SeqCst) {
            self.inner.announce_ready(name, leadership);
        }
    }

    async fn status(&self) -> StoreStatus {
        let mood = *self.mood.borrow();
        let problem = (mood == Mood::Away).then(|| "away (test)".to_owned());
        let pressure = (mood == Mood::NearlyFull).then(|| "nearly full (test)".to_owned());
        StoreStatus { problem, pressure, ..self.inner.status().await }
    }

    fn limits(&self) -> BatchLimits {
        let mutations_max = self.mutations_max.load(Ordering::Relaxed);
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        BatchLimits { mutations_max, bytes_max, ..self.inner.limits() }
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// The system's clocks, with a wall clock that can be set, and a process that can be paused.
#[derive(Debug)]
pub(crate) struct SetClock {
    origin: tokio::time::Instant,
    began: i64,
    set_by: AtomicI64,
    /// Milliseconds for which the process was paused.
    paused_for: AtomicU64,
}

impl SetClock {
    pub(crate) fn new() -> Arc<Self> {
        let began = 1_800_000_000_000;
        let (set_by, paused_for) = (AtomicI64::new(0), AtomicU64::new(0));
        Arc::new(Self { origin: tokio::time::Instant::now(), began, set_by, paused_for })
    }

    /// All clocks go on by so much at once, as a process sees it that was paused.
    pub(crate) fn pause_for(&self, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).expect("milliseconds fit");
        self.paused_for.fetch_add(pause, Ordering::Relaxed);
    }

    pub(crate) fn set_by(&self, change: Duration, forward: bool) {
        let change = i64::try_from(change.as_millis()).expect("milliseconds fit");
        self.set_by.fetch_add(if forward { change } else { -change }, Ordering::Relaxed);
    }

    pub(crate) fn host(self: &Arc<Self>) -> Host {
        Host::new(self.clone(), Arc::new(Numbers::default()), Parallel::Threads)
    }
}

impl Clock for SetClock {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.origin.elapsed().as_millis()).expect("milliseconds fit");
        let mono = mono + self.paused_for.load(Ordering::Relaxed);
        let wall = self.began + self.set_by.load(Ordering::Relaxed);
        let wall = wall + i64::try_from(mono).expect("milliseconds fit");
        Now { wall: WallTime(wall), mono: MonoTime(mono) }
    }
}

#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl Random for Numbers {
    fn next(&self) -> u64 {
        let next = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        next.wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
        Self::start_at(Host::system(), store, options)
    }

    pub(crate) fn start_at(host: Host, store: Arc<MoodyStore>, options: EngineOptions) -> Self {
        let stop = CancellationToken::new();
        let engine = Engine::start(host, store.clone(), options, stop.clone());
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

    pub(crate) async fn report(&self, task: &Dispatched, outcome: AttemptOutcome) -> bool {
        self.report_with(task, outcome, "out").await
    }

    /// Reports an end without output.
    pub(crate) async fn report_silently(&self, task: &Dispatched, outcome: AttemptOutcome) -> bool {
        self.report_with(task, outcome, "").await
    }

    async fn report_with(
        &self,
        task: &Dispatched,
        outcome: AttemptOutcome,
        output: &'static str,
    ) -> bool {
        let lease = LeaseId { task: task.spec.id, token: task.token };
        let output_tail = Bytes::from_static(output.as_bytes());
        let report = Report::Ended { started_at: None, output_tail, outcome };
        let results = self.engine.report(vec![(lease, report)]).await.expect("the engine answers");
        results[0].is_ok()
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A task of that kind, with one attempt.
pub(crate) fn task(kind: &str) -> NewTask {
    let mut definition = Definition::new(name("q"), name(kind));
    definition.payload = Bytes::from_static(b"{}");
    definition.policy.retry.max_attempts = 1;
    let (client_keys, priority, run_at) = (ClientKeys::default(), Priority::default(), RunAt::Now);
    NewTask { client_keys, definition, priority, run_at }
}

/// The same task with another definition.
pub(crate) fn defined(mut task: NewTask, change: impl FnOnce(&mut Definition)) -> NewTask {
    change(&mut task.definition);
    task
}

pub(crate) fn completed(result: &'static str) -> AttemptOutcome {
    AttemptOutcome::Completed { result: Bytes::from_static(result.as_bytes()) }
}

/// A worker with a stream that serves everything.
pub(crate) fn worker(held: &[Dispatched]) -> SessionRequest {
    let lease = |task: &Dispatched| LeaseId { task: task.spec.id, token: task.token };
    SessionRequest {
        session: None,
        worker: name("w"),
        queues: Vec::new(),
        kinds: Vec::new(),
        slots: 10,
        held: held.iter().map(lease).collect(),
        streams_output: false,
    }
}

/// The next tasks that a stream is given.
pub(crate) async fn given(stream: &mut SessionStream) -> Vec<Dispatched> {
    match stream.events.recv().await {
        Some(SessionEvent::Dispatches(tasks)) => tasks,
        other => panic!("{other:?}"),
    }
}

/// Polls until it holds; for conditions that nothing signals.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let mut period = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to hold");
}

/// Time passes by the clocks that the engine has; what it does meanwhile is looked at afterwards.
pub(crate) async fn time_passes(span: Duration) {
    let end = tokio::time::Instant::now() + span;
    let mut period = tokio::time::interval(Duration::from_millis(10));
    while tokio::time::Instant::now() < end {
        period.tick().await;
    }
}
